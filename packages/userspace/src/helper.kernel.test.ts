/** Helpers against the kernel's own, call by call and by properties; the table and the contexts against its verifier. */
import { Helper, type Instruction, insn, type ProgramType, type TestRunOptions } from '@tailrace/bpf';
import { type KernelInstance, kernel } from '@tailrace/kernel';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BothSides, type Step } from './both-sides-fixture.ts';
import { contextFieldAt } from './context.ts';
import { HELPERS } from './helper.ts';
import { emptySpec } from './runtime-fixture.ts';

let engine: KernelInstance;
let both: BothSides;

beforeAll(async () => {
  engine = await kernel({ interfaces: [] }).open();
  both = new BothSides(engine);
});
afterAll(() => engine.close());

/** Ethernet, an IPv4 or IPv6 header without a right checksum, TCP ports, and bytes that count up. */
function frame(protocol: number, length = 96): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, at) => (at * 37 + 11) & 0xff);
  bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, protocol >> 8, protocol & 0xff]);
  if (protocol === 0x0800) bytes.set([0x45, 1], 14);
  if (protocol === 0x86dd) bytes.set([0x60, 0x10], 14);
  return bytes;
}
const IPV4 = frame(0x0800);
const IPV6 = frame(0x86dd);
const TAGGED = frame(0x8100);
TAGGED.set([0x20, 5, 0x08, 0x00], 14);
const TWICE = frame(0x88a8);
TWICE.set([0x20, 5, 0x81, 0x00, 0x30, 7, 0x08, 0x00], 14);

