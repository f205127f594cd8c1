/** Every way in which a program is stopped, with its message, and both ends of every kind of region. */
import { assemble, type LineInfo, type MapSpec } from '@tailrace/bpf';
import { describe, expect, test } from 'vitest';
import { mapSpec, u32 } from './fixture.ts';
import { LoadedSample, runEveryWay, type Sample, specFrom } from './program-fixture.ts';
import { lineAt, TrapError, TrapReason } from './trap.ts';
import { runProgram } from './vm.ts';

/** How a sample ends, without the addresses of pointers. */
function ended(sample: Sample): string {
  return String(runEveryWay(sample).result).replace(/\(pointer 0x[0-9a-f]+\)/, '(pointer)');
}

const maps = {
  table: mapSpec('array', { name: 'table', valueSize: 12, maxEntries: 3 }),
  frozen: mapSpec('array', { name: 'frozen', flags: 128 }),
  hash: mapSpec('hash', { name: 'hash' }),
  perCpu: mapSpec('perCpuArray', { name: 'perCpu', valueSize: 12 }),
  lpm: mapSpec('lpmTrie', { name: 'lpm', valueSize: 12 }),
  ring: mapSpec('ringBuffer', { name: 'ring', maxEntries: 4096 }),
  programs: mapSpec('programArray', { name: 'programs' }),
} satisfies Record<string, MapSpec>;

/** r1 points to a value of a map, of which there is one under the key 1 (an LPM prefix of no bits). */
const value = (map: keyof typeof maps): string => `
  *(u64 *)(r10 -8) = ${map === 'lpm' ? 0 : 1}
  r1 = map[${map}]
  r2 = r10
  r2 += -8
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = r0`;
const entries = {
  hash: [[u32(1), new Uint8Array(16)]],
  lpm: [[new Uint8Array(8), new Uint8Array(12)]],
} as const;

