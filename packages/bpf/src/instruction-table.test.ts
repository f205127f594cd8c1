/** Every instruction, side by side: constructor, bytes (opcode, registers, offset, imm), text. */
import { describe, expect, it } from 'vitest';
import { assemble } from './assembler.ts';
import { disassembleInstruction } from './disassembler.ts';
import { decode, encode } from './encoding.ts';
import { Helper } from './helper.ts';
import { insn, reg } from './insn.ts';
import type { Instruction } from './instruction.ts';

const table: readonly [made: Instruction, bytes: string, text: string][] = [
  [insn.alu64('add', 1, reg(2)), '0f 21 0000 00000000', 'r1 += r2'],
  [insn.alu64('add', 0, 5), '07 00 0000 05000000', 'r0 += 5'],
  [insn.alu64('sub', 10, -8), '17 0a 0000 f8ffffff', 'r10 -= -8'],
  [insn.alu64('mul', 1, reg(10)), '2f a1 0000 00000000', 'r1 *= r10'],
  [insn.alu64('div', 1, 3), '37 01 0000 03000000', 'r1 /= 3'],
  [insn.alu64('sdiv', 1, 3), '37 01 0100 03000000', 'r1 s/= 3'],
  [insn.alu64('or', 1, reg(2)), '4f 21 0000 00000000', 'r1 |= r2'],
  [insn.alu64('and', 1, 255), '57 01 0000 ff000000', 'r1 &= 255'],
  [insn.alu64('lsh', 1, 32), '67 01 0000 20000000', 'r1 <<= 32'],
  [insn.alu32('rsh', 1, 3), '74 01 0000 03000000', 'w1 >>= 3'],
  [insn.alu32('mod', 1, reg(2)), '9c 21 0000 00000000', 'w1 %= w2'],
  [insn.alu32('smod', 1, reg(2)), '9c 21 0100 00000000', 'w1 s%= w2'],
  [insn.alu32('xor', 1, -1), 'a4 01 0000 ffffffff', 'w1 ^= -1'],
  [insn.alu64('arsh', 1, reg(2)), 'cf 21 0000 00000000', 'r1 s>>= r2'],
  [insn.mov(1, reg(2)), 'bf 21 0000 00000000', 'r1 = r2'],
  [insn.mov(1, -2), 'b7 01 0000 feffffff', 'r1 = -2'],
  [insn.mov32(1, reg(2)), 'bc 21 0000 00000000', 'w1 = w2'],
  [insn.mov32(1, 7), 'b4 01 0000 07000000', 'w1 = 7'],
  [insn.movsx(1, 2, 8), 'bf 21 0800 00000000', 'r1 = (s8)r2'],
  [insn.movsx(1, 2, 32), 'bf 21 2000 00000000', 'r1 = (s32)r2'],
  [insn.movsx32(1, 2, 16), 'bc 21 1000 00000000', 'w1 = (s16)w2'],
  [insn.castAddressSpace(1, 2, 0, 1), 'bf 21 0100 01000000', 'r1 = addr_space_cast(r2, 0, 1)'],
  [insn.neg(1), '87 01 0000 00000000', 'r1 = -r1'],
  [insn.neg32(1), '84 01 0000 00000000', 'w1 = -w1'],
  [insn.toBe(1, 16), 'dc 01 0000 10000000', 'r1 = be16 r1'],
  [insn.toLe(1, 32), 'd4 01 0000 20000000', 'r1 = le32 r1'],
  [insn.bswap(1, 64), 'd7 01 0000 40000000', 'r1 = bswap64 r1'],

  [insn.jump('gt', 1, reg(2), 5), '2d 21 0500 00000000', 'if r1 > r2 goto pc+5'],
  [insn.jump('eq', 1, 0, -2), '15 01 feff 00000000', 'if r1 == 0x0 goto pc-2'],
  [insn.jump('ne', 1, -1, 1), '55 01 0100 ffffffff', 'if r1 != 0xffffffff goto pc+1'],
  [insn.jump('ge', 1, 2, 1), '35 01 0100 02000000', 'if r1 >= 0x2 goto pc+1'],
  [insn.jump('set', 1, 2, 1), '45 01 0100 02000000', 'if r1 & 0x2 goto pc+1'],
  [insn.jump('lt', 1, 2, 1), 'a5 01 0100 02000000', 'if r1 < 0x2 goto pc+1'],
  [insn.jump('le', 1, 2, 1), 'b5 01 0100 02000000', 'if r1 <= 0x2 goto pc+1'],
  [insn.jump32('sgt', 1, reg(2), 1), '6e 21 0100 00000000', 'if w1 s> w2 goto pc+1'],
  [insn.jump32('sge', 1, reg(2), 1), '7e 21 0100 00000000', 'if w1 s>= w2 goto pc+1'],
  [insn.jump32('slt', 1, reg(2), 1), 'ce 21 0100 00000000', 'if w1 s< w2 goto pc+1'],
  [insn.jump32('sle', 1, 3, 1), 'd6 01 0100 03000000', 'if w1 s<= 0x3 goto pc+1'],
  [insn.ja(5), '05 00 0500 00000000', 'goto pc+5'],
  [insn.ja32(-70_000), '06 00 0000 90eefeff', 'gotol pc-70000'],
  [insn.mayGoto(3), 'e5 00 0300 00000000', 'may_goto pc+3'],
  [insn.call(Helper.tail_call), '85 00 0000 0c000000', 'call bpf_tail_call#12'],
  [insn.call(9999), '85 00 0000 0f270000', 'call unknown#9999'],
  [insn.callRegister(2), '8d 02 0000 00000000', 'callx r2'],
  [insn.callSubprogram(5), '85 10 0000 05000000', 'call pc+5'],
  [insn.callKfunc(42), '85 20 0000 2a000000', 'call kernel-function#42'],
  [insn.callKfunc(42, 3), '85 20 0300 2a000000', 'call kernel-function#42@3'],
  [insn.exit(), '95 00 0000 00000000', 'exit'],

  [insn.load(1, 1, 2, 0), '71 21 0000 00000000', 'r1 = *(u8 *)(r2 +0)'],
  [insn.load(2, 1, 2, 12), '69 21 0c00 00000000', 'r1 = *(u16 *)(r2 +12)'],
  [insn.load(4, 1, 2, 8), '61 21 0800 00000000', 'r1 = *(u32 *)(r2 +8)'],
  [insn.load(8, 1, 10, -8), '79 a1 f8ff 00000000', 'r1 = *(u64 *)(r10 -8)'],
  [insn.loadSx(1, 1, 2, 8), '91 21 0800 00000000', 'r1 = *(s8 *)(r2 +8)'],
  [insn.loadSx(4, 1, 2, 8), '81 21 0800 00000000', 'r1 = *(s32 *)(r2 +8)'],
  [insn.store(8, 10, -8, 1), '7b 1a f8ff 00000000', '*(u64 *)(r10 -8) = r1'],
  [insn.storeImm(4, 10, -4, 7), '62 0a fcff 07000000', '*(u32 *)(r10 -4) = 7'],
  [insn.atomic('add', 8, 1, 0, 2), 'db 21 0000 00000000', 'lock *(u64 *)(r1 +0) += r2'],
  [insn.atomic('or', 4, 1, 4, 2), 'c3 21 0400 40000000', 'lock *(u32 *)(r1 +4) |= r2'],
  [insn.atomic('and', 8, 1, 0, 2), 'db 21 0000 50000000', 'lock *(u64 *)(r1 +0) &= r2'],
  [insn.atomic('xor', 8, 1, 0, 2), 'db 21 0000 a0000000', 'lock *(u64 *)(r1 +0) ^= r2'],
  [insn.atomic('fetchAdd', 8, 1, 0, 2), 'db 21 0000 01000000', 'r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)'],
  [insn.atomic('fetchXor', 4, 1, -4, 2), 'c3 21 fcff a1000000', 'r2 = atomic_fetch_xor((u32 *)(r1 -4), r2)'],
  [insn.atomic('xchg', 8, 1, 0, 2), 'db 21 0000 e1000000', 'r2 = atomic64_xchg((u64 *)(r1 +0), r2)'],
  [insn.atomic('cmpxchg', 4, 1, 0, 2), 'c3 21 0000 f1000000', 'r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)'],
  [insn.atomic('loadAcquire', 2, 1, 4, 2), 'cb 21 0400 00010000', 'r1 = load_acquire((u16 *)(r2 +4))'],
  [insn.atomic('storeRelease', 1, 1, 4, 2), 'd3 21 0400 10010000', 'store_release((u8 *)(r1 +4), r2)'],

  [insn.wide(1, 5n), '18 01 0000 05000000 00 00 0000 00000000', 'r1 = 0x5 ll'],
  [insn.wide(1, -2n), '18 01 0000 feffffff 00 00 0000 ffffffff', 'r1 = 0xfffffffffffffffe ll'],
  [insn.wide(1, 0x1_8000_0000n), '18 01 0000 00000080 00 00 0000 01000000', 'r1 = 0x180000000 ll'],
  [insn.wideMap(1, 7), '18 11 0000 07000000 00 00 0000 00000000', 'r1 = map[fd:7]'],
  [insn.wideMapValue(1, 16, 7), '18 21 0000 07000000 00 00 0000 10000000', 'r1 = map[fd:7][0]+16'],
  [insn.wideFunction(1, 5), '18 41 0000 05000000 00 00 0000 00000000', 'r1 = subprog[+5]'],
];

