/** The last step: machine code with real registers and block order to instructions, map references and lines. */
import { type Instruction, insn, type LineInfo, type MapReference, type Operand, reg } from '@tailrace/bpf';
import type { CompareOp, Place } from '../ir.ts';
import { NEGATED } from '../opt/evaluate.ts';
import type { Address, MachineBlock, MachineFunction, MachineInstruction, MachineOperand, MachineTerminator } from './machine.ts';
import type { StackLayout } from './stack.ts';

export interface EncodedProgram {
  readonly instructions: Instruction[];
  readonly mapReferences: MapReference[];
  readonly lines: LineInfo[];
}

/** Encodes the blocks in their order. Slots (`pc`) count wide instructions twice, as everywhere. */
export function encodeFunction(fn: MachineFunction, stack: StackLayout): EncodedProgram {
  return new Encoder(stack).run(fn.blocks);
}

interface Fixup {
  /** Index into the instructions. */
  readonly index: number;
  readonly pc: number;
  readonly target: MachineBlock;
  readonly make: (distance: number) => Instruction;
}

class Encoder {
  private readonly stack: StackLayout;
  private readonly instructions: Instruction[] = [];
  private readonly mapReferences: MapReference[] = [];
  private readonly lines: LineInfo[] = [];
  private readonly starts = new Map<MachineBlock, number>();
  private readonly fixups: Fixup[] = [];
  private pc = 0;

  constructor(stack: StackLayout) {
    this.stack = stack;
  }

  run(blocks: readonly MachineBlock[]): EncodedProgram {
    this.mark(firstPlace(blocks));
    blocks.forEach((block, i) => {
      this.starts.set(block, this.pc);
      for (const instruction of block.instructions) {
        this.mark(instruction.place);
        this.instruction(instruction);
      }
      this.mark(block.terminator.place);
      this.terminator(block.terminator, blocks[i + 1]);
    });
    for (const { index, pc, target, make } of this.fixups) this.instructions[index] = make((this.starts.get(target) ?? 0) - pc - 1);
    return { instructions: this.instructions, mapReferences: this.mapReferences, lines: this.lines };
  }

  private instruction(i: MachineInstruction): void {
    switch (i.kind) {
      case 'move':
        this.push(i.width === 32 ? insn.mov32(i.dst, reg(i.src)) : insn.mov(i.dst, reg(i.src)));
        return;
      case 'constant':
        this.push(constant(i.dst, i.value));
        return;
      case 'frame':
        this.push(insn.mov(i.dst, reg(10)));
        this.push(insn.alu64('add', i.dst, this.stack.offset(i.slot) + i.offset));
        return;
      case 'map':
        if (i.valueOffset === undefined) {
          this.mapReferences.push({ pc: this.pc, map: i.map });
          this.push(insn.wideMap(i.dst));
        } else {
          this.mapReferences.push({ pc: this.pc, map: i.map, valueOffset: i.valueOffset });
          this.push(insn.wideMapValue(i.dst, i.valueOffset));
        }
        return;
      case 'alu':
        this.push((i.width === 32 ? insn.alu32 : insn.alu64)(i.op, i.dst, operand(i.src)));
        return;
      case 'inPlace':
        this.push(inPlace(i.op, i.dst));
        return;
      case 'load': {
        const { base, offset } = this.resolve(i.address);
        this.push(insn.load(i.size, i.dst, base, offset));
        return;
      }
      case 'store': {
        const { base, offset } = this.resolve(i.address);
        this.push('register' in i.src ? insn.store(i.size, base, offset, i.src.register) : insn.storeImm(i.size, base, offset, i.src.imm));
        return;
      }
      case 'atomicAdd': {
        const { base, offset } = this.resolve(i.address);
        this.push(insn.atomic('add', i.size, base, offset, i.src));
        return;
      }
      case 'call':
        this.push(insn.call(i.helper));
        return;
    }
  }

  private terminator(t: MachineTerminator, next: MachineBlock | undefined): void {
    if (t.kind === 'return') {
      this.push(insn.exit());
      return;
    }
    if (t.kind === 'jump') {
      if (t.target !== next) this.jump(t.target, (distance) => insn.ja(distance));
      return;
    }
    const condition = (op: CompareOp) => (distance: number) =>
      (t.width === 32 ? insn.jump32 : insn.jump)(op, t.left, operand(t.right), distance);
    if (t.then === next && t.op !== 'set') {
      this.jump(t.else, condition(NEGATED[t.op]));
      return;
    }
    this.jump(t.then, condition(t.op));
    if (t.else !== next) this.jump(t.else, (distance) => insn.ja(distance));
  }

  private jump(target: MachineBlock, make: (distance: number) => Instruction): void {
    this.fixups.push({ index: this.instructions.length, pc: this.pc, target, make });
    this.push(make(0));
  }

  private resolve(address: Address): { base: number; offset: number } {
    if ('base' in address) return address;
    return { base: 10, offset: this.stack.offset(address.slot) + address.offset };
  }

  private push(instruction: Instruction): void {
    this.instructions.push(instruction);
    this.pc += instruction.immHigh === undefined ? 1 : 2;
  }

  /** From here on the code belongs to `place`. The kernel wants slots that rise strictly, the first of them 0. */
  private mark(place: Place | undefined): void {
    if (!place) return;
    const last = this.lines.at(-1);
    if (last && last.line === place.line && last.column === place.column && last.file === place.file) return;
    if (last?.pc === this.pc) this.lines.pop();
    this.lines.push({ pc: this.pc, file: place.file, text: place.text, line: place.line, column: place.column });
  }
}

function firstPlace(blocks: readonly MachineBlock[]): Place | undefined {
  for (const block of blocks) {
    for (const { place } of block.instructions) if (place) return place;
    if (block.terminator.place) return block.terminator.place;
  }
  return undefined;
}

function operand(source: MachineOperand): Operand {
  return 'register' in source ? reg(source.register) : source.imm;
}

/** The shortest instruction that leaves these 64 bits in a register. */
function constant(dst: number, value: bigint): Instruction {
  if (value === BigInt.asIntN(32, value)) return insn.mov(dst, Number(value));
  if (value === BigInt.asUintN(32, value)) return insn.mov32(dst, Number(BigInt.asIntN(32, value)));
  return insn.wide(dst, value);
}

function inPlace(op: 'neg' | 'neg32' | 'swap16' | 'swap32' | 'swap64', dst: number): Instruction {
  switch (op) {
    case 'neg':
      return insn.neg(dst);
    case 'neg32':
      return insn.neg32(dst);
    // be16 and its kin swap on the little-endian machines that Tailrace knows; bswap needs cpu v4 (kernel 6.6).
    case 'swap16':
      return insn.toBe(dst, 16);
    case 'swap32':
      return insn.toBe(dst, 32);
    case 'swap64':
      return insn.toBe(dst, 64);
  }
}