/** len, pkt_type, protocol, the tag, hash, gso_segs, gso_size. */
const FIELDS: readonly Step[] = [0, 4, 16, 20, 24, 28, 68, 164, 176].map((field) => ({ field }));
const words = (...values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

test('the table gives each type of program what the kernel gives it', async () => {
  const types = ['xdp', 'schedCls', 'socketFilter', 'skSkb', 'skMsg', 'sockOps'] as const;
  // those that move the ends of a socket's data are not here
  const missing: ReadonlySet<string> = new Set(['skb_change_head', 'skb_change_tail']);
  for (const { name, programs } of HELPERS.values()) {
    const found: ProgramType[] = [];
    for (const type of types) {
      const spec = { ...emptySpec(type), frags: false, instructions: [insn.call(Helper[name]), insn.mov(0, 0), insn.exit()] };
      const log = await engine.loadProgram(spec, new Map()).then(
        (program) => {
          program.close();
          return '';
        },
        (error: { log?: string }) => String(error.log),
      );
      if (!/cannot use helper|unknown func/.test(log)) found.push(type);
    }
    // "socket filter progs cannot use bpf_spin_lock" shows only with a map
    const wanted = found.filter(
      (type) => !(name.startsWith('spin_') && type === 'socketFilter') && !(missing.has(name) && type === 'skSkb'),
    );
    expect([name, ...programs]).toEqual([name, ...wanted]);
  }
});

/** Whether the kernel takes a program of these accesses to its context. */
function takes(type: ProgramType, accesses: readonly Instruction[]): Promise<boolean> {
  const instructions = [insn.mov(2, 0), ...accesses, insn.mov(0, 0), insn.exit()];
  return engine.loadProgram({ ...emptySpec(type), instructions }, new Map()).then(
    (program) => {
      program.close();
      return true;
    },
    () => false,
  );
}

/** Fields that only the kernel has: sockets of its own, and what its TCP tells. */
function isOfKernel(type: ProgramType, offset: number): boolean {
  if (type === 'skMsg') return offset === 72;
  return type === 'sockOps' && ((offset > 0 && offset < 20) || offset >= 72);
}

test.each([
  ['xdp', 24],
  ['schedCls', 192],
  ['socketFilter', 192],
  ['skSkb', 192],
  ['skMsg', 80],
  ['sockOps', 224],
] as const)('%s: the context is what the verifier takes it for', async (type, size) => {
  const ours: Instruction[] = [];
  const none: Instruction[] = [];
  for (const bytes of [1, 2, 4, 8] as const) {
    for (let offset = 0; offset < size; offset += bytes) {
      for (const isWrite of [false, true]) {
        const access = isWrite ? insn.store(bytes, 1, offset, 2) : insn.load(bytes, 0, 1, offset);
        const field = contextFieldAt(type, offset, bytes, isWrite);
        if (field || !isOfKernel(type, offset)) (field ? ours : none).push(access);
      }
    }
  }
  expect(await takes(type, ours)).toBe(true);
  // one at a time, so not all of those that are alike
  const some = none.filter(({ opcode }, at) => (opcode & 0x18) === 0 || at % 7 === 0);
  for (const access of some) expect([access, await takes(type, [access])]).toEqual([access, false]);
});

describe('xdp', () => {
  const get: Step = ['xdp_get_buff_len'];
  test.each<readonly [name: string, options: Partial<TestRunOptions>, steps: readonly Step[]]>([
    ['head', {}, [['xdp_adjust_head', -4], get, ['xdp_adjust_head', -212], ['xdp_adjust_head', -1], ['xdp_adjust_head', 298], get]],
    ['head too far', {}, [['xdp_adjust_head', 83], ['xdp_adjust_head', 82], ['xdp_adjust_head', 1], get]],
    [
      'head with metadata',
      { xdp: { metadata: words(1, 2) } },
      [
        ['xdp_adjust_head', -208],
        ['xdp_adjust_head', -1],
        ['xdp_adjust_head', 20],
      ],
    ],
    ['head by 64 bits', {}, [['xdp_adjust_head', 0x1_0000_0004n], get, ['xdp_adjust_head', 0xffff_fffcn], get]],
    ['tail', {}, [['xdp_adjust_tail', 100], get, ['xdp_adjust_tail', -150], ['xdp_adjust_tail', 4], ['xdp_adjust_tail', -37], get]],
    [
      'tail to its end',
      {},
      [['xdp_adjust_tail', 3424], get, ['xdp_adjust_tail', 1], ['xdp_adjust_tail', -3506], ['xdp_adjust_tail', -1], get],
    ],
    [
      'metadata',
      {},
      [
        ['xdp_adjust_meta', -8],
        ['xdp_adjust_meta', -3],
        ['xdp_adjust_meta', 4],
        ['xdp_adjust_meta', 8],
      ],
    ],
    [
      'metadata as far as it goes',
      {},
      [
        ['xdp_adjust_meta', -216],
        ['xdp_adjust_meta', -4],
        ['xdp_adjust_meta', 212],
      ],
    ],
    [
      'much metadata',
      {},
      [
        ['xdp_adjust_head', 40],
        ['xdp_adjust_meta', -252],
        ['xdp_adjust_meta', -4],
        ['xdp_adjust_meta', -1],
      ],
    ],
    [
      'bytes',
      {},
      [
        ['xdp_load_bytes', 10, new Uint8Array(20), 20],
        ['xdp_load_bytes', 90, new Uint8Array(7), 7],
        ['xdp_load_bytes', 0x1_0000, new Uint8Array(7), 7],
        ['xdp_store_bytes', 89, words(1, 2).subarray(0, 7), 7],
        ['xdp_store_bytes', 95, words(1, 2), 2],
      ],
    ],
    [
      'redirects',
      {},
      [
        ['redirect', 5, 0],
        ['redirect', 5, 1],
      ],
    ],
  ])('%s', async (_name, options, steps) => {
    await both.agree('xdp', { packet: IPV4, ...options }, steps);
  });

  test('any moves in a row', async () => {
    const delta = fc.oneof(fc.integer({ min: -300, max: 300 }), fc.integer({ min: -4000, max: 4000 }));
    const move = fc.oneof(
      fc.tuple(fc.constantFrom('xdp_adjust_head', 'xdp_adjust_tail'), delta),
      fc.tuple(
        fc.constant('xdp_adjust_meta'),
        fc.integer({ min: -70, max: 70 }).map((n) => n * 4),
      ),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(move, { minLength: 1, maxLength: 12 }), async (moves) => {
        // what metadata are made of is not told: the kernel leaves there what was in its page
        const { metadata: theirs, ...rest } = await both.inKernel('xdp', { packet: IPV4 }, moves as Step[]);
        const { metadata: ours, ...other } = both.inUserspace('xdp', { packet: IPV4 }, moves as Step[]);
        expect([other, ours?.length]).toEqual([rest, theirs?.length]);
      }),
      { numRuns: 40 },
    );
  });
});

