import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { constants, gunzipSync, gzipSync } from 'node:zlib';
import { ArgumentError } from '@tailrace/bpf';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import type { CaptureSource } from './byte-source.ts';
import { CaptureError } from './capture-error.ts';
import { block, chunked, description, enhanced, pcapHeader, pcapRecord, readAll, section, simple } from './capture-fixture.ts';
import { readCapture, readPackets } from './capture-reader.ts';

const frame = (length: number): number[] => Array.from({ length }, (_, i) => (i * 7) & 0xff);
const pcap = Uint8Array.from([
  ...pcapHeader('little', 0xa1b23c4d),
  ...[60, 0, 1500, 3].flatMap((length, i) => pcapRecord('little', i, i, frame(length))),
]);
const pcapng = Uint8Array.from([
  ...[...section('big'), ...description('big'), ...enhanced('big', { data: frame(70), timestamp: 9n })],
  ...[...block('big', 77, frame(200)), ...simple('big', frame(5)), ...section('little'), ...description('little')],
  ...enhanced('little', { data: frame(1), timestamp: 1n << 40n }),
]);
const folder = mkdtempSync(join(tmpdir(), 'capture-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** `count` packets of bytes that do not compress, as a pcap file. */
function noise(count: number): Uint8Array {
  let state = 1;
  const random = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  };
  const records = Array.from({ length: count }, (_, i) =>
    Uint8Array.from(pcapRecord('little', i, 0, Array.from({ length: 1000 }, random))),
  );
  return Buffer.concat([Uint8Array.from(pcapHeader('little', 0xa1b2c3d4)), ...records]);
}

describe('sources', () => {
  for (const [name, bytes] of [
    ['pcap', pcap],
    ['pcapng', pcapng],
  ] as const) {
    it(`${name}: all kinds of source give the same`, async () => {
      const whole = await readAll(bytes);
      expect(whole.error).toBeUndefined();
      expect(whole.packets.length).toBeGreaterThan(2);
      const path = join(folder, name);
      writeFileSync(path, bytes);
      const zipped = gzipSync(bytes);
      writeFileSync(`${path}.gz`, zipped);
      const sources: CaptureSource[] = [
        ...[path, pathToFileURL(path), Buffer.from(bytes), Readable.from([bytes]), new Blob([bytes]).stream()],
        ...[`${path}.gz`, zipped, Readable.from([zipped]), Buffer.concat([gzipSync(bytes.subarray(0, 50)), gzipSync(bytes.subarray(50))])],
      ];
      for (const source of sources) expect(await readAll(source)).toEqual(whole);
    });

    it(`${name}: chunks of any length give the same, compressed or not`, async () => {
      const whole = await readAll(bytes);
      const zipped = gzipSync(bytes);
      await fc.assert(
        fc.asyncProperty(fc.array(fc.nat(200), { maxLength: 8 }), fc.boolean(), async (some, compressed) => {
          const lengths = [...some, 1];
          expect(await readAll(chunked(compressed ? zipped : bytes, lengths))).toEqual(whole);
        }),
        { numRuns: 60 },
      );
      expect(await readAll(chunked(bytes, [1]))).toEqual(whole);
    });
  }

  it('says what is wrong with a path', async () => {
    const missing = await readAll(join(folder, 'missing'));
    expect(missing.error).toBeInstanceOf(CaptureError);
    expect((missing.error as Error).message).toMatch(/^cannot open capture .*missing: ENOENT/);
    const directory = await readAll(folder);
    expect(directory.error).toBeInstanceOf(CaptureError);
    expect((directory.error as Error).message).toMatch(/^cannot read capture .* at byte 0: EISDIR/);
  });

  it('hands on the failure of a stream behind the packets before it', async () => {
    for (const bytes of [pcap, gzipSync(pcap)]) {
      const cause = new RangeError('the tape tore');
      const source = async function* (): AsyncGenerator<Uint8Array> {
        yield bytes;
        throw cause;
      };
      const { packets, error } = await readAll(source());
      expect(packets).toHaveLength(4);
      expect(error).toBeInstanceOf(CaptureError);
      expect(error).toMatchObject({ message: `cannot read capture at byte ${bytes.length}: the tape tore`, cause, offset: bytes.length });
    }
  });

  it('refuses what is no source of bytes', async () => {
    for (const [source, message] of [
      [7, 'cannot read a capture from number, expected a path, bytes or an async iterable of bytes'],
      [null, 'cannot read a capture from object, expected a path, bytes or an async iterable of bytes'],
      [Readable.from(['text']), "a capture's source gave a chunk of type string at byte 0, expected Uint8Array"],
    ] as const) {
      const { error } = await readAll(source as unknown as CaptureSource);
      expect(error).toBeInstanceOf(ArgumentError);
      expect((error as Error).message).toBe(message);
    }
  });

  it('closes the source when the loop ends early', async () => {
    const path = join(folder, 'early');
    writeFileSync(path, pcap);
    for await (const packet of readPackets(path)) {
      expect(packet.bytes).toHaveLength(60);
      break;
    }
    const open = readdirSync('/proc/self/fd').map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return ''; // the folder's own
      }
    });
    expect(open).not.toContain(path);
    for (const bytes of [pcap, gzipSync(pcap)]) {
      const stream = Readable.from(chunked(bytes, [bytes.length, 1]));
      for await (const _ of readCapture(stream)) break;
      expect(stream.destroyed).toBe(true);
    }
  });
});

