/** Stack slots in locals: what is kept there, and that programs cannot tell. */
import { disassembleInstruction } from '@tailrace/bpf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isHelperCall, operationAt, storesTo } from './code.ts';
import { mapSpec } from './fixture.ts';
import { LoadedSample, runEveryWay, type Sample } from './program-fixture.ts';
import { FrameTiles, type FrameWord } from './tiles.ts';

const maps = {
  tuples: mapSpec('hash', { name: 'tuples', keySize: 16, valueSize: 8 }),
  names: mapSpec('hash', { name: 'names', keySize: 13, valueSize: 8 }),
};

/** The instructions that get something from locals, and what. */
function kept(sample: Sample, stepLimit?: number): string {
  const { code, graphs, provenance } = new LoadedSample(sample, 'wasm').program;
  const lines: string[] = [];
  for (const graph of graphs) {
    const tiles = FrameTiles.of(code, graph, provenance, stepLimit);
    if (tiles === undefined) continue;
    for (const block of graph.blocks) {
      const state = tiles.before(block);
      for (let pc = block.start; pc < block.end; pc += operationAt(code, pc).slots) {
        const operation = operationAt(code, pc);
        const word = tiles.wordAt(pc);
        const isKept = word !== undefined && !storesTo(operation) && state.holds(word.at, word.bytes);
        const words = isKept ? [word] : isHelperCall(operation) ? tiles.gathered(state, pc) : [];
        if (words.length > 0) lines.push(`${pc}: ${disassembleInstruction(operation)}  <- ${words.map(wordText).join(', ')}`);
        tiles.step(state, pc);
      }
    }
  }
  return lines.join('\n');
}

function wordText({ at, bytes }: FrameWord): string {
  return `${bytes} at ${at}`;
}

describe('what is kept', () => {
  test('parts of a key, until it is looked up, and spilled registers over the call', () => {
    const text = `
      *(u64 *)(r10 -8) = r1
      r6 = *(u32 *)(r1 +0)
      *(u64 *)(r10 -24) = 0
      *(u64 *)(r10 -32) = r6
      *(u16 *)(r10 -24) = 80
      *(u8 *)(r10 -20) = 6
      r1 = map[tuples]
      r2 = r10
      r2 += -32
      call bpf_map_lookup_elem
      r1 = *(u64 *)(r10 -8)
      r0 = *(u16 *)(r10 -24)
      exit`;
    expect(kept({ text, maps })).toMatchInlineSnapshot(`
      "10: call bpf_map_lookup_elem#1  <- 8 at -24
      11: r1 = *(u64 *)(r10 -8)  <- 8 at -8
      12: r0 = *(u16 *)(r10 -24)  <- 2 at -24"
    `);
    expect(runEveryWay({ text, maps }).result).toBe(80n);
  });

  test('a key that begins and ends within tiles', () => {
    const text = `
      *(u32 *)(r10 -20) = 1
      *(u32 *)(r10 -16) = 2
      *(u64 *)(r10 -12) = 3
      r1 = map[names]
      r2 = r10
      r2 += -20
      call bpf_map_delete_elem
      exit`;
    expect(kept({ text, maps })).toMatchInlineSnapshot(`"7: call bpf_map_delete_elem#3  <- 8 at -20, 4 at -12, 1 at -8"`);
    expect(runEveryWay({ text, maps }).result).toBe(BigInt.asUintN(64, -2n));
  });

  test('no byte that a path leaves out, and none that a call may write', () => {
    const text = `
      r2 = *(u32 *)(r1 +12)
      *(u32 *)(r10 -8) = 1
      if r2 == 0 goto +1
      *(u32 *)(r10 -4) = 2
      r3 = *(u32 *)(r10 -8)
      r3 = *(u64 *)(r10 -8)
      *(u64 *)(r10 -16) = 3
      *(u64 *)(r10 -24) = 4
      r2 = 0
      r3 = r10
      r3 += -20
      r4 = 8
      call bpf_xdp_load_bytes
      r0 = *(u64 *)(r10 -16)
      r0 = *(u8 *)(r10 -13)
      r0 = *(u32 *)(r10 -12)
      r0 = *(u32 *)(r10 -24)
      exit`;
    expect(kept({ text })).toMatchInlineSnapshot(`
      "4: r3 = *(u32 *)(r10 -8)  <- 4 at -8
      15: r0 = *(u32 *)(r10 -12)  <- 4 at -12
      16: r0 = *(u32 *)(r10 -24)  <- 4 at -24"
    `);
    expect(runEveryWay({ text }).result).toBe(4n);
  });

  test('within blocks only, where a function takes too many steps', () => {
    const text = `
      *(u64 *)(r10 -8) = 1
      *(u64 *)(r10 -16) = 2
      r0 = *(u64 *)(r10 -8)
      if r0 == 0 goto +1
      r0 = *(u64 *)(r10 -16)
      exit`;
    expect(kept({ text })).toMatchInlineSnapshot(`
      "2: r0 = *(u64 *)(r10 -8)  <- 8 at -8
      4: r0 = *(u64 *)(r10 -16)  <- 8 at -16"
    `);
    expect(kept({ text }, 1)).toMatchInlineSnapshot(`"2: r0 = *(u64 *)(r10 -8)  <- 8 at -8"`);
  });

  test('nothing of a frame whose address is given away', () => {
    const text = `
      *(u64 *)(r10 -8) = 1
      r1 = r10
      call write
      r0 = *(u64 *)(r10 -8)
      exit
      write: *(u64 *)(r1 -8) = 5
      r0 = 0
      exit`;
    expect(kept({ text })).toBe('');
    expect(runEveryWay({ text }).result).toBe(5n);
  });
});

