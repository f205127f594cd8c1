import { describe, expect, it } from 'vitest';
import { assemble } from './assembler.ts';
import { disassemble } from './disassembler.ts';
import { Helper } from './helper.ts';
import { insn, reg } from './insn.ts';
import { AssemblyError } from './scanner.ts';

const source = `
; counts packets, then goes on to the next stage
main:
  *(u32 *)(r10 -4) = 0            // key
  r6 = r1
  r2 = r10
  r2 += -4
  r1 = map[l4lb/conns]
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = 1
  lock *(u64 *)(r0 +0) += r1
out: r1 = r6
  call next
  exit
next:
  r2 = map[totals][0]+8
  r0 = *(u64 *)(r2 +0)
  exit
`;

describe('assemble', () => {
  it('resolves labels, maps and helpers by name', () => {
    const { instructions, mapReferences, labels } = assemble(source);
    expect(instructions).toEqual([
      insn.storeImm(4, 10, -4, 0),
      insn.mov(6, reg(1)),
      insn.mov(2, reg(10)),
      insn.alu64('add', 2, -4),
      insn.wideMap(1),
      insn.call(Helper.map_lookup_elem),
      insn.jump('eq', 0, 0, 2),
      insn.mov(1, 1),
      insn.atomic('add', 8, 0, 0, 1),
      insn.mov(1, reg(6)),
      insn.callSubprogram(1),
      insn.exit(),
      insn.wideMapValue(2, 8),
      insn.load(8, 0, 2, 0),
      insn.exit(),
    ]);
    expect(mapReferences).toEqual([
      { pc: 4, map: 'l4lb/conns' },
      { pc: 13, map: 'totals', valueOffset: 8 },
    ]);
    expect([...labels]).toEqual([
      ['main', 0],
      ['out', 10],
      ['next', 13],
    ]);
  });

  it('reads back a listing with names and lines', () => {
    const assembly = assemble(source);
    const functions = [
      { pc: 0, name: 'main' },
      { pc: 13, name: 'next' },
    ];
    const lines = [{ pc: 0, file: 'count.ts', line: 3, column: 5, text: '  const hits = totals.lookup(0);' }];
    const listing = disassemble(assembly.instructions, { ...assembly, functions, lines });
    expect(listing).toMatchInlineSnapshot(`
      "main:
      ; const hits = totals.lookup(0); @ count.ts:3
      0: *(u32 *)(r10 -4) = 0
      1: r6 = r1
      2: r2 = r10
      3: r2 += -4
      4: r1 = map[l4lb/conns]
      6: call bpf_map_lookup_elem#1
      7: if r0 == 0x0 goto pc+2
      8: r1 = 1
      9: lock *(u64 *)(r0 +0) += r1
      10: r1 = r6
      11: call pc+1
      12: exit
      next:
      13: r2 = map[totals][0]+8
      15: r0 = *(u64 *)(r2 +0)
      16: exit"
    `);
    const again = assemble(listing);
    expect(again.instructions).toEqual(assembly.instructions);
    expect(again.mapReferences).toEqual(assembly.mapReferences);
  });

  it.each([
    ['goto +5', insn.ja(5)],
    ['if w1 s>= 3 goto +1', insn.jump32('sge', 1, 3, 1)],
    ['if r1 == 0xffffffff goto pc+0', insn.jump('eq', 1, -1, 0)],
    ['w1 = 0xffffffff', insn.mov32(1, -1)],
    ['*(u32*)(r1+4)=0xffffffff', insn.storeImm(4, 1, 4, -1)],
    ['r1 = -1 ll', insn.wide(1, -1n)],
    ['r1 = 18446744073709551615 ll', insn.wide(1, -1n)],
    ['call 12', insn.call(12)],
    ['call bpf_tail_call', insn.call(12)],
    ['call -1', insn.call(-1)],
    ['0: exit ; the end', insn.exit()],
  ])('takes %s', (text, expected) => {
    expect(assemble(text).instructions).toEqual([expected]);
  });

  it('refuses with a caret', () => {
    const texts = [
      'r11 = 0',
      'r1 = w2',
      'r1 = 0xffffffff',
      'r1 = 2147483648',
      'r1 =',
      'r1 ~= 2',
      'r1 = 0x1ffffffffffffffff ll',
      'w1 = (s32)w2',
      'r1 = be16 r2',
      'r1 = *(u24 *)(r2 +0)',
      'r1 = *(s64 *)(r2 +0)',
      'r1 = *(u64 *)(r2 +40000)',
      'r1 = *(u64 *)(r2)',
      'r3 = atomic64_fetch_add((u64 *)(r1 +0), r2)',
      'r2 = atomic64_fetch_sub((u64 *)(r1 +0), r2)',
      'r2 = atomic64_xchg((u32 *)(r1 +0), r2)',
      'lock *(u8 *)(r1 +0) += r2',
      'lock *(u64 *)(r1 +0) -= r2',
      'r1 = *(u8 *)skb[12]',
      'if r1 <> r2 goto +1',
      'if r1 == r2 exit',
      'goto nowhere',
      'a: exit\na: exit',
      '  3: exit',
      'call bpf_lookup',
      'call bpf_tail_call#13',
      'exit now',
      'ret',
      'r1 = map[]',
    ];
    expect(texts.map(render).join('\n')).toMatchInlineSnapshot(`
      "line 1, column 1: expected a register r0 to r10
      1 | r11 = 0
          ^
      line 1, column 6: expected a register r0 to r10
      1 | r1 = w2
               ^
      line 1, column 6: 0xffffffff does not fit a signed 32-bit immediate
      1 | r1 = 0xffffffff
               ^
      line 1, column 6: 2147483648 does not fit a signed 32-bit immediate
      1 | r1 = 2147483648
               ^
      line 1, column 5: expected a register or a number
      1 | r1 =
              ^
      line 1, column 4: expected '=' or an operator like '+='
      1 | r1 ~= 2
             ^
      line 1, column 6: 36893488147419103231 does not fit 64 bits
      1 | r1 = 0x1ffffffffffffffff ll
               ^
      line 1, column 13: w registers extend from s8 and s16
      1 | w1 = (s32)w2
                      ^
      line 1, column 11: expected r1, this works in place
      1 | r1 = be16 r2
                    ^
      line 1, column 9: expected 8, 16, 32 or 64 bits
      1 | r1 = *(u24 *)(r2 +0)
                  ^
      line 1, column 7: s64 is spelt u64
      1 | r1 = *(s64 *)(r2 +0)
                ^
      line 1, column 18: 40000 does not fit a signed 16-bit offset
      1 | r1 = *(u64 *)(r2 +40000)
                           ^
      line 1, column 17: expected an offset like +8
      1 | r1 = *(u64 *)(r2)
                          ^
      line 1, column 41: the old value goes to r2, not r3
      1 | r3 = atomic64_fetch_add((u64 *)(r1 +0), r2)
                                                  ^
      line 1, column 6: unknown atomic fetch_sub
      1 | r2 = atomic64_fetch_sub((u64 *)(r1 +0), r2)
               ^
      line 1, column 20: expected u64
      1 | r2 = atomic64_xchg((u32 *)(r1 +0), r2)
                             ^
      line 1, column 1: imm of opcode 0xd3 is 0, expected load-acquire or store-release at 1 and 2 bytes
      1 | lock *(u8 *)(r1 +0) += r2
          ^
      line 1, column 23: expected '+=', '|=', '&=' or '^='
      1 | lock *(u64 *)(r1 +0) -= r2
                                ^
      line 1, column 17: skb[] loads into r0
      1 | r1 = *(u8 *)skb[12]
                          ^
      line 1, column 8: expected a register or a number
      1 | if r1 <> r2 goto +1
                 ^
      line 1, column 13: expected 'goto'
      1 | if r1 == r2 exit
                      ^
      line 1, column 6: unknown label nowhere
      1 | goto nowhere
               ^
      line 2, column 1: label a is defined twice
      2 | a: exit
          ^
      line 1, column 3: this line is at pc 0
      1 |   3: exit
            ^
      line 1, column 6: unknown helper bpf_lookup
      1 | call bpf_lookup
               ^
      line 1, column 6: bpf_tail_call is #12
      1 | call bpf_tail_call#13
               ^
      line 1, column 6: expected the end of the line
      1 | exit now
               ^
      line 1, column 1: expected an instruction
      1 | ret
          ^
      line 1, column 10: expected a map
      1 | r1 = map[]
                   ^"
    `);
  });
});

function render(text: string): string {
  try {
    assemble(text);
  } catch (error) {
    if (error instanceof AssemblyError) return error.render();
    throw error;
  }
  return 'assembled';
}