describe('batches', () => {
  it('hold at most what was asked for and are never empty', async () => {
    const lengths: number[] = [];
    for await (const batch of readCapture(pcap, { batchPackets: 3 })) lengths.push(batch.length);
    expect(lengths).toEqual([3, 1]);
    lengths.length = 0;
    for await (const batch of readCapture(pcap, { batchPackets: 4 })) lengths.push(batch.length);
    expect(lengths).toEqual([4]);
    const single: number[] = [];
    for await (const { bytes } of readPackets(pcapng)) single.push(bytes.length);
    expect(single).toEqual([70, 5, 1]);
  });

  it('come as soon as their bytes do', async () => {
    let given = 0;
    const source = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of chunked(pcap, [24 + 76, 16, 1516, 19])) {
        given++;
        yield chunk;
      }
    };
    const seen: number[] = [];
    for await (const _ of readPackets(source())) seen.push(given);
    expect(seen).toEqual([1, 2, 3, 4]);
  });

  it('have limits of their own', async () => {
    for (const options of [{ batchPackets: 0 }, { batchPackets: 1.5 }, { maxRecordBytes: 8 }, { maxRecordBytes: Number.NaN }]) {
      expect((await readAll(pcap, options)).error).toBeInstanceOf(ArgumentError);
    }
    const { packets, error } = await readAll(pcap, { maxRecordBytes: 100 });
    expect(packets).toHaveLength(2);
    expect((error as Error).message).toBe('pcap record 3 at byte 116: a packet of 1500 bytes, expected at most 100');
    expect(((await readAll(pcapng, { maxRecordBytes: 128 })).error as Error).message).toMatch(
      /^pcapng block 4 at byte 152: a length of 212/,
    );
  });
});

