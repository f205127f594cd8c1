import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CaptureError } from './capture-error.ts';
import {
  block,
  description,
  enhanced,
  half,
  type Order,
  obsolete,
  option,
  readAll,
  section,
  simple,
  text,
  uint,
  word,
} from './capture-fixture.ts';

const orders: readonly Order[] = ['little', 'big'];
const frame = (length: number): number[] => Array.from({ length }, (_, i) => i & 0xff);
const file = (...parts: readonly (readonly number[])[]): Uint8Array => Uint8Array.from(parts.flat());

/** Everything that a file may hold, in one section. */
function sectionOf(order: Order): number[][] {
  const comment = option(order, 1, text('a remark'));
  const end = option(order, 0, []);
  return [
    section(order, [...option(order, 4, text('a test')), ...end]),
    description(order, 1, [...option(order, 2, text('eth0')), ...option(order, 9, [9]), ...end], 65_535),
    description(order, 101, [...comment, ...option(order, 14, uint(order, 8, 100))]),
    block(order, 4, [...half(order, 0), ...half(order, 0)]), // names
    enhanced(order, { timestamp: 5_000_000_007n, data: frame(5), onWire: 90, options: [...comment, ...end] }),
    block(order, 0x4000_0bad, frame(9)), // somebody's own
    enhanced(order, { interface: 1, timestamp: 2_000_001n, data: [0x45, 1, 2, 3] }),
    simple(order, frame(6)),
    obsolete(order, { interface: 1, timestamp: 3n, data: [0x60] }),
    block(order, 5, [...word(order, 0), ...word(order, 0), ...word(order, 0)]), // statistics
  ];
}

const packetsOf = (first: number): object[] => [
  { bytes: Uint8Array.from(frame(5)), timestampNs: 5_000_000_007n, originalLength: 90, linkType: 1, interfaceIndex: first },
  { bytes: Uint8Array.of(0x45, 1, 2, 3), timestampNs: 102_000_001_000n, originalLength: 4, linkType: 101, interfaceIndex: first + 1 },
  { bytes: Uint8Array.from(frame(6)), timestampNs: 0n, originalLength: 6, linkType: 1, interfaceIndex: first },
  { bytes: Uint8Array.of(0x60), timestampNs: 100_000_003_000n, originalLength: 1, linkType: 101, interfaceIndex: first + 1 },
];

