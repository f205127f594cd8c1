import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CaptureError } from './capture-error.ts';
import { type Order, pcapHeader, pcapRecord, readAll } from './capture-fixture.ts';

const MICROSECONDS = 0xa1b2c3d4;
const NANOSECONDS = 0xa1b23c4d;
const orders: readonly Order[] = ['little', 'big'];
const frame = (length: number): number[] => Array.from({ length }, (_, i) => i & 0xff);
const file = (...parts: readonly (readonly number[])[]): Uint8Array => Uint8Array.from(parts.flat());
const packet = fc.record({
  second: fc.nat(0xffff_ffff),
  fraction: fc.nat(999_999),
  data: fc.array(fc.nat(255), { maxLength: 40 }),
  beyond: fc.nat(2000),
});

describe('pcap', () => {
  for (const order of orders) {
    for (const [magic, nsPerUnit] of [
      [MICROSECONDS, 1000n],
      [NANOSECONDS, 1n],
    ] as const) {
      it(`reads ${order}-endian files in units of ${nsPerUnit} ns`, async () => {
        await fc.assert(
          fc.asyncProperty(fc.array(packet, { maxLength: 8 }), async (packets) => {
            const records = packets.map((p) => pcapRecord(order, p.second, p.fraction, p.data, p.data.length + p.beyond));
            const read = await readAll(file(pcapHeader(order, magic), ...records));
            expect(read.error).toBeUndefined();
            expect(read.packets).toEqual(
              packets.map((p) => ({
                bytes: Uint8Array.from(p.data),
                timestampNs: BigInt(p.second) * 1_000_000_000n + BigInt(p.fraction) * nsPerUnit,
                originalLength: p.data.length + p.beyond,
                linkType: 1,
                interfaceIndex: 0,
              })),
            );
          }),
          { numRuns: 60 },
        );
      });
    }

    it(`gives what is before a ${order}-endian file's end, wherever it is cut`, async () => {
      const parts = [pcapHeader(order, MICROSECONDS), ...[5, 0, 17].map((n, i) => pcapRecord(order, i, 1, frame(n)))];
      const whole = file(...parts);
      const ends = parts.map((_, i) => parts.slice(0, i + 1).flat().length);
      for (let cut = 0; cut <= whole.length; cut++) {
        const { packets, error } = await readAll(whole.subarray(0, cut));
        expect(packets).toHaveLength(ends.filter((end) => end <= cut).length - (cut >= 24 ? 1 : 0));
        if (ends.includes(cut)) expect(error).toBeUndefined();
        else {
          expect(error).toBeInstanceOf(CaptureError);
          expect(error).toMatchObject(
            cut < 24
              ? { code: 'capture', offset: 0, record: undefined }
              : { offset: ends.findLast((e) => e <= cut), record: packets.length + 1 },
          );
        }
      }
    });
  }

  const failures: readonly [what: string, bytes: Uint8Array, message: string, packets: number][] = [
    ['an empty file', file(), 'cannot read capture: it ends after 0 bytes, expected the header of a pcap or pcapng file', 0],
    ['a cut magic', file([0xd4, 0xc3]), 'cannot read capture: it ends after 2 bytes, expected the header of a pcap or pcapng file', 0],
    ['another file', file([0x7f, 0x45, 0x4c, 0x46]), 'cannot read capture: it begins with 0x7f454c46, expected a pcap or pcapng file', 0],
    ['a cut header', file(pcapHeader('big', MICROSECONDS).slice(0, 23)), 'pcap header: cut after 23 bytes, expected 24', 0],
    ['another version', file(pcapHeader('little', MICROSECONDS).with(4, 3)), 'pcap header: version 3.4, expected 2.4', 0],
    [
      'a link type that is not read',
      file(pcapHeader('little', MICROSECONDS, 105), pcapRecord('little', 0, 0, frame(4))),
      'pcap header: link type 105, expected one of 0, 1, 12, 14, 101, 108, 113, 228, 229, 276',
      0,
    ],
    [
      'a cut record header',
      file(pcapHeader('little', MICROSECONDS), pcapRecord('little', 0, 0, frame(4)), [1, 2, 3]),
      'pcap record 2 at byte 44: cut after 3 bytes, expected a header of 16',
      1,
    ],
    [
      'a cut record',
      file(pcapHeader('little', MICROSECONDS), pcapRecord('little', 0, 0, frame(4)).slice(0, -1)),
      'pcap record 1 at byte 24: cut after 19 bytes, expected a record of 20',
      0,
    ],
    [
      'an absurd length',
      file(pcapHeader('little', MICROSECONDS), pcapRecord('little', 0, 0, frame(4)), new Array<number>(16).fill(255)),
      'pcap record 2 at byte 44: a packet of 4294967295 bytes, expected at most 262144',
      1,
    ],
  ];
  for (const [what, bytes, message, packets] of failures) {
    it(`refuses ${what}`, async () => {
      const read = await readAll(bytes);
      expect(read.error).toBeInstanceOf(CaptureError);
      expect((read.error as CaptureError).message).toBe(message);
      expect(read.packets).toHaveLength(packets);
    });
  }

  it('takes packets as long as the snap length says, if that is no absurd one', async () => {
    const long = frame(300_000);
    const named = await readAll(file(pcapHeader('little', MICROSECONDS, 1, 300_000), pcapRecord('little', 0, 0, long)));
    expect(named).toMatchObject({ error: undefined, packets: [{ originalLength: 300_000 }] });
    for (const snapLength of [0, 65_535, 0xffff_ffff]) {
      const { error } = await readAll(file(pcapHeader('little', MICROSECONDS, 1, snapLength), pcapRecord('little', 0, 0, long)));
      expect((error as Error).message).toBe('pcap record 1 at byte 24: a packet of 300000 bytes, expected at most 262144');
    }
  });

  it('leaves out a frame check sequence that the header tells of', async () => {
    const network = 0x2400_0001; // two words of 16 bits, and that this is known
    const whole = pcapRecord('big', 0, 0, frame(64));
    const inside = pcapRecord('big', 0, 0, frame(62), 64);
    const before = pcapRecord('big', 0, 0, frame(40), 64);
    const tiny = pcapRecord('big', 0, 0, frame(3));
    const { packets } = await readAll(file(pcapHeader('big', MICROSECONDS, network), whole, inside, before, tiny));
    expect(packets.map((p) => [p.bytes.length, p.originalLength])).toEqual([
      [60, 60],
      [60, 60],
      [40, 60],
      [0, 0],
    ]);
    const unknown = await readAll(file(pcapHeader('big', MICROSECONDS, 0x2000_0001), whole));
    expect(unknown.packets[0]?.bytes).toHaveLength(64);
  });

  it('never says that less was on the wire than was captured', async () => {
    const { packets } = await readAll(file(pcapHeader('little', MICROSECONDS), pcapRecord('little', 0, 0, frame(20), 7)));
    expect(packets).toMatchObject([{ originalLength: 20 }]);
  });
});
