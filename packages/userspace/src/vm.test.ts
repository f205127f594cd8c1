/**
 * Every instruction of RFC 9669 as data: what goes in, what has to come out, by interpreter and WebAssembly. Results are
 * written down here, not computed.
 */
import {
  type AluOperation,
  assemble,
  EncodingError,
  type Instruction,
  insn,
  type JumpCondition,
  reg,
  UnsupportedError,
} from '@tailrace/bpf';
import { describe, expect, test } from 'vitest';
import { runProgram } from './vm.ts';

const MODES = ['interpreter', 'wasm'] as const;

/** Runs a program both ways on copies of a block of memory; gives what they agree on. */
function run(program: readonly Instruction[], memory: Uint8Array = new Uint8Array(0)): { readonly value: bigint; readonly memory: string } {
  const [reference, translated] = MODES.map((mode) => {
    const result = runProgram(program, memory, { mode });
    return { value: result.value, memory: Buffer.from(result.memory).toString('hex') };
  });
  expect(translated).toEqual(reference);
  return reference as { value: bigint; memory: string };
}

function runText(text: string, memory?: Uint8Array): { readonly value: bigint; readonly memory: string } {
  return run(assemble(text).instructions, memory);
}

/** The message that both ways end a program with. */
function refusal(text: string, memory: Uint8Array = new Uint8Array(0)): string {
  const [reference, translated] = MODES.map((mode) => {
    try {
      return `r0 = ${runProgram(assemble(text).instructions, memory, { mode }).value}`;
    } catch (error) {
      return (error as Error).message;
    }
  });
  expect(translated).toBe(reference);
  return reference as string;
}

const MIN64 = 0x8000_0000_0000_0000n;
const MAX64 = 0xffff_ffff_ffff_ffffn;

