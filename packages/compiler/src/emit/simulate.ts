/** A small eBPF interpreter for what this package emits: tests hold emitted code to the graph it came from. */
import { type Instruction, type MapReference, OpcodeMask } from '@tailrace/bpf';
import type { BinaryOp, CompareOp } from '../ir.ts';
import { evaluateBinary, evaluateCompare, signed64, swapBytes } from '../opt/evaluate.ts';
import { type SimulatedWorld, SimulationTrap } from '../opt/simulated-world.ts';
import { STACK_LIMIT } from './stack.ts';

const ALU: Readonly<Record<number, BinaryOp>> = {
  0: 'add',
  16: 'sub',
  32: 'mul',
  48: 'div',
  64: 'or',
  80: 'and',
  96: 'lsh',
  112: 'rsh',
  144: 'mod',
  160: 'xor',
  192: 'arsh',
};
const JUMP: Readonly<Record<number, CompareOp>> = {
  16: 'eq',
  32: 'gt',
  48: 'ge',
  64: 'set',
  80: 'ne',
  96: 'sgt',
  112: 'sge',
  160: 'lt',
  176: 'le',
  192: 'slt',
  208: 'sle',
};
const SIZES: Readonly<Record<number, number>> = { 0: 4, 8: 2, 16: 1, 24: 8 };

/** Runs instructions and returns r0, signed. Throws SimulationTrap on wild accesses and clobbered registers. */
export function simulate(
  program: { readonly instructions: readonly Instruction[]; readonly mapReferences: readonly MapReference[] },
  world: SimulatedWorld,
  budget = 100_000,
): bigint {
  const slots: (Instruction | undefined)[] = program.instructions.flatMap((i) => (i.immHigh === undefined ? [i] : [i, undefined]));
  const references = new Map(program.mapReferences.map((reference) => [reference.pc, reference]));
  const registers = new Map<number, bigint>([
    [1, world.contextAddress],
    [10, world.stack(STACK_LIMIT) + BigInt(STACK_LIMIT)],
  ]);
  const get = (register: number): bigint => {
    const value = registers.get(register);
    if (value === undefined) throw new SimulationTrap(`r${register} is read before it is written`);
    return value;
  };
  let pc = 0;
  for (let steps = 0; steps < budget; steps++) {
    const i = slots[pc];
    if (!i) throw new SimulationTrap(`pc ${pc} is no instruction`);
    const cls = i.opcode & OpcodeMask.class;
    const code = i.opcode & OpcodeMask.code;
    const bytes = SIZES[i.opcode & OpcodeMask.size] ?? 0;
    const operand = (): bigint => ((i.opcode & OpcodeMask.source) !== 0 ? get(i.src) : BigInt(i.imm));
    let next = pc + 1;
    switch (cls) {
      case 0: {
        const reference = references.get(pc);
        if (!reference) registers.set(i.dst, signed64((BigInt(i.immHigh ?? 0) << 32n) | BigInt.asUintN(32, BigInt(i.imm))));
        else if (reference.valueOffset === undefined) registers.set(i.dst, world.mapHandle(reference.map));
        else registers.set(i.dst, world.mapValue(reference.map) + BigInt(reference.valueOffset));
        next++;
        break;
      }
      case 1:
        registers.set(i.dst, signed64(world.read(get(i.src) + BigInt(i.offset), bytes)));
        break;
      case 2:
        world.write(get(i.dst) + BigInt(i.offset), bytes, BigInt(i.imm));
        break;
      case 3: {
        const address = get(i.dst) + BigInt(i.offset);
        const isAtomic = (i.opcode & OpcodeMask.mode) === 0xc0;
        world.write(address, bytes, isAtomic ? world.read(address, bytes) + get(i.src) : get(i.src));
        break;
      }
      case 4:
      case 7: {
        const width = cls === 7 ? 64 : 32;
        const op = ALU[code];
        if (code === 0xb0) registers.set(i.dst, signed64(BigInt.asUintN(width, operand())));
        else if (code === 0x80) registers.set(i.dst, evaluateBinary('sub', width, 0n, get(i.dst)));
        else if (code === 0xd0) registers.set(i.dst, signed64(swapBytes(get(i.dst), i.imm)));
        else if (op) registers.set(i.dst, evaluateBinary(signedOp(op, i.offset), width, get(i.dst), operand()));
        else throw new SimulationTrap(`pc ${pc}: unknown arithmetic ${code}`);
        break;
      }
      default: {
        if (code === 0x90) return get(0);
        if (code === 0x80) {
          const args = [1, 2, 3, 4, 5].flatMap((r) => registers.get(r) ?? []);
          const result = world.call(i.imm, args);
          for (let r = 1; r <= 5; r++) registers.delete(r);
          registers.set(0, result);
        } else if (code === 0x00) next += i.offset;
        else {
          const op = JUMP[code];
          if (!op) throw new SimulationTrap(`pc ${pc}: unknown jump ${code}`);
          if (evaluateCompare(op, cls === 5 ? 64 : 32, get(i.dst), operand())) next += i.offset;
        }
      }
    }
    pc = next;
  }
  throw new SimulationTrap(`no exit within ${budget} instructions`);
}

function signedOp(op: BinaryOp, offset: number): BinaryOp {
  if (offset !== 1) return op;
  return op === 'div' ? 'sdiv' : 'smod';
}