describe('instruction table', () => {
  it.each(table.map(([made, bytes, text]) => ({ text, made, bytes })))('$text', ({ made, bytes, text }) => {
    const raw = Uint8Array.from(Buffer.from(bytes.replaceAll(' ', ''), 'hex'));
    expect(encode([made])).toEqual(raw);
    expect(decode(raw)).toEqual([made]);
    expect(disassembleInstruction(made)).toBe(text);
    expect(assemble(text).instructions).toEqual([made]);
  });

  it.each([
    ['18 51 0000 03000000 00 00 0000 00000000', 'r1 = map[idx:3]'],
    ['18 61 0000 03000000 00 00 0000 08000000', 'r1 = map[idx:3][0]+8'],
    ['18 31 0000 05000000 00 00 0000 03000000', 'r1 = btf_id[5@3]'],
    ['30 00 0000 0c000000', 'r0 = *(u8 *)skb[12]'],
    ['48 10 0000 0c000000', 'r0 = *(u16 *)skb[r1 + 12]'],
  ])('%s is %s, without a constructor', (bytes, text) => {
    const raw = Uint8Array.from(Buffer.from(bytes.replaceAll(' ', ''), 'hex'));
    const [made] = decode(raw);
    expect(made && disassembleInstruction(made)).toBe(text);
    expect(encode(assemble(text).instructions)).toEqual(raw);
  });
});