describe('arithmetic', () => {
  /** Operation, both operands, what 64 bits give, what 32 bits give of the same operands. */
  const rows: readonly (readonly [operation: AluOperation, left: bigint, right: bigint, wide: bigint, narrow: bigint])[] = [
    ['add', 2n, 3n, 5n, 5n],
    ['add', MAX64, 1n, 0n, 0n],
    ['add', 0x1_ffff_ffffn, 2n, 0x2_0000_0001n, 1n],
    ['sub', 3n, 5n, 0xffff_ffff_ffff_fffen, 0xffff_fffen],
    ['sub', 0x1_0000_0000n, 1n, 0xffff_ffffn, 0xffff_ffffn],
    ['mul', 0x1_0000_0003n, 5n, 0x5_0000_000fn, 15n],
    ['mul', MAX64, MAX64, 1n, 1n],
    ['div', 100n, 7n, 14n, 14n],
    ['div', 0x1_0000_0064n, 7n, 613_566_770n, 14n],
    ['div', 7n, 0n, 0n, 0n],
    ['div', 0x1_0000_0007n, 0x1_0000_0000n, 1n, 0n],
    ['div', MAX64, MAX64, 1n, 1n],
    ['div', MIN64, MAX64, 0n, 0n],
    ['sdiv', 100n, -7n, -14n, -14n],
    ['sdiv', -100n, 7n, -14n, -14n],
    ['sdiv', -100n, -7n, 14n, 14n],
    ['sdiv', -5n, 0n, 0n, 0n],
    ['sdiv', MIN64, -1n, MIN64, 0n],
    ['sdiv', 0x8000_0000n, -1n, -0x8000_0000n, 0x8000_0000n],
    ['mod', 100n, 7n, 2n, 2n],
    ['mod', 0x1_0000_0064n, 0n, 0x1_0000_0064n, 100n],
    ['mod', MAX64, 10n, 5n, 5n],
    ['mod', 9n, 0x1_0000_0000n, 9n, 9n],
    ['smod', -100n, 7n, -2n, -2n],
    ['smod', 100n, -7n, 2n, 2n],
    ['smod', -100n, -7n, -2n, -2n],
    ['smod', MIN64, -1n, 0n, 0n],
    ['smod', 0x8000_0000n, -1n, 0n, 0n],
    ['smod', -5n, 0n, -5n, -5n],
    ['or', 0xf0f0_0000_1234n, 0x0f0fn, 0xf0f0_0000_1f3fn, 0x1f3fn],
    ['or', 1n, -2n, -1n, -1n],
    ['and', MAX64, 0x7fff_0ff0n, 0x7fff_0ff0n, 0x7fff_0ff0n],
    ['and', 0x1234_5678_9abc_def0n, -256n, 0x1234_5678_9abc_de00n, 0x9abc_de00n],
    ['xor', MAX64, 0xffn, 0xffff_ffff_ffff_ff00n, 0xffff_ff00n],
    ['xor', 5n, -1n, -6n, -6n],
    ['lsh', 1n, 31n, 0x8000_0000n, 0x8000_0000n],
    ['lsh', 1n, 32n, 0x1_0000_0000n, 1n],
    ['lsh', 1n, 63n, MIN64, 0x8000_0000n],
    ['lsh', 3n, 64n, 3n, 3n],
    ['lsh', 3n, -1n, MIN64, 0x8000_0000n],
    ['rsh', MIN64, 63n, 1n, 0n],
    ['rsh', 0xffff_ffff_8000_0000n, 31n, 0x1_ffff_ffffn, 1n],
    ['rsh', 0x10n, 36n, 0n, 1n],
    ['rsh', 0x10n, 68n, 1n, 1n],
    ['arsh', MIN64, 63n, MAX64, 0n],
    ['arsh', 0x8000_0000n, 4n, 0x800_0000n, 0xf800_0000n],
    ['arsh', -16n, 2n, -4n, -4n],
    ['arsh', -16n, 66n, -4n, -4n],
  ];
  const low = (value: bigint): number => Number(BigInt.asIntN(32, value));

  test.each(rows)('%s of %s and %s', (operation, left, right, wide, narrow) => {
    // r1: the block of memory; a result a slot of 8 bytes: by register and by immediate, 64 bits and 32
    const program = [
      insn.wide(6, left),
      insn.wide(7, right),
      insn.mov(2, reg(6)),
      insn.alu64(operation, 2, reg(7)),
      insn.store(8, 1, 0, 2),
      insn.mov(2, reg(6)),
      insn.alu32(operation, 2, reg(7)),
      insn.store(8, 1, 8, 2),
      insn.mov(2, reg(6)),
      insn.alu32(operation, 2, low(right)),
      insn.store(8, 1, 16, 2),
      // an immediate has 32 bits and a sign
      insn.mov(2, reg(6)),
      insn.alu64(operation, 2, low(right)),
      insn.store(8, 1, 24, 2),
      insn.mov(0, 0),
      insn.exit(),
    ];
    const isImmediate = BigInt.asIntN(64, right) === BigInt.asIntN(32, right);
    const words = [BigInt.asUintN(64, wide), BigInt.asUintN(32, narrow), BigInt.asUintN(32, narrow), BigInt.asUintN(64, wide)];
    const found = new BigUint64Array(Uint8Array.from(Buffer.from(run(program, new Uint8Array(32)).memory, 'hex')).buffer);
    expect([...found].slice(0, isImmediate ? 4 : 3)).toEqual(words.slice(0, isImmediate ? 4 : 3));
  });

  const values: readonly (readonly [text: string, result: bigint])[] = [
    ['r0 = -5', -5n],
    ['w0 = -5', 0xffff_fffbn],
    ['r1 = 0x123456789abcdef0 ll\n r0 = r1', 0x1234_5678_9abc_def0n],
    ['r1 = 0x123456789abcdef0 ll\n w0 = w1', 0x9abc_def0n],
    ['r1 = 0x1280 ll\n r0 = (s8)r1', -128n],
    ['r1 = 0x127f ll\n r0 = (s8)r1', 127n],
    ['r1 = 0x18000 ll\n r0 = (s16)r1', -32_768n],
    ['r1 = 0x180000000 ll\n r0 = (s32)r1', -0x8000_0000n],
    ['r1 = 0x1280 ll\n w0 = (s8)w1', 0xffff_ff80n],
    ['r1 = 0x18000 ll\n w0 = (s16)w1', 0xffff_8000n],
    ['r1 = 0xff00000012 ll\n w0 = (s8)w1', 0x12n],
    ['r0 = 5\n r0 = -r0', -5n],
    ['r0 = 0x8000000000000000 ll\n r0 = -r0', MIN64],
    ['r0 = 5\n w0 = -w0', 0xffff_fffbn],
    ['r0 = 0x100000000 ll\n w0 = -w0', 0n],
    ['r0 = 0x123456789abcdef0 ll\n r0 = bswap16 r0', 0xf0den],
    ['r0 = 0x123456789abcdef0 ll\n r0 = bswap32 r0', 0xf0de_bc9an],
    ['r0 = 0x123456789abcdef0 ll\n r0 = bswap64 r0', 0xf0de_bc9a_7856_3412n],
    ['r0 = 0x123456789abcdef0 ll\n r0 = be16 r0', 0xf0den],
    ['r0 = 0x123456789abcdef0 ll\n r0 = be32 r0', 0xf0de_bc9an],
    ['r0 = 0x123456789abcdef0 ll\n r0 = be64 r0', 0xf0de_bc9a_7856_3412n],
    ['r0 = 0x123456789abcdef0 ll\n r0 = le16 r0', 0xdef0n],
    ['r0 = 0x123456789abcdef0 ll\n r0 = le32 r0', 0x9abc_def0n],
    ['r0 = 0x123456789abcdef0 ll\n r0 = le64 r0', 0x1234_5678_9abc_def0n],
    ['r0 = 0xfedcba9876543210 ll', 0xfedc_ba98_7654_3210n],
    ['r0 = 0xffffffff ll', 0xffff_ffffn],
    // registers start as 0, but for what a program is given
    ['r0 = r6\n r0 |= r7\n r0 |= r8\n r0 |= r9\n r0 |= r3\n r0 |= r1\n r0 |= r2', 0n],
  ];
  test.each(values)('%s', (text, result) => {
    expect(runText(`${text}\n exit`).value).toBe(BigInt.asUintN(64, result));
  });
});