describe('pcapng', () => {
  for (const order of orders) {
    it(`reads ${order}-endian sections, stepping over what is no packet`, async () => {
      expect(await readAll(file(...sectionOf(order)))).toEqual({ packets: packetsOf(0), error: undefined });
    });

    it(`gives what is before a ${order}-endian file's end, wherever it is cut`, async () => {
      const parts = sectionOf(order);
      const whole = file(...parts);
      const ends = parts.map((_, i) => parts.slice(0, i + 1).flat().length);
      for (let cut = 4; cut <= whole.length; cut++) {
        const { packets, error } = await readAll(whole.subarray(0, cut));
        const blocks = ends.filter((end) => end <= cut).length;
        expect(packets).toHaveLength([5, 7, 8, 9].filter((n) => n <= blocks).length);
        if (ends.includes(cut)) expect(error).toBeUndefined();
        else {
          expect(error).toBeInstanceOf(CaptureError);
          expect(error).toMatchObject({ code: 'capture', record: blocks + 1, offset: ends[blocks - 1] ?? 0 });
          expect((error as Error).message).toMatch(/^pcapng block \d+ at byte \d+: cut after \d+ bytes, expected (at least )?\d+$/);
        }
      }
    });
  }

  it('reads sections of both orders in one file, counting interfaces through', async () => {
    const whole = file(...sectionOf('big'), ...sectionOf('little'), ...sectionOf('big'));
    expect(await readAll(whole)).toEqual({ packets: [...packetsOf(0), ...packetsOf(2), ...packetsOf(4)], error: undefined });
  });

  it('reads any packets of any interfaces', async () => {
    const resolution = fc.constantFrom(undefined, 0, 3, 6, 9, 12, 0x80, 0x8a, 0x94);
    const cases = fc.record({
      order: fc.constantFrom(...orders),
      interfaces: fc.array(fc.record({ resolution, offset: fc.bigInt(-(10n ** 9n), 10n ** 9n) }), { minLength: 1, maxLength: 3 }),
      packets: fc.array(
        fc.record({
          interface: fc.nat(),
          timestamp: fc.bigInt(0n, 2n ** 64n - 1n),
          data: fc.array(fc.nat(255), { maxLength: 20 }),
          beyond: fc.nat(99),
          old: fc.boolean(),
          noise: fc.boolean(),
        }),
        { maxLength: 6 },
      ),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({ order, interfaces, packets }) => {
        const blocks = [
          section(order),
          ...interfaces.map((i) =>
            description(order, 1, [
              ...(i.resolution === undefined ? [] : option(order, 9, [i.resolution])),
              ...option(order, 14, uint(order, 8, BigInt.asUintN(64, i.offset))),
            ]),
          ),
          ...packets.flatMap((p) => {
            const told = { ...p, interface: p.interface % interfaces.length, onWire: p.data.length + p.beyond };
            return [p.old ? obsolete(order, told) : enhanced(order, told), ...(p.noise ? [block(order, 0xbad, p.data)] : [])];
          }),
        ];
        expect(await readAll(file(...blocks))).toEqual({
          error: undefined,
          packets: packets.map((p) => {
            const interfaceIndex = p.interface % interfaces.length;
            const { resolution: code = 6, offset = 0n } = interfaces[interfaceIndex] ?? {};
            const perSecond = code & 0x80 ? 2n ** BigInt(code & 0x7f) : 10n ** BigInt(code);
            return {
              bytes: Uint8Array.from(p.data),
              timestampNs: (p.timestamp * 1_000_000_000n) / perSecond + offset * 1_000_000_000n,
              originalLength: p.data.length + p.beyond,
              linkType: 1,
              interfaceIndex,
            };
          }),
        });
      }),
      { numRuns: 150 },
    );
  });

  it('cuts simple packets at the snap length of the first interface', async () => {
    const parts = [section('big'), description('big', 1, [], 10), description('big', 101), simple('big', frame(10), 1500)];
    expect(await readAll(file(...parts))).toMatchObject({
      error: undefined,
      packets: [{ bytes: Uint8Array.from(frame(10)), originalLength: 1500 }],
    });
  });

  it('leaves out a frame check sequence that interface or packet tells of', async () => {
    for (const [fcsLength, octets] of [
      [32, 4],
      [16, 2],
      [4, 4], // octets, as many write it
      [0, 0],
    ] as const) {
      const flags = option('little', 2, word('little', 3 << 5)); // three octets
      const { packets } = await readAll(
        file(
          section('little'),
          description('little', 1, option('little', 13, [fcsLength])),
          enhanced('little', { data: frame(64) }),
          enhanced('little', { data: frame(30), onWire: 64 }),
          enhanced('little', { data: frame(64), options: flags }),
          obsolete('little', { data: frame(64), options: option('little', 2, word('little', 1)) }),
        ),
      );
      const bare = 64 - octets;
      expect(packets.map((p) => [p.bytes.length, p.originalLength])).toEqual([
        [bare, bare],
        [30, bare],
        [61, 61],
        [bare, bare],
      ]);
    }
  });

  it('minds no interface of a strange link type until a packet comes from it', async () => {
    const parts = [
      section('little'),
      description('little', 220),
      description('little'),
      enhanced('little', { interface: 1, data: frame(3) }),
    ];
    expect(await readAll(file(...parts))).toMatchObject({ error: undefined, packets: [{ interfaceIndex: 1 }] });
    const { packets, error } = await readAll(file(...parts, enhanced('little', { data: frame(3) })));
    expect(packets).toHaveLength(1);
    expect(error).toBeInstanceOf(CaptureError);
    expect((error as Error).message).toBe(
      'pcapng block 5 at byte 104, of interface 0: link type 220, expected one of 0, 1, 12, 14, 101, 108, 113, 228, 229, 276',
    );
  });

  it('bounds what interfaces it remembers', async () => {
    const many = Array.from({ length: 65_537 }, () => description('little'));
    const { error } = await readAll(file(section('little'), ...many));
    expect((error as Error).message).toBe(`pcapng block 65538 at byte ${28 + 65_536 * 20}: one interface more, expected at most 65536`);
  });

  const head = [section('little'), description('little')];
  const failures: readonly [what: string, parts: readonly number[][], message: string][] = [
    [
      'a byte-order magic of no order',
      [section('little').with(8, 0)],
      'pcapng block 1 at byte 0: a byte-order magic of 0x003c2b1a, expected 0x1a2b3c4d in either order',
    ],
    ['another version', [section('big').with(13, 2)], 'pcapng block 1 at byte 0: version 2.0, expected 1.0'],
    [
      'a block shorter than a block',
      [...head, [...word('little', 9), ...word('little', 8), 0, 0, 0, 0]],
      'pcapng block 3 at byte 48: a length of 8, expected a multiple of 4 from 12 to 16777216',
    ],
    [
      'a section header shorter than one',
      [block('little', 0x0a0d0d0a, word('little', 0x1a2b3c4d))],
      'pcapng block 1 at byte 0: a length of 16, expected a multiple of 4 from 28 to 16777216',
    ],
    [
      'a length that is no multiple of 4',
      [...head, block('little', 9, frame(4)).with(4, 15)],
      'pcapng block 3 at byte 48: a length of 15, expected a multiple of 4 from 12 to 16777216',
    ],
    [
      'a length beyond the limit',
      [...head, block('little', 9, frame(4)).with(7, 0xff)],
      'pcapng block 3 at byte 48: a length of 4278190096, expected a multiple of 4 from 12 to 16777216',
    ],
    [
      'unlike lengths',
      [...head, block('little', 9, frame(4)).with(12, 20)],
      'pcapng block 3 at byte 48: a trailing length of 20, expected 16',
    ],
    [
      'an interface block without a body',
      [section('little'), block('little', 1, [])],
      'pcapng block 2 at byte 28: a length of 12, expected at least 20 for an interface',
    ],
    [
      'a packet block without a body',
      [...head, block('little', 6, frame(16))],
      'pcapng block 3 at byte 48: a length of 28, expected at least 32 for a packet',
    ],
    [
      'a simple block without a body',
      [...head, block('little', 3, [])],
      'pcapng block 3 at byte 48: a length of 12, expected at least 16 for a packet',
    ],
    [
      'a packet of no interface',
      [...head, enhanced('little', { interface: 7, data: [] })],
      'pcapng block 3 at byte 48: a packet of interface 7, expected one of the 1 that its section has described',
    ],
    [
      'an interface of the section before',
      [...head, section('little'), simple('little', [])],
      'pcapng block 4 at byte 76: a packet of interface 0, expected one of the 0 that its section has described',
    ],
    [
      'a packet longer than its block',
      [...head, enhanced('little', { data: frame(4) }).with(20, 5)],
      "pcapng block 3 at byte 48: a packet of 5 bytes, expected at most the block's 4",
    ],
    [
      'a simple packet longer than its block',
      [...head, simple('little', frame(4), 5)],
      "pcapng block 3 at byte 48: a packet of 5 bytes, expected at most the block's 4",
    ],
    [
      'an option longer than its block',
      [section('little'), description('little', 1, option('little', 9, [6]).with(2, 9))],
      'pcapng block 2 at byte 28: option 9 of 9 bytes, expected at most the 4 that are left',
    ],
    [
      'a resolution of two bytes',
      [section('little'), description('little', 1, option('little', 9, [6, 6]))],
      'pcapng block 2 at byte 28: option if_tsresol of 2 bytes, expected 1',
    ],
    [
      'an offset of four bytes',
      [section('little'), description('little', 1, option('little', 14, [0, 0, 0, 0]))],
      'pcapng block 2 at byte 28: option if_tsoffset of 4 bytes, expected 8',
    ],
    [
      'a check length of no bytes',
      [section('little'), description('little', 1, option('little', 13, []))],
      'pcapng block 2 at byte 28: option if_fcslen of 0 bytes, expected 1',
    ],
    [
      'flags of two bytes',
      [...head, enhanced('little', { data: [], options: option('little', 2, [0, 0]) })],
      'pcapng block 3 at byte 48: option flags of 2 bytes, expected 4',
    ],
  ];
  for (const [what, parts, message] of failures) {
    it(`refuses ${what}`, async () => {
      const { error } = await readAll(file(...parts));
      expect(error).toBeInstanceOf(CaptureError);
      expect((error as CaptureError).message).toBe(message);
    });
  }
});