describe('what programs see', () => {
  const start = 'r6 = r1\n r7 = 0x8877665544332211 ll\n r8 = 0xffeeddccbbaa9988 ll\n *(u64 *)(r10 -8) = r7\n *(u64 *)(r10 -16) = r8';
  const cases: readonly (readonly [name: string, text: string, result: bigint, behind?: string])[] = [
    ['parts of a slot', 'r0 = *(u16 *)(r10 -6)', 0x4433n],
    ['a byte whose sign is extended', 'r0 = *(s8 *)(r10 -1)', 0xffff_ffff_ffff_ff88n],
    ['a word whose sign is extended', 'r0 = *(s32 *)(r10 -4)', 0xffff_ffff_8877_6655n],
    ['8 bytes of two slots', 'r0 = *(u64 *)(r10 -11)', 0x5544_3322_11ff_eeddn],
    ['4 bytes of two slots', 'r0 = *(u32 *)(r10 -10)', 0x2211_ffeen],
    ['a store into two slots, and the first', '*(u64 *)(r10 -11) = r8\n r0 = *(u64 *)(r10 -16)', 0xaa99_88cc_bbaa_9988n],
    ['a store into two slots, and the second', '*(u64 *)(r10 -11) = r8\n r0 = *(u64 *)(r10 -8)', 0x8877_66ff_eedd_ccbbn],
    ['a short store into two slots', '*(u32 *)(r10 -10) = r8\n r0 = *(u64 *)(r10 -12)', 0x4433_bbaa_9988_ddccn],
    ['a negative number', '*(u16 *)(r10 -14) = -2\n r0 = *(u64 *)(r10 -16)', 0xffee_ddcc_fffe_9988n],
    ['zeros, and ones over them', '*(u32 *)(r10 -8) = 0\n *(u8 *)(r10 -7) = -1\n r0 = *(u64 *)(r10 -8)', 0x8877_6655_0000_ff00n],
    ['zeros beside a byte', '*(u64 *)(r10 -8) = 0\n *(u8 *)(r10 -4) = r7\n r0 = *(u32 *)(r10 -8)', 0n],
    ['a zero beside a byte', '*(u64 *)(r10 -8) = 0\n *(u8 *)(r10 -6) = r7\n r0 = *(u8 *)(r10 -7)', 0n],
    ['zeros beside a word', '*(u64 *)(r10 -8) = 0\n *(u32 *)(r10 -4) = r7\n r0 = *(u16 *)(r10 -6)', 0n],
    ['more than fits', '*(u8 *)(r10 -16) = r7\n *(u8 *)(r10 -15) = r7\n r0 = *(u64 *)(r10 -16)', 0xffee_ddcc_bbaa_1111n],
    ['an atomic in between', 'r1 = 1\n lock *(u64 *)(r10 -8) += r1\n r0 = *(u32 *)(r10 -8)', 0x4433_2212n],
    ['a copy of the frame pointer', 'r1 = r10\n r1 += -12\n *(u16 *)(r1 +2) = 7\n r0 = *(u64 *)(r10 -16)', 0x0007_ddcc_bbaa_9988n],
    [
      'a pointer that may lead to either slot',
      'r2 = *(u32 *)(r6 +12)\n r1 = r10\n r1 += -16\n if r2 != 0 goto +1\n r1 += 8\n *(u64 *)(r1 +0) = 5\n r0 = *(u64 *)(r10 -16)',
      5n,
    ],
    [
      'a loop that builds on what it left',
      'r1 = 4\n again: r2 = *(u64 *)(r10 -8)\n r2 <<= 1\n *(u64 *)(r10 -8) = r2\n r3 = *(u8 *)(r10 -5)\n *(u8 *)(r10 -16) = r3\n r1 += -1\n if r1 != 0 goto again\n r0 = *(u64 *)(r10 -16)',
      0xffee_ddcc_bbaa_9943n,
    ],
    [
      'paths that left other bytes',
      'r1 = *(u32 *)(r6 +12)\n if r1 != 0 goto more\n *(u16 *)(r10 -32) = 1\n *(u8 *)(r10 -30) = 7\n goto met\n more: *(u16 *)(r10 -30) = 0x702\n *(u16 *)(r10 -32) = 3\n met: *(u8 *)(r10 -30) = r7\n *(u8 *)(r10 -29) = r8\n r0 = *(u32 *)(r10 -32)',
      0x8811_0003n,
    ],
    [
      'the same slot in a function',
      'r1 = r7\n call add\n r1 = *(u32 *)(r10 -8)\n r0 += r1',
      0x4433_2211n + 0x18n,
      'add: *(u8 *)(r10 -8) = r1\n *(u8 *)(r10 -7) = 7\n r0 = *(u8 *)(r10 -8)\n r1 = *(u8 *)(r10 -7)\n r0 += r1\n exit',
    ],
    [
      'instructions that two functions share',
      'r1 = r10\n r1 ^= 0\n call f\n *(u64 *)(r10 -8) = 1\n r2 = r10\n goto shared',
      5n,
      'f: r2 = r1\n shared: *(u64 *)(r2 -8) = 5\n r0 = *(u64 *)(r2 -8)\n exit',
    ],
    [
      'a slot that a function reads',
      'r1 = r10\n call get\n r1 = *(u8 *)(r10 -8)\n r0 += r1',
      0x8877_6655_4433_2211n + 0x11n,
      'get: r0 = *(u64 *)(r1 -8)\n exit',
    ],
    [
      'slots that a callback changes',
      'r1 = 3\n r2 = subprog[turn]\n r3 = r10\n r4 = 0\n call bpf_loop\n r0 = *(u64 *)(r10 -16)',
      0xffee_ddcc_bbaa_998bn,
      'turn: r1 = *(u64 *)(r2 -16)\n r1 += 1\n *(u64 *)(r2 -16) = r1\n r0 = 0\n exit',
    ],
  ];
  test.each(cases)('%s', (_name, text, result, behind = '') => {
    expect(runEveryWay({ text: `${start}\n ${text}\n exit\n ${behind}` }).result).toBe(result);
  });

  test('any stores and loads: as of a row of bytes', () => {
    const access = fc.record({
      isLoad: fc.boolean(),
      bits: fc.constantFrom(8, 16, 32, 64),
      at: fc.integer({ min: -40, max: -8 }),
      number: fc.option(fc.constantFrom(0, 0, -1, 0x1234_5678), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(access, { minLength: 4, maxLength: 24 }), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (accesses, seed) => {
        const frame = new DataView(new ArrayBuffer(40));
        const lines = [`r1 = 0x${seed.toString(16)} ll`, 'r0 = r1', ...[40, 32, 24, 16, 8].map((at) => `*(u64 *)(r10 -${at}) = 0`)];
        let sum = seed;
        for (const { isLoad, bits, at, number } of accesses) {
          const bytes = Array.from({ length: bits / 8 }, (_, byte) => at + 40 + byte);
          const place = `*(u${bits} *)(r10 -${-at})`;
          if (isLoad) {
            const value = bytes.reduceRight((all, byte) => (all << 8n) | BigInt(frame.getUint8(byte)), 0n);
            sum = BigInt.asUintN(64, sum * 31n + value);
            lines.push(`r2 = ${place}`, 'r0 *= 31', 'r0 += r2');
          } else {
            const value = number === undefined ? sum : BigInt(number);
            for (const [index, byte] of bytes.entries()) frame.setUint8(byte, Number((value >> BigInt(8 * index)) & 0xffn));
            lines.push(`${place} = ${number ?? 'r0'}`);
          }
        }
        expect(runEveryWay({ text: [...lines, 'exit'].join('\n') }).result).toBe(sum);
      }),
      { numRuns: 200 },
    );
  });
});