describe('regions', () => {
  /** What makes r1 a pointer, and how far it may go. */
  const regions: readonly (readonly [name: string, pointer: string, first: number, end: number])[] = [
    ['the packet', 'r1 = *(u32 *)(r1 +0)', 0, 64],
    ['the packet', 'r1 = *(u32 *)(r1 +8)', 0, 64],
    ['the packet', 'r1 = *(u32 *)(r1 +4)', -64, 0],
    ['stack frame 0', 'r1 = r10', -512, 0],
    ['a value of a map', value('table'), 0, 12],
    ['a value of a map', value('hash'), 0, 16],
    ['a value of a map', value('perCpu'), 0, 12],
    ['a value of a map', value('lpm'), 0, 12],
    ['a record', 'r1 = map[ring]\n r2 = 20\n r3 = 0\n call bpf_ringbuf_reserve\n if r0 == 0 goto out\n r1 = r0', 0, 20],
  ];
  /** Sizes that are read and written by a pointer that is known, and by one that hides what it is. */
  const ways = [
    { text: '', read: 8, write: 1 },
    { text: 'r1 ^= 0', read: 2, write: 4 },
  ] as const;

  test.each(regions)('%s, %#', (name, pointer, first, end) => {
    for (const { text, read, write } of ways)
      for (const kind of ['read', 'write'] as const) {
        const size = kind === 'read' ? read : write;
        const access = kind === 'read' ? `r2 = *(u${size * 8} *)(r1 +0)` : `*(u${size * 8} *)(r1 +0) = 1`;
        const at = (offset: number): string =>
          ended({ text: `${pointer}\n ${text}\n r1 += ${offset}\n ${access}\n r0 = 77\n exit\n out: r0 = 0\n exit`, maps, entries });
        const refused = new RegExp(`^program sample, pc \\d+: ${kind} of ${size} bytes outside ${name} \\(pointer\\)$`);
        expect([at(first), at(end - size)]).toEqual(['77', '77']);
        expect(at(first - 1)).toMatch(refused);
        expect(at(end - size + 1)).toMatch(refused);
      }
  });

  test('elements lie side by side, and each is a region of its own', () => {
    // values of 12 bytes start every 16
    for (const [offset, result] of [
      [0, '77'],
      [8, 'read of 8 bytes outside a value'],
      [12, 'read of 8 bytes outside a value'],
      [16, '77'],
      [32, 'read of 8 bytes outside'],
    ] as const)
      expect(
        ended({ text: `${value('table')}\n r1 ^= 0\n r1 += ${offset}\n r2 = *(u64 *)(r1 +0)\n r0 = 77\n exit\n out: r0 = 0\n exit`, maps }),
      ).toContain(result);
  });

  test('the context', () => {
    const at = (offset: number): string => ended({ type: 'schedCls', text: `r1 ^= 0\n r1 += ${offset}\n r0 = *(u8 *)(r1 +0)\n exit` });
    expect([at(75), at(84), at(255)]).toEqual(['0', '0', '0']);
    for (const offset of [-1, 76, 83, 140, 143, 256])
      expect(at(offset)).toBe('program sample, pc 2: read of 1 bytes outside the context of 256 bytes (pointer)');
    const xdp = (offset: number): string => ended({ text: `r1 ^= 0\n r1 += ${offset}\n r0 = *(u8 *)(r1 +0)\n exit` });
    for (const offset of [0, 11])
      expect(xdp(offset)).toBe('program sample, pc 2: read of 1 bytes outside the context of 256 bytes (pointer)');
    expect(xdp(12)).toBe('1');
  });

  test('frames of callers and callees', () => {
    const text = (access: string): string => `r1 = r10\n call f\n exit\n f: ${access}\n r0 = 5\n exit`;
    expect(ended({ text: text('*(u64 *)(r1 -512) = 1') })).toBe('5');
    expect(ended({ text: text('*(u64 *)(r1 +0) = 1') })).toBe('program sample, pc 3: write of 8 bytes outside stack frame 0 (pointer)');
    expect(ended({ text: text('r2 = *(u8 *)(r10 -513)') })).toBe('program sample, pc 3: read of 1 bytes outside stack frame 1 (pointer)');
  });

  test('blocks of memory', () => {
    const at = (offset: number, memory: number): string[] =>
      (['interpreter', 'wasm'] as const).map((mode) => {
        try {
          return `r0 = ${runProgram(assemble(`r1 += ${offset}\n r0 = *(u16 *)(r1 +0)\n exit`).instructions, new Uint8Array(memory), { mode }).value}`;
        } catch (error) {
          return (error as Error).message.replace(/0x[0-9a-f]+/, '0x');
        }
      });
    const outside = 'program program, pc 1: read of 2 bytes outside the packet (pointer 0x)';
    expect([at(0, 2), at(1, 2), at(-1, 2)]).toEqual([
      ['r0 = 0', 'r0 = 0'],
      [outside, outside],
      [outside, outside],
    ]);
    const nothing = 'program program, pc 1: read of 2 bytes outside a null pointer';
    expect(at(0, 0)).toEqual([nothing, nothing]);
  });
});