describe('jumps', () => {
  /** Condition, both operands, whether it jumps with 64 bits, and with the lower 32 of the same operands. */
  const rows: readonly (readonly [condition: JumpCondition, left: bigint, right: bigint, wide: boolean, narrow: boolean])[] = [
    ['eq', 5n, 5n, true, true],
    ['eq', 0x1_0000_0005n, 5n, false, true],
    ['eq', -1n, -1n, true, true],
    ['ne', 5n, 6n, true, true],
    ['ne', 0x1_0000_0005n, 5n, true, false],
    ['gt', 6n, 5n, true, true],
    ['gt', 5n, 5n, false, false],
    ['gt', -1n, 5n, true, true],
    ['gt', 0x1_0000_0000n, 5n, true, false],
    ['gt', 5n, -1n, false, false],
    ['ge', 5n, 5n, true, true],
    ['ge', 4n, 5n, false, false],
    ['ge', 0x1_0000_0000n, 5n, true, false],
    ['lt', 4n, 5n, true, true],
    ['lt', 5n, 5n, false, false],
    ['lt', 0x1_0000_0000n, 5n, false, true],
    ['lt', 4n, -1n, true, true],
    ['le', 5n, 5n, true, true],
    ['le', 6n, 5n, false, false],
    ['le', 0x1_0000_0000n, 5n, false, true],
    ['set', 6n, 2n, true, true],
    ['set', 5n, 2n, false, false],
    ['set', 0x1_0000_0000n, -1n, true, false],
    ['set', MIN64, MIN64, true, false],
    ['sgt', 1n, -1n, true, true],
    ['sgt', -1n, 1n, false, false],
    ['sgt', 0x8000_0000n, 0n, true, false],
    ['sge', -1n, -1n, true, true],
    ['sge', -2n, -1n, false, false],
    ['sge', 0x8000_0000n, 0n, true, false],
    ['slt', -1n, 1n, true, true],
    ['slt', 1n, -1n, false, false],
    ['slt', 0x8000_0000n, 0n, false, true],
    ['slt', MIN64, 0n, true, false],
    ['sle', -1n, -1n, true, true],
    ['sle', 0n, -1n, false, false],
    ['sle', 0x8000_0000n, 0n, false, true],
  ];
  test.each(rows)('%s of %s and %s', (condition, left, right, wide, narrow) => {
    const low = Number(BigInt.asIntN(32, right));
    const jumps = [
      insn.jump(condition, 6, reg(7), 1),
      insn.jump(condition, 6, low, 1),
      insn.jump32(condition, 6, reg(7), 1),
      insn.jump32(condition, 6, low, 1),
    ];
    // each that does not jump takes its bit away
    const program = [
      insn.wide(6, left),
      insn.wide(7, right),
      insn.mov(0, 15),
      ...jumps.flatMap((jump, bit) => [jump, insn.alu64('xor', 0, 1 << bit)]),
      insn.exit(),
    ];
    const isImmediate = BigInt.asIntN(64, right) === BigInt(low);
    const expected = (wide ? 3 : 0) | (narrow ? 12 : 0);
    expect(Number(run(program).value) & (isImmediate ? 15 : 13)).toBe(expected & (isImmediate ? 15 : 13));
  });

  const flows: readonly (readonly [name: string, text: string, result: bigint])[] = [
    ['forwards', 'r0 = 1\n goto end\n r0 = 2\n end: exit', 1n],
    ['far forwards', 'r0 = 1\n gotol end\n r0 = 2\n end: exit', 1n],
    ['backwards', 'r0 = 0\n again: r0 += 1\n if r0 < 9 goto again\n exit', 9n],
    ['far backwards', 'r0 = 0\n again: r0 += 1\n if r0 == 9 goto end\n gotol again\n end: exit', 9n],
    ['over a wide instruction', 'r0 = 1\n goto end\n r0 = 0x123456789 ll\n end: exit', 1n],
    ['beyond what 16 bits reach', `r0 = 1\n gotol end\n ${'r0 += 1\n'.repeat(33_000)} end: exit`, 1n],
  ];
  test.each(flows)('%s', (_name, text, result) => {
    expect(runText(text).value).toBe(result);
  });
});