describe('damage', () => {
  it('of any kind is a capture error or passes as another capture', async () => {
    const wounds = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(pcap, pcapng, gzipSync(pcap), gzipSync(pcapng)), wounds, fc.nat(), async (bytes, places, cut) => {
        const hurt = Uint8Array.from(bytes);
        for (const [at, value] of places) hurt[at % hurt.length] = value;
        const { packets, error } = await readAll(hurt.subarray(0, cut % 3 === 0 ? cut % hurt.length : hurt.length));
        if (error !== undefined) expect(error).toBeInstanceOf(CaptureError);
        for (const packet of packets) expect(packet.originalLength).toBeGreaterThanOrEqual(packet.bytes.length);
      }),
      { numRuns: 800 },
    );
  });

  it('is a capture error in noise behind a good beginning', async () => {
    const starts = [pcap.subarray(0, 24), pcapng.subarray(0, 48), pcapng.subarray(0, 28), new Uint8Array(0), Uint8Array.of(0x1f, 0x8b)];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...starts), fc.uint8Array({ maxLength: 300 }), async (start, rest) => {
        const { error } = await readAll(Buffer.concat([start, rest]));
        if (error !== undefined) expect(error).toBeInstanceOf(CaptureError);
      }),
      { numRuns: 500 },
    );
  });

  it('in gzip lets everything out that was before it, however slow the reader', async () => {
    const bytes = noise(1500);
    const zipped = gzipSync(bytes);
    for (const cut of [5, 11, 400, 70_000, 600_000, zipped.length - 9, zipped.length - 1]) {
      const part = zipped.subarray(0, cut);
      const inflated = cut < 18 ? new Uint8Array(0) : gunzipSync(part, { finishFlush: constants.Z_SYNC_FLUSH });
      const expected = Math.max(0, Math.floor((inflated.length - 24) / 1016));
      let count = 0;
      const read = async (): Promise<void> => {
        for await (const batch of readCapture(chunked(part, [50_000]), { batchPackets: 100 })) {
          count += batch.length;
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      };
      await expect(read()).rejects.toThrow(CaptureError);
      expect(count).toBe(expected);
    }
    const hurt = Uint8Array.from(zipped);
    hurt.fill(0xff, 900_000, 901_000);
    const { packets, error } = await readAll(hurt);
    expect(packets.length).toBeGreaterThan(800);
    expect((error as Error).message).toMatch(/^(cannot inflate capture at byte \d+: .*\(Z_DATA_ERROR\)|pcap record \d+ at byte)/);
  });

  it('cannot make the reader wait for more than the limit, or set it aside', async () => {
    let given = 0;
    const endless = async function* (start: readonly number[]): AsyncGenerator<Uint8Array> {
      yield Uint8Array.from(start);
      for (; ; given += 1 << 16) yield new Uint8Array(1 << 16);
    };
    const huge = [0, 0, 0, 9, 0x00, 0xff, 0xff, 0xfc]; // 16 MiB less 4 bytes, and no such length behind it
    const long = await readAll(endless([...section('big'), ...huge]));
    expect((long.error as Error).message).toMatch(/^pcapng block 2 at byte 28: a trailing length of 0/);
    expect(given).toBeLessThanOrEqual(16 << 20);
    given = 0;
    const before = process.memoryUsage().arrayBuffers;
    const cut = await readAll(Uint8Array.from([...section('big'), ...huge]));
    expect((cut.error as Error).message).toMatch(/^pcapng block 2 at byte 28: cut after 8 bytes/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });
});

it('reads a long capture in constant memory', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const total = 100 << 20;
  const record = Uint8Array.from(pcapRecord('little', 1, 2, frame(1000)));
  const source = async function* (): AsyncGenerator<Uint8Array> {
    yield Uint8Array.from(pcapHeader('little', 0xa1b2c3d4));
    const records = Buffer.concat(Array.from({ length: 64 }, () => record));
    // chunks that end amid records
    for (let at = 0; at < total; at += records.length) {
      yield Uint8Array.from(records.subarray(0, 30_000));
      yield Uint8Array.from(records.subarray(30_000));
    }
  };
  const held = (): number => {
    // sweeping buffers and counting them trail behind the first
    collect();
    collect();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = held();
  let most = 0;
  let bytes = 0;
  let mark = 0;
  let samples = 0;
  for await (const batch of readCapture(source())) {
    for (const packet of batch) bytes += packet.bytes.length;
    if (bytes - mark < 16 << 20) continue;
    mark = bytes;
    samples++;
    most = Math.max(most, held() - before);
  }
  expect(bytes).toBeGreaterThan(total - (4 << 20));
  expect(samples).toBeGreaterThan(5);
  expect(most).toBeLessThan(4 << 20);
});