describe('reasons', () => {
  const reserve = 'r1 = map[ring]\n r2 = 8\n r3 = 0\n call bpf_ringbuf_reserve\n if r0 == 0 goto out\n r6 = r0';
  const lock = `${value('table')}\n r6 = r1`;
  const take = 'r1 = r6\n call bpf_spin_lock';
  const give = 'r1 = r6\n call bpf_spin_unlock';
  const table: readonly (readonly [reason: TrapReason, text: string, message: string])[] = [
    ['read', 'r0 = *(u8 *)(r2 +0)', 'pc 0: read of 1 bytes outside a null pointer'],
    ['read', 'r2 = 0x1234\n r0 = *(u64 *)(r2 +1)', 'pc 1: read of 8 bytes outside anything: a number is no pointer (pointer)'],
    ['read', 'r2 = map[table]\n r0 = *(u32 *)(r2 +0)', 'pc 2: read of 4 bytes outside a map (pointer)'],
    ['read', 'r2 = subprog[f]\n r0 = *(u32 *)(r2 +0)\n f: r0 = 0', 'pc 2: read of 4 bytes outside a function (pointer)'],
    ['read', 'r2 = 0x1000000000000 ll\n r0 = *(u32 *)(r2 +0)', 'pc 2: read of 4 bytes outside a value of a map (pointer)'],
    ['read', 'r2 = 0xe00000000 ll\n r0 = *(u32 *)(r2 +0)', 'pc 2: read of 4 bytes outside anything (pointer)'],
    [
      'read',
      'r2 = r10\n r3 = -512\n r3 += 0x7fffffff\n r4 = 1\n r5 = 0\n r1 = 0\n r2 = 0\n call bpf_csum_diff\n r1 = r10\n r1 += -4\n r2 = 8\n r3 = 0\n r4 = 0\n r5 = 0\n call bpf_csum_diff',
      'pc 7: read of 1 bytes outside anything: a number is no pointer (pointer)',
    ],
    [
      'read',
      'r1 = r10\n r1 += -4\n r2 = 8\n r3 = 0\n r4 = 0\n r5 = 0\n call bpf_csum_diff',
      'pc 6: read of 8 bytes outside stack frame 0 (pointer)',
    ],
    [
      'read',
      'r1 = r10\n r2 = 0x100000004 ll\n r3 = 0\n r4 = 0\n r5 = 0\n call bpf_csum_diff',
      'pc 6: read of 4 bytes outside stack frame 0 (pointer)',
    ],
    ['read', 'r1 = map[hash]\n r2 = r10\n r2 += -3\n call bpf_map_lookup_elem', 'pc 4: read of 4 bytes outside stack frame 0 (pointer)'],
    [
      'read',
      'r1 = map[hash]\n r2 = r10\n r2 += -4\n r3 = r10\n r3 += -15\n r4 = 0\n call bpf_map_update_elem',
      'pc 7: read of 16 bytes outside stack frame 0 (pointer)',
    ],
    ['write', '*(u8 *)(r2 +0) = 1', 'pc 0: write of 1 bytes outside a null pointer'],
    ['write', 'r2 = 0\n r3 = r10\n r3 += -4\n r4 = 5\n call bpf_xdp_load_bytes', 'pc 4: write of 5 bytes outside stack frame 0 (pointer)'],
    ['write', 'lock *(u64 *)(r10 -4) += r1', 'pc 0: write of 8 bytes outside stack frame 0 (pointer)'],
    ['read', 'r1 = load_acquire((u64 *)(r10 -4))', 'pc 0: read of 8 bytes outside stack frame 0 (pointer)'],
    [
      'alignment',
      'lock *(u64 *)(r10 -12) += r1',
      'pc 0: atomic access of 8 bytes at an address that is no multiple of 8, in stack frame 0 (pointer)',
    ],
    [
      'alignment',
      'lock *(u32 *)(r10 -6) |= r1',
      'pc 0: atomic access of 4 bytes at an address that is no multiple of 4, in stack frame 0 (pointer)',
    ],
    [
      'alignment',
      'r0 = atomic_cmpxchg((u32 *)(r10 -6), r0, r1)',
      'pc 0: atomic access of 4 bytes at an address that is no multiple of 4, in stack frame 0 (pointer)',
    ],
    [
      'alignment',
      'r1 = load_acquire((u16 *)(r10 -5))',
      'pc 0: atomic access of 2 bytes at an address that is no multiple of 2, in stack frame 0 (pointer)',
    ],
    [
      'alignment',
      'store_release((u64 *)(r10 -17), r1)',
      'pc 0: atomic access of 8 bytes at an address that is no multiple of 8, in stack frame 0 (pointer)',
    ],
    [
      'alignment',
      `${lock}\n r1 = r6\n r1 += 2\n call bpf_spin_lock`,
      'pc 11: atomic access of 4 bytes at an address that is no multiple of 4, in a value of a map (pointer)',
    ],
    [
      'map',
      'r1 = 5\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem',
      'pc 3: a helper takes a map of its kind, got anything: a number is no pointer (pointer)',
    ],
    [
      'map',
      'r1 = map[ring]\n r1 ^= 0\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem',
      'pc 5: a helper takes a map of its kind, got a map (pointer)',
    ],
    [
      'map',
      `${value('table')}\n r2 = r10\n r2 += -8\n call bpf_map_lookup_elem`,
      'pc 10: a helper takes a map of its kind, got a value of a map (pointer)',
    ],
    ['map', 'r2 = map[table]\n r2 ^= 0\n r3 = 0\n call bpf_tail_call', 'pc 4: a helper takes a map of its kind, got a map (pointer)'],
    ['context', 'r1 = 0\n r2 = 4\n call bpf_xdp_adjust_head', 'pc 2: a helper takes the context, got a null pointer'],
    ['context', 'r1 += 4\n r2 = 4\n call bpf_xdp_adjust_head', 'pc 2: a helper takes the context, got the context of 256 bytes (pointer)'],
    [
      'context',
      'r1 = r10\n r2 = map[programs]\n r3 = 0\n call bpf_tail_call',
      'pc 4: a helper takes the context, got stack frame 0 (pointer)',
    ],
    [
      'record',
      'r1 = r10\n r2 = 0\n call bpf_ringbuf_submit',
      'pc 2: a helper takes a record that is reserved, got stack frame 0 (pointer)',
    ],
    [
      'record',
      `${reserve}\n r1 = r6\n r1 += 4\n r2 = 0\n call bpf_ringbuf_submit`,
      'pc 10: a helper takes a record that is reserved, got a record (pointer)',
    ],
    [
      'record',
      `${reserve}\n r1 = r6\n r2 = 0\n call bpf_ringbuf_submit\n r1 = r6\n r2 = 0\n call bpf_ringbuf_discard`,
      'pc 12: a helper takes a record that is reserved, got a record (pointer)',
    ],
    ['lock', `${lock}\n ${take}\n ${take}`, 'pc 12: a spin lock is taken while one is held, or given back while it is not'],
    ['lock', `${lock}\n ${give}`, 'pc 10: a spin lock is taken while one is held, or given back while it is not'],
    ['lock', `${lock}\n ${take}\n r6 += 4\n ${give}`, 'pc 13: a spin lock is taken while one is held, or given back while it is not'],
    ['lock', `${lock}\n ${take}\n ${give}\n ${give}`, 'pc 14: a spin lock is taken while one is held, or given back while it is not'],
    ['limit', 'again: goto again', 'pc 0: too many turns of loops, expected the program to end'],
    [
      'limit',
      'r1 = 2000\n r2 = subprog[f]\n r3 = 0\n r4 = 0\n call bpf_loop\n exit\n f: r0 = 0',
      'pc 5: too many turns of loops, expected the program to end',
    ],
  ];
  test.each(table)('%s, %#', (reason, text, message) => {
    const sample: Sample = { text: `${text}\n exit\n out: r0 = 0\n exit`, maps, turnLimit: 1000 };
    expect(ended(sample)).toBe(`program sample, ${message}`);
    const { program } = new LoadedSample(sample, 'wasm');
    return expect(program.testRun({ packet: new Uint8Array(64) })).rejects.toMatchObject({ code: 'trap', reason, program: 'sample' });
  });

  test('a helper that the program was built without', () => {
    const poison = assemble('r0 = 0\n call 195896080\n exit');
    const poisons = [{ pc: 1, reason: 'uses field gone of struct sk_buff, which this kernel does not have' }];
    for (const mode of ['interpreter', 'wasm'] as const) {
      const run = (): unknown => runProgram(poison.instructions, new Uint8Array(0), { mode });
      expect(run).toThrow('program program, pc 1: uses what a CO-RE relocation did not find');
    }
    const trap = { reason: 'poison', pc: 1, pointer: 0n, bytes: 0 } as const;
    expect(new TrapError(specFrom(poison.instructions, 'xdp', { poisons }), trap).message).toBe(
      'program sample, pc 1: uses field gone of struct sk_buff, which this kernel does not have',
    );
  });

  test('frames behind a tail call', () => {
    const nested = (depth: number): string =>
      `call f1\n exit\n ${Array.from({ length: depth - 1 }, (_, i) => `f${i + 1}: ${i + 2 < depth ? `call f${i + 2}` : '*(u64 *)(r10 -8) = 5\n r0 = *(u64 *)(r10 -8)'}\n exit`).join('\n')}`;
    const text = 'call go\n r0 += 100\n exit\n go: r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r0 = 0\n exit';
    const sample = (depth: number): Sample => ({ text, maps: { programs: maps.programs }, programs: { 0: nested(depth) } });
    expect(ended(sample(7))).toBe('105');
    expect(ended(sample(8))).toBe('program sample, pc 6: a tail call to a program with more frames than are left, of 8');
  });

  test('every reason is here', () => {
    const here = new Set([...table.map(([reason]) => reason), 'poison', 'depth']);
    expect([...here].sort()).toEqual(Object.keys(TrapReason).sort());
  });
});