describe('tc', () => {
  test.each<readonly [name: string, packet: Uint8Array, steps: readonly Step[]]>([
    ['fields', IPV4, []],
    ['fields of IPv6', IPV6, []],
    ['fields of a tagged frame', TAGGED, []],
    ['fields of a frame with a length', frame(0x0040), []],
    [
      'broadcast',
      Uint8Array.from(IPV4, (byte, at) => (at < 6 ? 0xff : byte)),
      [
        ['skb_change_type', 0],
        ['skb_change_type', 4],
      ],
    ],
    ['multicast', Uint8Array.from(IPV4, (byte, at) => (at === 0 ? 1 : byte)), [['skb_change_type', 0x1_0000_0002n]]],
    [
      'bytes',
      IPV4,
      [
        ['skb_load_bytes', 10, new Uint8Array(20), 20],
        ['skb_load_bytes', 90, words(1, 2).subarray(0, 7), 7],
        ['skb_load_bytes', 0x8000_0000, words(1, 2), 8],
        ['skb_load_bytes_relative', 2, new Uint8Array(8), 8, 0],
        ['skb_load_bytes_relative', 2, new Uint8Array(8), 8, 1],
        ['skb_load_bytes_relative', 75, words(1, 2), 8, 1],
        ['skb_load_bytes_relative', 2, words(1, 2), 8, 2],
        ['skb_store_bytes', 20, words(1, 2), 8, 0],
        ['skb_store_bytes', 20, words(1, 2), 8, 4],
        ['skb_store_bytes', 21, words(3, 4), 7, 1],
        ['skb_store_bytes', 89, words(3, 4), 8, 1],
      ],
    ],
    [
      'pull',
      IPV4,
      [
        ['skb_pull_data', 0],
        ['skb_pull_data', 96],
        ['skb_pull_data', 97],
      ],
    ],
    [
      'head',
      IPV4,
      [
        ['skb_change_head', 14, 0],
        ['skb_change_head', 14, 1],
        ['skb_load_bytes_relative', 0, words(0), 4, 1],
        ['skb_change_head', 20_000, 0],
      ],
    ],
    [
      'head below nothing',
      IPV4,
      [
        ['skb_change_head', 0xffff_ffff, 0],
        ['skb_change_head', 15_969, 0],
        ['skb_change_head', 4000, 0],
      ],
    ],
    [
      'tail',
      IPV4,
      [
        ['skb_change_tail', 60, 0],
        ['skb_change_tail', 100, 0],
        ['skb_change_tail', 13, 0],
        ['skb_change_tail', 14, 0],
      ],
    ],
    [
      'tail to its end',
      IPV4,
      [
        ['skb_change_tail', 16_065, 0],
        ['skb_change_tail', 16_064, 0],
        ['skb_change_tail', 100, 1],
        ['skb_change_tail', 50, 0],
      ],
    ],
    [
      'to IPv6 and back',
      IPV4,
      [
        ['skb_change_proto', 0xdd86, 0],
        ...FIELDS,
        ['skb_change_proto', 0xdd86, 0],
        ['skb_change_proto', 0x0008, 0],
        ['skb_change_proto', 8, 1],
      ],
    ],
    [
      'room',
      IPV4,
      [
        ['skb_adjust_room', 8, 0, 0],
        ['skb_adjust_room', 20, 1, 0],
        ['skb_adjust_room', -30, 0, 0],
        ['skb_adjust_room', -5, 1, 0],
      ],
    ],
    [
      'room for IPv6',
      IPV6,
      [
        ['skb_adjust_room', 8, 0, 0],
        ['skb_adjust_room', -42, 1, 0],
        ['skb_adjust_room', -6, 0, 0],
      ],
    ],
    [
      'no such room',
      IPV4,
      [
        ['skb_adjust_room', 0x1000, 0, 0],
        ['skb_adjust_room', 8, 2, 0],
        ['skb_adjust_room', 8, 0, 0x200],
        ['skb_adjust_room', -70, 1, 0],
        ['skb_adjust_room', -82, 1, 0],
        ['skb_adjust_room', 0, 0, 0],
      ],
    ],
    [
      'no room in others',
      TAGGED,
      [
        ['skb_adjust_room', 8, 0, 0],
        ['skb_change_proto', 0xdd86, 0],
      ],
    ],
    [
      'a tunnel',
      IPV4,
      [
        ['skb_adjust_room', 28, 1, 0x12],
        ...FIELDS,
        ['skb_change_tail', 100, 0],
        ['skb_adjust_room', 20, 1, 2],
        ['skb_adjust_room', 20, 1, 0],
      ],
    ],
    [
      'a tunnel of IPv6',
      IPV4,
      [
        ['skb_adjust_room', 40, 1, 4],
        ...FIELDS,
        ['skb_load_bytes_relative', 0, words(1), 4, 1],
        ['skb_adjust_room', -40, 1, 0x80],
        ...FIELDS,
      ],
    ],
    [
      'tunnels that are none',
      IPV4,
      [
        ['skb_adjust_room', 40, 1, 6],
        ['skb_adjust_room', 40, 1, 0x1a],
        ['skb_adjust_room', 40, 1, 0x42n | (13n << 56n)],
        ['skb_adjust_room', 12, 1, 0x42n | (14n << 56n)],
        ['skb_adjust_room', 40, 1, 0x42n | (14n << 56n)],
      ],
    ],
    [
      'out of a tunnel',
      IPV4,
      [
        ['skb_adjust_room', 20, 1, 0x80],
        ['skb_adjust_room', -20, 1, 0x180],
        ['skb_adjust_room', -20, 1, 0x100],
        ...FIELDS,
        ['skb_adjust_room', -20, 1, 0x84],
      ],
    ],
    ['a tag', IPV4, [['skb_vlan_push', 0x0081, 0x2005], ...FIELDS, ['skb_vlan_pop'], ['skb_vlan_pop']]],
    [
      'a tag of a provider, and one of no kind',
      IPV4,
      [['skb_vlan_push', 0xa888, 7], { field: 28 }, ['skb_vlan_push', 0x1234, 0x1_0001], ...FIELDS, ['skb_adjust_room', 8, 0, 0]],
    ],
    [
      'two tags',
      IPV4,
      [
        ['skb_vlan_push', 0x0081, 5],
        ['skb_vlan_push', 0x0081, 6],
        ...FIELDS,
        ['skb_load_bytes_relative', 0, words(0), 4, 1],
        ['skb_vlan_pop'],
        ...FIELDS,
      ],
    ],
    ['a tag in the frame', TAGGED, [['skb_vlan_pop'], ...FIELDS, ['skb_adjust_room', 8, 0, 0]]],
    [
      'two tags in the frame',
      TWICE,
      [
        ['skb_vlan_pop'],
        ...FIELDS,
        ['skb_load_bytes_relative', 0, words(0), 4, 1],
        ['skb_vlan_pop'],
        ['skb_vlan_push', 0x81, 9],
        ['skb_vlan_push', 0x81, 10],
      ],
    ],
    [
      'tags and heads',
      IPV4,
      [
        ['skb_vlan_push', 0x81, 9],
        ['skb_change_head', 14, 0],
        ['skb_vlan_push', 0x81, 10],
        ['skb_load_bytes_relative', 0, words(0), 4, 1],
      ],
    ],
    ['a frame that ends behind its tag', TAGGED.subarray(0, 18), [['skb_vlan_pop']]],
    [
      'levels',
      IPV4,
      [
        ['csum_level', 0],
        ['csum_level', 2],
        ['csum_level', 1],
        ['csum_level', 0],
        ['csum_level', 1],
        ['csum_level', 1],
        ['csum_level', 1],
        ['csum_level', 1],
        ['csum_level', 0],
        ['csum_level', 2],
        ['csum_level', 0],
        ['skb_adjust_room', 8, 0, 0x20],
        ['csum_level', 0],
        ['csum_level', 3],
        ['csum_level', 0],
        ['csum_level', 4],
        ['csum_level', 1],
        ['skb_adjust_room', 8, 0, 0],
        ['csum_level', 0],
      ],
    ],
    [
      'hash',
      IPV4,
      [
        ['set_hash', 0x1_0000_0007n],
        { field: 68 },
        ['get_hash_recalc'],
        ['set_hash_invalid'],
        { field: 68 },
        ['set_hash', 7],
        ['skb_store_bytes', 20, words(1), 4, 2],
        { field: 68 },
      ],
    ],
    [
      'time',
      IPV4,
      [
        ['skb_set_tstamp', 5, 0],
        ['skb_set_tstamp', 5, 1],
        { field: 152, bytes: 8 },
        ['skb_set_tstamp', 0, 1],
        ['skb_set_tstamp', 0, 2],
        ['skb_set_tstamp', 0, 0],
        ['skb_set_tstamp', 7, 3],
      ],
    ],
    ['time of others', TAGGED, [['skb_set_tstamp', 5, 0]]],
    ['congestion', IPV4, [['skb_ecn_set_ce'], ['skb_ecn_set_ce']]],
    ['congestion of IPv6', IPV6, [['skb_ecn_set_ce'], ['skb_ecn_set_ce']]],
    ['no congestion', Uint8Array.from(IPV4, (byte, at) => (at === 15 ? 4 : byte)), [['skb_ecn_set_ce']]],
    ['the other bit of it', Uint8Array.from(IPV4, (byte, at) => (at === 15 ? 6 : byte)), [['skb_ecn_set_ce']]],
    ['update', IPV4, [['csum_update', 5]]],
    [
      'redirects',
      IPV4,
      [
        ['redirect', 5, 1],
        ['redirect', 5, 2],
        ['redirect_peer', 1, 0],
        ['redirect_peer', 1, 1],
        ['redirect_neigh', 1, words(2, 3, 0, 0, 0), 20, 0],
        ['redirect_neigh', 1, words(2, 3, 0, 0, 0), 19, 0],
        ['redirect_neigh', 1, words(2, 3, 0, 0, 0), 20, 1],
        ['redirect', 5, 2],
      ],
    ],
    [
      'clones that go nowhere',
      IPV4,
      [
        ['clone_redirect', 0, 0],
        ['clone_redirect', 1, 2],
      ],
    ],
  ])('%s', async (_name, packet, steps) => {
    const all = [...steps, ...FIELDS];
    await both.agree('schedCls', { packet }, all);
    await both.agree('schedCls', { packet, checksumComplete: true }, all);
  });

  test('rows of segments', async () => {
    const skb = { gsoSegments: 3, gsoSize: 20 };
    const steps: readonly Step[] = [
      ['skb_adjust_room', 8, 0, 0],
      ['skb_adjust_room', -8, 0, 0],
      ['skb_change_proto', 0xdd86, 0],
      ['skb_change_tail', 90, 0],
      ...FIELDS,
    ];
    await both.agree('schedCls', { packet: IPV4, skb }, steps);
  });

  test('keys of tunnels', async () => {
    const key = Uint8Array.from({ length: 44 }, (_, at) => (at === 22 || at === 23 || (at >= 24 && at < 28) ? 0 : at + 1));
    const labelled = Uint8Array.from(key, (byte, at) => (at >= 24 && at < 27 ? 0xaa : byte));
    for (const flags of [0, 1, 6, 8, 16, 31, 32]) {
      await both.agree('schedCls', { packet: IPV4 }, [
        ['skb_get_tunnel_key', key, 44, 0],
        ['skb_set_tunnel_key', key, 44, flags],
        ['skb_get_tunnel_key', key.slice(), 44, flags & 1],
        ['skb_get_tunnel_key', key.slice(), 44, 16 | (flags & 1)],
        ['skb_get_tunnel_key', key.slice(), 44, (flags & 1) ^ 1],
        ['skb_get_tunnel_key', key.slice(0, 28), 28, flags & 1],
        ['skb_get_tunnel_key', key.slice(0, 24), 24, 16 | (flags & 1)],
        ['skb_get_tunnel_key', key.slice(0, 22), 22, flags & 1],
        ['skb_get_tunnel_key', key.slice(0, 8), 8, flags & 1],
        ['skb_get_tunnel_key', key.slice(0, 9), 9, flags & 1],
        ['skb_get_tunnel_key', key.slice(), 44, 2],
        ['skb_set_tunnel_key', labelled, 44, flags],
        ['skb_get_tunnel_key', key.slice(), 44, flags & 1],
        ['skb_set_tunnel_key', key.slice(0, 22), 22, flags],
        ['skb_get_tunnel_key', key.slice(), 44, flags & 1],
        ['skb_set_tunnel_key', key.slice(0, 8), 8, flags],
        ['skb_get_tunnel_key', key.slice(), 44, flags & 1],
        ['skb_set_tunnel_key', key.slice(0, 9), 9, flags],
        ['skb_set_tunnel_key', Uint8Array.from(key, (byte, at) => (at === 22 ? 1 : byte)), 44, flags],
      ]);
    }
  });

  test('sums in headers, any of them', async () => {
    const size = fc.constantFrom(0, 2, 4, 3);
    const word = fc.oneof(
      fc.constantFrom(0, 0xffff, 0xffff_ffff),
      fc.integer({ min: 0, max: 0xffff_ffff }),
      fc.integer({ min: 0, max: 0xffff }),
    );
    const replace = fc
      .record({
        layer: fc.constantFrom(3, 4),
        offset: fc.integer({ min: 7, max: 48 }).map((n) => n * 2),
        from: word,
        to: word,
        size,
        more: fc.integer({ min: 0, max: 15 }),
      })
      .map(
        ({ layer, offset, from, to, size, more }): Step => [
          layer === 3 ? 'l3_csum_replace' : 'l4_csum_replace',
          offset,
          size === 0 ? 0 : from,
          to,
          size | (layer === 3 && more !== 15 ? 0 : more << 4),
        ],
      );
    await fc.assert(
      fc.asyncProperty(fc.array(replace, { minLength: 1, maxLength: 20 }), fc.boolean(), async (steps, hasZeros) => {
        const packet = IPV4.slice();
        if (hasZeros) packet.fill(0, 40);
        await both.agree('schedCls', { packet }, steps);
        await both.agree('schedCls', { packet, checksumComplete: true }, [...steps, ['csum_update', 0]]);
      }),
      { numRuns: 40 },
    );
  });

  test('any moves in a row, the sum of the card kept right or not as the kernel keeps it', async () => {
    const head = fc.tuple(fc.constant('skb_change_head'), fc.integer({ min: 0, max: 6 }), fc.constant(0));
    // below that, adjust_room moves bytes that are none of the packet's
    const tail = fc.tuple(fc.constant('skb_change_tail'), fc.integer({ min: 80, max: 300 }), fc.constant(0));
    const protocol = fc.tuple(fc.constant('skb_change_proto'), fc.constantFrom(8, 0xdd86), fc.constant(0));
    const roomFlags = fc.constantFrom(0, 2, 4, 0x20, 0x80, 0x100);
    const room = fc.tuple(fc.constant('skb_adjust_room'), fc.integer({ min: -20, max: 6 }), fc.constantFrom(0, 1), roomFlags);
    const push = fc.tuple(fc.constant('skb_vlan_push'), fc.constantFrom(0x81, 0xa888), fc.integer({ min: 0, max: 0xffff }));
    const pop = fc.tuple(fc.constant('skb_vlan_pop'));
    const store = fc
      .tuple(fc.integer({ min: 0, max: 90 }), fc.uint8Array({ minLength: 1, maxLength: 9 }), fc.constantFrom(0, 1))
      .map(([offset, bytes, flags]) => ['skb_store_bytes', offset, bytes, bytes.length, flags] as const);
    const steps = fc.array(fc.oneof(head, tail, protocol, room, push, pop, store), { minLength: 1, maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(IPV4, IPV6, TAGGED, TWICE), steps, fc.boolean(), async (packet, moves, checksumComplete) => {
        await both.agree('schedCls', { packet, checksumComplete }, [...(moves as unknown as Step[]), ...FIELDS, ['csum_update', 0]]);
      }),
      { numRuns: 150 },
    );
  });
});

test('differences of sums', async () => {
  const bytes = fc.uint8Array({ minLength: 0, maxLength: 16 }).map((part) => part.slice(0, part.length & ~3));
  const block = fc.oneof(
    bytes,
    fc.constantFrom(new Uint8Array(8), new Uint8Array(8).fill(0xff), new Uint8Array(0), words(0xffff), words(0xffff_0000)),
  );
  const seed = fc.oneof(fc.constantFrom(0, 0xffff, 0xffff_ffff, 0xffff_0000), fc.integer({ min: 0, max: 0xffff_ffff }));
  const diff = fc.tuple(block, block, seed).map(([from, to, start]): Step => ['csum_diff', from, from.length, to, to.length, start]);
  await fc.assert(
    fc.asyncProperty(fc.array(diff, { minLength: 12, maxLength: 30 }), async (steps) => {
      await both.agree('xdp', { packet: IPV4 }, steps);
    }),
    { numRuns: 30 },
  );
  // sizes that are no multiple of 4
  await both.agree('xdp', { packet: IPV4 }, [
    ['csum_diff', words(1, 2).subarray(0, 6), 6, words(3), 4, 0],
    ['csum_diff', words(1), 4, words(3, 4).subarray(0, 5), 5, 0],
  ]);
});