describe('memory', () => {
  const block = Uint8Array.of(0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08);
  const loads: readonly (readonly [text: string, result: bigint])[] = [
    ['*(u8 *)(r1 +0)', 0x80n],
    ['*(u16 *)(r1 +0)', 0x8180n],
    ['*(u32 *)(r1 +0)', 0x8382_8180n],
    ['*(u64 *)(r1 +0)', 0x8786_8584_8382_8180n],
    ['*(s8 *)(r1 +0)', 0xffff_ffff_ffff_ff80n],
    ['*(s16 *)(r1 +0)', 0xffff_ffff_ffff_8180n],
    ['*(s32 *)(r1 +0)', 0xffff_ffff_8382_8180n],
    ['*(s8 *)(r1 +8)', 1n],
    ['*(s16 *)(r1 +8)', 0x201n],
    ['*(s32 *)(r1 +8)', 0x0403_0201n],
    ['*(u16 *)(r1 +7)', 0x0187n],
    ['*(u32 *)(r1 +5)', 0x0187_8685n],
    ['*(u64 *)(r1 +3)', 0x0302_0187_8685_8483n],
    ['*(u8 *)(r1 +15)', 8n],
    ['load_acquire((u8 *)(r1 +0))', 0x80n],
    ['load_acquire((u16 *)(r1 +0))', 0x8180n],
    ['load_acquire((u32 *)(r1 +4))', 0x8786_8584n],
    ['load_acquire((u64 *)(r1 +8))', 0x0807_0605_0403_0201n],
  ];
  test.each(loads)('r0 = %s', (text, result) => {
    expect(runText(`r0 = ${text}\n exit`, block).value).toBe(result);
  });

  const value = 'r2 = 0x1122334455667788 ll';
  const stores: readonly (readonly [text: string, memory: string])[] = [
    ['*(u8 *)(r1 +1) = r2', '0088000000000000 0000000000000000'],
    ['*(u16 *)(r1 +1) = r2', '0088770000000000 0000000000000000'],
    ['*(u32 *)(r1 +1) = r2', '0088776655000000 0000000000000000'],
    ['*(u64 *)(r1 +1) = r2', '0088776655443322 1100000000000000'],
    ['*(u8 *)(r1 +15) = 0x1fe', '0000000000000000 00000000000000fe'],
    ['*(u16 *)(r1 +14) = -2', '0000000000000000 000000000000feff'],
    ['*(u32 *)(r1 +12) = -2', '0000000000000000 00000000feffffff'],
    ['*(u64 *)(r1 +8) = -2', '0000000000000000 feffffffffffffff'],
    ['*(u64 *)(r1 +8) = 0x7fffffff', '0000000000000000 ffffff7f00000000'],
    ['store_release((u8 *)(r1 +1), r2)', '0088000000000000 0000000000000000'],
    ['store_release((u16 *)(r1 +2), r2)', '0000887700000000 0000000000000000'],
    ['store_release((u32 *)(r1 +4), r2)', '0000000088776655 0000000000000000'],
    ['store_release((u64 *)(r1 +8), r2)', '0000000000000000 8877665544332211'],
    ['r1 += 16\n *(u8 *)(r1 -16) = r2', '8800000000000000 0000000000000000'],
  ];
  test.each(stores)('%s', (text, memory) => {
    expect(runText(`${value}\n ${text}\n r0 = r2\n exit`, new Uint8Array(16))).toEqual({
      value: 0x1122_3344_5566_7788n,
      memory: memory.replace(' ', ''),
    });
  });

  /** On 0x0f0f0f0ff0f0f0f0; r2 is 0x1122334455667788, r0 as `before` says. What r0 is after, r2, and memory. */
  const start = 'r3 = 0x0f0f0f0ff0f0f0f0 ll\n *(u64 *)(r1 +0) = r3';
  const atomics: readonly (readonly [text: string, before: string, r0: bigint, r2: bigint, memory: bigint])[] = [
    ['lock *(u64 *)(r1 +0) += r2', '0', 0n, 0x1122_3344_5566_7788n, 0x2031_4254_4657_6878n],
    ['lock *(u32 *)(r1 +0) += r2', '0', 0n, 0x1122_3344_5566_7788n, 0x0f0f_0f0f_4657_6878n],
    ['lock *(u32 *)(r1 +4) += r2', '0', 0n, 0x1122_3344_5566_7788n, 0x6475_8697_f0f0_f0f0n],
    ['lock *(u64 *)(r1 +0) |= r2', '0', 0n, 0x1122_3344_5566_7788n, 0x1f2f_3f4f_f5f6_f7f8n],
    ['lock *(u32 *)(r1 +0) |= r2', '0', 0n, 0x1122_3344_5566_7788n, 0x0f0f_0f0f_f5f6_f7f8n],
    ['lock *(u64 *)(r1 +0) &= r2', '0', 0n, 0x1122_3344_5566_7788n, 0x0102_0304_5060_7080n],
    ['lock *(u32 *)(r1 +0) &= r2', '0', 0n, 0x1122_3344_5566_7788n, 0x0f0f_0f0f_5060_7080n],
    ['lock *(u64 *)(r1 +0) ^= r2', '0', 0n, 0x1122_3344_5566_7788n, 0x1e2d_3c4b_a596_8778n],
    ['lock *(u32 *)(r1 +0) ^= r2', '0', 0n, 0x1122_3344_5566_7788n, 0x0f0f_0f0f_a596_8778n],
    ['r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)', '0', 0n, 0x0f0f_0f0f_f0f0_f0f0n, 0x2031_4254_4657_6878n],
    ['r2 = atomic_fetch_add((u32 *)(r1 +0), r2)', '0', 0n, 0xf0f0_f0f0n, 0x0f0f_0f0f_4657_6878n],
    ['r2 = atomic64_fetch_or((u64 *)(r1 +0), r2)', '0', 0n, 0x0f0f_0f0f_f0f0_f0f0n, 0x1f2f_3f4f_f5f6_f7f8n],
    ['r2 = atomic_fetch_or((u32 *)(r1 +0), r2)', '0', 0n, 0xf0f0_f0f0n, 0x0f0f_0f0f_f5f6_f7f8n],
    ['r2 = atomic64_fetch_and((u64 *)(r1 +0), r2)', '0', 0n, 0x0f0f_0f0f_f0f0_f0f0n, 0x0102_0304_5060_7080n],
    ['r2 = atomic_fetch_and((u32 *)(r1 +0), r2)', '0', 0n, 0xf0f0_f0f0n, 0x0f0f_0f0f_5060_7080n],
    ['r2 = atomic64_fetch_xor((u64 *)(r1 +0), r2)', '0', 0n, 0x0f0f_0f0f_f0f0_f0f0n, 0x1e2d_3c4b_a596_8778n],
    ['r2 = atomic_fetch_xor((u32 *)(r1 +0), r2)', '0', 0n, 0xf0f0_f0f0n, 0x0f0f_0f0f_a596_8778n],
    ['r2 = atomic64_xchg((u64 *)(r1 +0), r2)', '0', 0n, 0x0f0f_0f0f_f0f0_f0f0n, 0x1122_3344_5566_7788n],
    ['r2 = atomic_xchg((u32 *)(r1 +0), r2)', '0', 0n, 0xf0f0_f0f0n, 0x0f0f_0f0f_5566_7788n],
    [
      'r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)',
      '0x0f0f0f0ff0f0f0f0',
      0x0f0f_0f0f_f0f0_f0f0n,
      0x1122_3344_5566_7788n,
      0x1122_3344_5566_7788n,
    ],
    ['r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)', '5', 0x0f0f_0f0f_f0f0_f0f0n, 0x1122_3344_5566_7788n, 0x0f0f_0f0f_f0f0_f0f0n],
    ['r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)', '0x77fffffff0f0f0f0', 0xf0f0_f0f0n, 0x1122_3344_5566_7788n, 0x0f0f_0f0f_5566_7788n],
    ['r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)', '0x77fffffff0f0f0f1', 0xf0f0_f0f0n, 0x1122_3344_5566_7788n, 0x0f0f_0f0f_f0f0_f0f0n],
  ];
  test.each(atomics)('%s, r0 = %s', (text, before, r0, r2, memory) => {
    const { value: first, memory: left } = runText(
      `${value}\n ${start}\n r0 = ${before} ll\n ${text}\n *(u64 *)(r1 +8) = r2\n exit`,
      new Uint8Array(16),
    );
    const words = new BigUint64Array(Uint8Array.from(Buffer.from(left, 'hex')).buffer);
    expect([first, words[1], words[0]]).toEqual([r0, r2, memory]);
  });
});

