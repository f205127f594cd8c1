import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { ArgumentError } from '@tailrace/bpf';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { CaptureError } from './capture-error.ts';
import { readAll } from './capture-fixture.ts';
import { CaptureWriter, type CaptureWriterOptions } from './capture-writer.ts';

const folder = mkdtempSync(join(tmpdir(), 'capture-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Takes everything after a turn of the event loop. */
function collector(): { readonly stream: Writable; readonly bytes: () => Uint8Array } {
  const chunks: Uint8Array[] = [];
  const stream = new Writable({
    write(chunk: Uint8Array, _encoding, done) {
      chunks.push(chunk);
      setImmediate(done);
    },
  });
  return { stream, bytes: () => Buffer.concat(chunks) };
}

function openPaths(): readonly string[] {
  return readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // the folder's own
    }
  });
}

describe('CaptureWriter', () => {
  it('writes what tcpdump writes', async () => {
    const path = join(folder, 'exact');
    writeFileSync(path, 'what was there before, and longer than what comes'.repeat(9));
    const writer = await CaptureWriter.open(path);
    await writer.write(Uint8Array.of(1, 2, 3), 1_700_000_000_123_456_789n);
    await writer.write(Uint8Array.of(0xff), 0x1_0000_0000n * 1_000_000_000n - 1n, 1500);
    await writer.close();
    expect(writer.packets).toBe(2);
    expect(
      readFileSync(path)
        .toString('hex')
        .match(/.{1,32}/g),
    ).toMatchInlineSnapshot(`
      [
        "4d3cb2a1020004000000000000000000",
        "000004000100000000f1536515cd5b07",
        "0300000003000000010203ffffffffff",
        "c99a3b01000000dc050000ff",
      ]
    `);
  });

  it('writes microseconds and cuts at the snap length if told to', async () => {
    const { stream, bytes } = collector();
    const writer = await CaptureWriter.open(stream, { precision: 'microseconds', snapLength: 2 });
    await writer.write(Uint8Array.of(1, 2, 3), 1_999_999_999n);
    await writer.close();
    expect(stream.writableFinished).toBe(true);
    expect(
      Buffer.from(bytes())
        .toString('hex')
        .match(/.{1,32}/g),
    ).toMatchInlineSnapshot(`
      [
        "d4c3b2a1020004000000000000000000",
        "0200000001000000010000003f420f00",
        "02000000030000000102",
      ]
    `);
  });

  it('gives back any packets, to a file or a stream', async () => {
    const packet = fc.record({
      bytes: fc.uint8Array({ maxLength: 60 }),
      timestampNs: fc.oneof(fc.bigInt(0n, (1n << 32n) * 1_000_000_000n - 1n), fc.bigInt(10n ** 9n, 3n * 10n ** 9n)),
      beyond: fc.nat(1000),
    });
    const precisions = fc.constantFrom<CaptureWriterOptions['precision']>('nanoseconds', 'microseconds', undefined);
    await fc.assert(
      fc.asyncProperty(fc.array(packet, { maxLength: 12 }), precisions, fc.boolean(), async (packets, precision, toFile) => {
        const path = join(folder, 'trip');
        const { stream, bytes } = collector();
        const writer = await CaptureWriter.open(toFile ? pathToFileURL(path) : stream, precision === undefined ? {} : { precision });
        const reused = new Uint8Array(60);
        for (const p of packets) {
          reused.set(p.bytes);
          await writer.write(reused.subarray(0, p.bytes.length), p.timestampNs, p.bytes.length + p.beyond);
          reused.fill(0xee);
        }
        await writer.close();
        const unit = precision === 'microseconds' ? 1000n : 1n;
        expect(await readAll(toFile ? path : bytes())).toEqual({
          error: undefined,
          packets: packets.map((p) => ({
            bytes: p.bytes,
            timestampNs: p.timestampNs - (p.timestampNs % unit),
            originalLength: p.bytes.length + p.beyond,
            linkType: 1,
            interfaceIndex: 0,
          })),
        });
      }),
      { numRuns: 100 },
    );
  });

  it('writes packets beyond its buffer and files of many buffers', async () => {
    const path = join(folder, 'long');
    const writer = await CaptureWriter.open(path);
    const lengths = [262_144, 1, 300_000, 262_128, ...new Array<number>(2000).fill(1400)];
    for (const [i, length] of lengths.entries()) await writer.write(new Uint8Array(length).fill(i), BigInt(i));
    await writer.close();
    const { packets, error } = await readAll(path);
    expect(error).toBeUndefined();
    expect(packets.map((p) => p.originalLength)).toEqual(lengths);
    expect(
      packets.every((p, i) => p.bytes.length === Math.min(lengths[i] ?? 0, 262_144) && p.bytes.every((byte) => byte === (i & 0xff))),
    ).toBe(true);
  });

  it('asks to wait when the stream is behind, and not before', async () => {
    const done: (() => void)[] = [];
    const stream = new Writable({ write: (_chunk, _encoding, taken) => void done.push(taken) });
    const writer = await CaptureWriter.open(stream);
    const packet = new Uint8Array(1 << 16);
    let wait: Promise<void> | undefined;
    let count = 0;
    while (wait === undefined && count < 1000) {
      wait = writer.write(packet, 0n);
      count++;
    }
    expect(count * packet.length).toBeGreaterThan(1 << 20);
    expect(count * packet.length).toBeLessThan(2 << 20);
    let waited = false;
    const over = wait?.then(() => {
      waited = true;
    });
    await new Promise(setImmediate);
    expect([waited, done.length]).toEqual([false, 1]); // one write at a time
    const pump = setInterval(() => done.shift()?.(), 0);
    await over;
    expect(writer.write(packet, 0n)).toBeUndefined();
    await writer.close();
    clearInterval(pump);
    expect(stream.writableFinished).toBe(true);
  });

  it('flushes when asked', async () => {
    const { stream, bytes } = collector();
    const writer = await CaptureWriter.open(stream);
    await writer.flush();
    expect(bytes()).toHaveLength(24);
    writer.write(Uint8Array.of(1), 0n);
    await writer.flush();
    await writer.flush();
    expect(bytes()).toHaveLength(41);
    await writer.close();
  });

  it('closes with `await using`, once', async () => {
    const path = join(folder, 'using');
    {
      await using writer = await CaptureWriter.open(path);
      writer.write(Uint8Array.of(1), 0n);
      await writer.close();
    }
    expect(openPaths()).not.toContain(path);
    expect((await readAll(path)).packets).toHaveLength(1);
  });

  it('tells once that the disk is full, with the file closed', async () => {
    const packet = new Uint8Array(100_000);
    const writer = await CaptureWriter.open('/dev/full');
    const write = async (): Promise<void> => {
      for (let i = 0; i < 100; i++) await writer.write(packet, 0n);
    };
    const failure: unknown = await write().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(CaptureError);
    expect((failure as Error).message).toMatch(/^cannot write capture \/dev\/full at byte 0: ENOSPC/);
    expect(failure).toMatchObject({ code: 'capture', cause: { code: 'ENOSPC' } });
    expect(openPaths()).not.toContain('/dev/full');
    expect(() => writer.write(packet, 0n)).toThrow(failure as Error);
    await expect(writer.flush()).rejects.toBe(failure);
    await writer.close();

    const silent = await CaptureWriter.open('/dev/full');
    silent.write(packet, 0n);
    await expect(silent.close()).rejects.toThrow(/^cannot write capture \/dev\/full at byte 0: ENOSPC/);
    expect(openPaths()).not.toContain('/dev/full');
  });

  it('tells of a stream that fails or was closed', async () => {
    const cause = new RangeError('out of ink');
    const failing = new Writable({ write: (_chunk, _encoding, done) => done(cause) });
    const first = await CaptureWriter.open(failing);
    await expect(first.flush()).rejects.toMatchObject({ code: 'capture', cause, message: 'cannot write capture at byte 0: out of ink' });
    expect(failing.destroyed).toBe(true);
    await first.close();

    const stuck = new Writable({ write: () => {} });
    const second = await CaptureWriter.open(stuck);
    const flushed = second.flush();
    await new Promise(setImmediate);
    stuck.destroy();
    await expect(flushed).rejects.toThrow('cannot write capture at byte 0: the stream was closed');

    const closed = new PassThrough();
    closed.on('error', () => {}).destroy(cause);
    await new Promise(setImmediate);
    await expect((await CaptureWriter.open(closed)).close()).rejects.toThrow('cannot write capture at byte 0: out of ink');

    const ended = new PassThrough();
    ended.end();
    await expect((await CaptureWriter.open(ended)).close()).rejects.toThrow(/^cannot write capture at byte 0: write after end/);

    const finishing = new Writable({ write: (_c, _e, done) => done(), final: (done) => done(cause) });
    await expect((await CaptureWriter.open(finishing)).close()).rejects.toThrow('cannot write capture at byte 24: out of ink');
  });

  it('refuses what it cannot write', async () => {
    await expect(CaptureWriter.open(join(folder, 'no', 'such'))).rejects.toThrow(/^cannot create capture .*such: ENOENT/);
    await expect(CaptureWriter.open(join(folder, 'no', 'such'))).rejects.toThrow(CaptureError);
    await expect(CaptureWriter.open(7 as unknown as string)).rejects.toThrow(
      'cannot write a capture to number, expected a path or a writable stream',
    );
    for (const snapLength of [0, 262_145, 1.5]) {
      await expect(CaptureWriter.open(folder, { snapLength })).rejects.toThrow(ArgumentError);
    }
    await expect(CaptureWriter.open(folder, { precision: 'seconds' as 'nanoseconds' })).rejects.toThrow(
      'precision of a capture must be nanoseconds or microseconds, got seconds',
    );
    const { stream, bytes } = collector();
    const writer = await CaptureWriter.open(stream);
    const refused: readonly [bigint, number | undefined, string][] = [
      [5 as unknown as bigint, undefined, 'a timestamp of 5 ns, expected a bigint from 0 to 4294967295999999999'],
      [-1n, undefined, 'a timestamp of -1 ns, expected a bigint from 0 to 4294967295999999999'],
      [4_294_967_296_000_000_000n, undefined, 'a timestamp of 4294967296000000000 ns, expected a bigint from 0 to 4294967295999999999'],
      [0n, 1, 'an original length of 1, expected a whole number from 2 to 4294967295'],
      [0n, 2.5, 'an original length of 2.5, expected a whole number from 2 to 4294967295'],
    ];
    for (const [timestampNs, originalLength, message] of refused) {
      expect(() => writer.write(Uint8Array.of(1, 2), timestampNs, originalLength)).toThrow(message);
      expect(() => writer.write(Uint8Array.of(1, 2), timestampNs, originalLength)).toThrow(ArgumentError);
    }
    await writer.close();
    expect(bytes()).toHaveLength(24);
    expect(() => writer.write(Uint8Array.of(1), 0n)).toThrow('cannot write capture at byte 24: it is closed');
    await expect(writer.flush()).rejects.toThrow(CaptureError);
  });
});
