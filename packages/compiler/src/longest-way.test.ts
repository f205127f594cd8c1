import { type Instruction, insn } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { longestWay } from './longest-way.ts';

const jump = (opcode: number, offset: number): Instruction => ({ opcode, dst: 1, src: 0, offset, imm: 0 });
const [JEQ, JA] = [0x15, 0x05];
const wide: Instruction = { opcode: 0x18, dst: 1, src: 0, offset: 0, imm: 1, immHigh: 0 };

test('a straight line, and the longer of two ways', () => {
  expect(longestWay([insn.mov(0, 0), insn.exit()])).toBe(2);
  expect(longestWay([jump(JEQ, 2), insn.mov(0, 0), insn.exit(), insn.mov(0, 1), insn.mov(0, 2), insn.exit()])).toBe(4);
});

test('jumps count slots, of which wide instructions have two', () => {
  expect(longestWay([jump(JEQ, 3), wide, insn.exit(), insn.mov(0, 1), insn.mov(0, 2), insn.exit()])).toBe(4);
});

test('code behind a jump, and a loop, which counts once', () => {
  expect(longestWay([jump(JA, 2), insn.mov(0, 1), insn.exit(), insn.mov(0, 2), jump(JA, -4)])).toBe(5);
  expect(longestWay([insn.mov(1, 0), insn.mov(0, 2), jump(JEQ, -2), insn.exit()])).toBe(4);
});