describe('calls', () => {
  test('subprograms have registers and a frame of their own', () => {
    const text = `
      r6 = 6
      r7 = 7
      r8 = 8
      r9 = 9
      *(u64 *)(r10 -8) = 1
      *(u64 *)(r10 -512) = 2
      r1 = 1
      r2 = 2
      r3 = 3
      r4 = 4
      r5 = 5
      call sum
      r0 *= 10
      r0 += r6
      r0 += r7
      r0 += r8
      r0 += r9
      r1 = *(u64 *)(r10 -8)
      r0 += r1
      r1 = *(u64 *)(r10 -512)
      r0 += r1
      exit
      sum: r6 = 600
      r7 = 700
      r8 = 800
      r9 = 900
      *(u64 *)(r10 -8) = 100
      *(u64 *)(r10 -512) = 200
      r0 = r1
      r0 += r2
      r0 += r3
      r0 += r4
      r0 += r5
      exit`;
    expect(runText(text).value).toBe(183n);
  });

  test('eight frames: each is where its caller said', () => {
    const frames = Array.from({ length: 7 }, (_, depth) => {
      const next = depth < 6 ? `r1 = r10\n r1 += -8\n call f${depth + 1}` : '';
      return `f${depth}: r2 = *(u64 *)(r1 +0)\n r2 *= 3\n r2 += ${depth}\n *(u64 *)(r10 -8) = r2\n *(u64 *)(r1 +0) = 1\n r0 = 0\n ${next}\n r2 = *(u64 *)(r10 -8)\n r0 *= 2\n r0 += r2\n exit`;
    });
    const text = `*(u64 *)(r10 -8) = 1\n r1 = r10\n r1 += -8\n call f0\n r1 = *(u64 *)(r10 -8)\n r0 *= 2\n r0 += r1\n exit\n ${frames.join('\n')}`;
    // the last frame holds 3^7 + 543, all others 1
    expect(runText(text).value).toBe(BigInt(2730) * 128n + 127n);
  });

  test('a helper by the number in a register', () => {
    const text = (number: string): string => `r2 = ${number}\n callx r2\n r0 = 3\n exit`;
    expect(runText(text('5')).value).toBe(3n);
    expect(runText('r2 = 8\n if r1 == 0 goto +1\n r2 = 8\n callx r2\n exit').value).toBe(0n);
    expect(refusal(text('5\n r2 ^= r1'))).toBe('program program, pc 2: which helper is called by r2 cannot be told before it runs');
    expect(refusal('r2 = 8\n if r1 == 0 goto +1\n r2 = 5\n callx r2\n exit')).toBe(
      'program program, pc 3: which helper is called by r2 cannot be told before it runs',
    );
    expect(refusal(text('-1'))).toBe('program program, pc 1: which helper is called by r2 cannot be told before it runs');
    expect(refusal(text('9999'))).toBe('there is no helper 9999, called by a program of type xdp');
    expect(refusal('r0 = 1\n exit\n callx r2\n exit')).toBe(
      'program program, pc 2: which helper is called by r2 cannot be told before it runs',
    );
  });
});

