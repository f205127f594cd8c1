/**
 * Events as they arrive in Node: a ring of 24-byte records read to its end with nothing done to them, and with each made an
 * object by the codec, beside a loop over the same bytes in plain memory that somebody wrote by hand.
 */
import type { RingReader } from '@tailrace/bpf';
import { decoder } from '@tailrace/stage';
import { openMachine, PathError } from '../contest.ts';
import { type Row, type Suite, type Variant, withRatios } from '../row.ts';
import { summarise } from '../statistics.ts';
import { eventContest, eventFrame, Seen } from './event.ts';

const RECORDS = 100_000;
/** Room for them, each with 8 bytes of the ring's. */
const RING_BYTES = 2 ** 22;
const RECORD_BYTES = Seen.layout.size;

/** The suite. */
export const ring: Suite = {
  name: 'ring',
  hook: null,
  about: `records of ${RECORD_BYTES} bytes read from a ring in Node, ns a record`,
  cases: ['read', 'decoded'],
  async run({ rounds }, wanted) {
    await using instance = await openMachine();
    const [entrant] = eventContest('xdp', RING_BYTES);
    const loaded = await entrant?.load(instance);
    const map = loaded?.maps.get('seen');
    if (!loaded || !map) throw new PathError('the stage that tells of packets has no ring');
    using reader = instance.openRing(map, () => undefined);
    const bytes = new Uint8Array(RECORDS * RECORD_BYTES);
    const plain = new DataView(bytes.buffer);
    const decode = decoder(Seen);
    const ways: readonly Way[] = [
      { name: 'read', variant: 'tailrace', run: () => reader.read(RECORDS, keepLength) },
      { name: 'decoded', variant: 'tailrace', run: () => reader.read(RECORDS, (view, offset) => keep(decode(view, offset))) },
      { name: 'decoded', variant: 'by-hand', run: () => readByHand(plain) },
    ];
    const samples = ways.map((): number[] => []);
    // the first round makes the bytes of the loop by hand, and lets V8 see what comes
    for (let round = 0; round <= rounds; round++)
      for (const [index, { run, variant }] of ways.entries()) {
        if (variant === 'tailrace') await loaded.entry.testRun({ packet: eventFrame, repeat: RECORDS });
        if (round === 0 && index === 0) {
          copyRecords(reader, bytes);
          continue;
        }
        const start = process.hrtime.bigint();
        const read = run();
        const ns = Number(process.hrtime.bigint() - start) / RECORDS;
        if (read !== RECORDS) throw new PathError(`${read} of ${RECORDS} records were read`);
        // there are more where a signal cut a run of the program short and it began anew
        reader.read(Number.MAX_SAFE_INTEGER, keepLength);
        if (round > 0) samples[index]?.push(ns);
      }
    const rows = ways.map(({ name, variant }, index): Row => {
      const { median, spread } = summarise(samples[index] ?? []);
      return { suite: 'ring', hook: null, name, variant, ns: median, ratio: null, spread, insns: null };
    });
    return { rows: withRatios(rows.filter(({ name }) => wanted(name))), notes: [] };
  },
};

/** A way to read all records. */
interface Way {
  readonly name: string;
  readonly variant: Variant;
  /** Returns how many. */
  run(): number;
}

function copyRecords(reader: RingReader, to: Uint8Array): void {
  let count = 0;
  reader.read(RECORDS, (view, offset, length) => {
    to.set(new Uint8Array(view.buffer, view.byteOffset + offset, length), count * RECORD_BYTES);
    count += 1;
  });
  reader.read(Number.MAX_SAFE_INTEGER, keepLength);
}

/** The last of what was read, so that V8 has to make what nobody looks at. */
const kept: unknown[] = new Array(256).fill(undefined);
let place = 0;

function keep(seen: unknown): void {
  kept[place++ & 255] = seen;
}

function keepLength(_view: DataView, _offset: number, length: number): void {
  keep(length);
}

function readByHand(view: DataView): number {
  let count = 0;
  for (let at = 0; at < view.byteLength; at += RECORD_BYTES) {
    keep({
      number: view.getBigUint64(at, true),
      source: view.getUint32(at + 8, true),
      destination: view.getUint32(at + 12, true),
      length: view.getUint16(at + 16, true),
      protocol: view.getUint8(at + 18),
    });
    count += 1;
  }
  return count;
}