describe('constructors', () => {
  it.each([
    ['a register past r10', () => insn.mov(11, 0), 'dst of opcode 0xb7 is 11, expected a register 0 to 10'],
    ['a source past r10', () => insn.mov(0, reg(-1)), 'src of opcode 0xbf is -1, expected a register 0 to 10'],
    ['an immediate past 31 bits', () => insn.mov(0, 2 ** 31), 'imm of opcode 0xb7 is 2147483648, expected a signed 32-bit integer'],
    ['a fraction', () => insn.mov(0, 0.5), 'imm of opcode 0xb7 is 0.5, expected a signed 32-bit integer'],
    ['a far offset', () => insn.load(4, 0, 1, 40_000), 'offset of opcode 0x61 is 40000, expected a signed 16-bit integer'],
    ['a far jump', () => insn.ja(-32_769), 'offset of opcode 0x05 is -32769, expected a signed 16-bit integer'],
    [
      'a narrow atomic',
      () => insn.atomic('add', 1, 1, 0, 2),
      'imm of opcode 0xd3 is 0, expected load-acquire or store-release at 1 and 2 bytes',
    ],
    ['a cast within a space', () => insn.castAddressSpace(1, 2, 0, 0), 'imm of opcode 0xbf is 0, expected 1 or 65536 for a cast'],
  ])('refuse %s', (_name, make, message) => {
    expect(make).toThrow(expect.objectContaining({ code: 'encoding', message, field: message.split(' ')[0] }));
  });
});

describe('decode', () => {
  it.each([
    ['b7000000', 'a program of 4 bytes, expected a multiple of 8'],
    ['fe00000000000000', 'pc 0: opcode is 0xfe, expected a known opcode'],
    ['95000000000000000710000001000000', 'pc 1: src of opcode 0x07 is 1, expected 0'],
    ['bf0b000000000000', 'pc 0: dst of opcode 0xbf is 11, expected a register 0 to 10'],
    ['1800000000000000', 'pc 0: a wide instruction is cut off, expected two slots'],
    ['18000000000000000100000000000000', "pc 1: opcode of a wide instruction's second slot is 1, expected 0"],
    ['18100000010000000000000001000000', 'pc 0: immHigh of opcode 0x18 is 1, expected 0'],
    ['dc00000018000000', 'pc 0: imm of opcode 0xdc is 24, expected 16, 32 or 64'],
    ['8530000001000000', 'pc 0: src of opcode 0x85 is 3, expected 0 (helper), 1 (subprogram) or 2 (kfunc)'],
  ])('refuses %s', (bytes, message) => {
    expect(() => decode(Uint8Array.from(Buffer.from(bytes, 'hex')))).toThrow(expect.objectContaining({ code: 'encoding', message }));
  });
});