describe('what no program is', () => {
  const programs: readonly (readonly [text: string, message: string])[] = [
    ['goto +5\n exit', 'pc 0: a jump leads outside the program, to slot 6'],
    ['if r0 == 0 goto -3\n exit', 'pc 0: a jump leads outside the program, to slot -2'],
    ['gotol +100000\n exit', 'pc 0: a jump leads outside the program, to slot 100001'],
    ['goto +1\n r0 = 0x1 ll\n exit', 'pc 0: a jump leads into a wide instruction, to slot 2'],
    ['call +7\n exit', 'pc 0: a call leads outside the program, to slot 8'],
    ['r1 = subprog[+9]\n exit', 'pc 0: a callback leads outside the program, to slot 10'],
    ['r0 = 0', 'pc 0: the program runs off its end, expected an exit'],
    ['exit\n if r0 == 0 goto -2', 'pc 1: the program runs off its end, expected an exit'],
    ['r10 = 1\n exit', 'pc 0: r10 is written, expected it to be read only'],
    ['r10 += 1\n exit', 'pc 0: r10 is written, expected it to be read only'],
    ['r10 = bswap16 r10\n exit', 'pc 0: r10 is written, expected it to be read only'],
    ['r10 = *(u64 *)(r1 +0)\n exit', 'pc 0: r10 is written, expected it to be read only'],
    ['r10 = 0x1 ll\n exit', 'pc 0: r10 is written, expected it to be read only'],
    ['r10 = load_acquire((u64 *)(r1 +0))\n exit', 'pc 0: r10 is written, expected it to be read only'],
    ['r10 = atomic64_fetch_add((u64 *)(r1 +0), r10)\n exit', 'pc 0: r10 is written, expected it to be read only'],
    ['r10 = atomic_xchg((u32 *)(r1 +0), r10)\n exit', 'pc 0: r10 is written, expected it to be read only'],
    ['r1 = map[fd:3]\n exit', 'pc 0: a wide instruction names a map that the program has no reference for'],
    ['call kernel-function#3\n exit', 'program program, pc 0: a call of a kernel function cannot be run in userspace'],
    ['may_goto +0\n exit', 'program program, pc 0: may_goto cannot be run in userspace'],
    ['r1 = addr_space_cast(r1, 0, 1)\n exit', 'program program, pc 0: a cast of an arena pointer cannot be run in userspace'],
    ['r1 = btf_id[5]\n exit', 'program program, pc 0: a variable of the kernel cannot be run in userspace'],
    ['r0 = *(u8 *)skb[12]\n exit', 'program program, pc 0: legacy packet access cannot be run in userspace'],
    ['call 9999\n exit', 'there is no helper 9999, called by a program of type xdp'],
    ['call bpf_for_each_map_elem\n exit', 'program program, pc 0: the function that is called back cannot be told before it runs'],
    ['call bpf_loop\n exit', 'program program, pc 0: the function that is called back cannot be told before it runs'],
    ['r2 = 0xc00000000 ll\n call bpf_loop\n exit', 'pc 2: a function calls itself'],
    ['r2 = 0xc00000001 ll\n call bpf_loop\n exit', 'program program, pc 2: the function that is called back cannot be told before it runs'],
  ];
  test.each(programs)('%s', (text, message) => {
    expect(refusal(text)).toBe(message);
    expect(() => runProgram(assemble(text).instructions, new Uint8Array(0))).toThrow(
      message.startsWith('pc') && !message.includes('itself') ? EncodingError : UnsupportedError,
    );
  });

  test('nothing', () => {
    for (const mode of MODES)
      expect(() => runProgram([], new Uint8Array(0), { mode })).toThrow('program program is empty, expected instructions up to an exit');
  });

  test('more functions, or more slots, than the kernel takes', () => {
    const calls = (count: number): string =>
      `r0 = 0\n ${Array.from({ length: count }, (_, i) => `call f${i}`).join('\n')}\n exit\n ${Array.from({ length: count }, (_, i) => `f${i}: r0 = ${i}\n exit`).join('\n')}`;
    expect(refusal(calls(255))).toBe('r0 = 254');
    expect(refusal(calls(256))).toBe('the program has more than 256 functions');
    const long = Array.from({ length: 1_000_001 }, () => insn.exit());
    expect(() => runProgram(long, new Uint8Array(0))).toThrow('program program has 1000001 slots, expected at most 1000000');
  });

  test('limits of turns', () => {
    for (const turnLimit of [0, -1, 1.5, 2 ** 31, Number.NaN])
      expect(() => runProgram([insn.exit()], new Uint8Array(0), { turnLimit })).toThrow(
        `turnLimit is ${turnLimit}, expected 1 to 2147483647`,
      );
  });
});