describe('what is left behind', () => {
  test('a lock that a program held when it was stopped is free', () => {
    const loaded = new LoadedSample(
      { text: `${value('table')}\n r6 = r1\n call bpf_spin_lock\n r1 = *(u64 *)(r6 +100)\n out: r0 = 0\n exit`, maps },
      'wasm',
    );
    for (let i = 0; i < 3; i++) expect(loaded.run().result).toMatch('pc 10: read of 8 bytes outside a value of a map');
  });

  test.each(['interpreter', 'wasm'] as const)('%s: records that were never handed over are thrown away, packet by packet', async (mode) => {
    const text = 'r1 = map[ring]\n r2 = 8\n r3 = 0\n call bpf_ringbuf_reserve\n if r0 == 0 goto out\n r0 = 1\n exit\n out: r0 = 0\n exit';
    const { program } = new LoadedSample({ text, maps }, mode);
    expect((await program.testRun({ packet: new Uint8Array(64), repeat: 100 })).returnValue).toBe(1);
    const packets = Array.from({ length: 60 }, () => ({ packet: new Uint8Array(64) }));
    expect(program.runBatch(packets).map(({ returnValue }) => returnValue)).toEqual(packets.map(() => 1));
  });

  test.each(['interpreter', 'wasm'] as const)('%s: a lock that was never given back is free for the next packet', async (mode) => {
    const text = `${value('table')}\n call bpf_spin_lock\n r0 = 1\n exit\n out: r0 = 0\n exit`;
    const { program } = new LoadedSample({ text, maps }, mode);
    expect((await program.testRun({ packet: new Uint8Array(64), repeat: 3 })).returnValue).toBe(1);
    expect(
      program.runBatch([{ packet: new Uint8Array(64) }, { packet: new Uint8Array(64) }]).map(({ returnValue }) => returnValue),
    ).toEqual([1, 1]);
  });

  test('tail calls out of subprograms are counted over the whole run', () => {
    const text = `
      r6 = r1
      r7 = 0
      again: r1 = r6
      call go
      r7 += r0
      r8 += 1
      if r8 < 50 goto again
      r0 = r7
      exit
      go: r2 = map[programs]
      r3 = 0
      call bpf_tail_call
      r0 = 100
      exit`;
    // 33 go through, 17 do not
    expect(ended({ text, maps: { programs: maps.programs }, programs: { 0: 'r0 = 1\n exit' } })).toBe('1733');
  });

  test.each([[5], [4095], [4096], [65_000]])('tail calls to slot %i that is not known before', (slot) => {
    const text = `r2 = map[programs]\n r3 = ${slot}\n r4 = *(u32 *)(r1 +12)\n r3 += r4\n r3 += -1\n call bpf_tail_call\n r0 = 3\n exit`;
    const programs = mapSpec('programArray', { name: 'programs', maxEntries: 70_000 });
    expect(ended({ text, maps: { programs }, programs: { [slot]: 'r0 = 9\n exit', 1: 'r0 = 8\n exit' } })).toBe('9');
    expect(ended({ text, maps: { programs }, programs: { [slot + 1]: 'r0 = 9\n exit' } })).toBe('3');
  });
});

test('the line that a trap belongs to', () => {
  const lines: readonly LineInfo[] = [
    { pc: 0, file: '/a.ts', text: 'a', line: 3, column: 5 },
    { pc: 2, file: '/a.ts', text: 'b', line: 4, column: 9 },
  ];
  expect([lineAt(lines, 1)?.line, lineAt(lines, 2)?.line, lineAt(lines, 9)?.line, lineAt([], 1)]).toEqual([3, 4, 4, undefined]);
  const trap = { reason: 'read', pc: 2, pointer: 0x2_0000_1000n, bytes: 4 } as const;
  expect(new TrapError(specFrom([], 'xdp', { lines }), trap).message).toBe(
    'program sample, pc 2 (/a.ts:4:9): read of 4 bytes outside the packet (pointer 0x200001000)',
  );
});
