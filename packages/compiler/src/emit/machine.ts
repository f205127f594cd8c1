/**
 * Machine code before registers are known: blocks of eBPF instructions over as many registers as it takes.
 * select.ts makes it, allocate.ts renames every register to r0..r9, encode.ts turns it into instructions.
 *
 * Registers 0 to 9 are the machine's own, larger numbers are virtual. Instructions have eBPF's two-operand form:
 * arithmetic reads and writes `dst`. Virtual registers may be written more than once (phis become moves).
 */
import type { BinaryOp, CompareOp, MemorySize, Place, StackSlot } from '../ir.ts';

/** r0 to r9, or a virtual register from FIRST_VIRTUAL on. */
export type Register = number;

/** The first number that is no machine register and not the frame pointer. */
export const FIRST_VIRTUAL = 16;

/** A register, or a signed 32-bit immediate. */
export type MachineOperand = { readonly register: Register } | { readonly imm: number };

/** Where memory is: behind a register, or in a stack slot, whose place is known last. */
export type Address = { readonly base: Register; readonly offset: number } | { readonly slot: StackSlot; readonly offset: number };

interface InstructionBase {
  place: Place | undefined;
}

/** `dst = src`; of width 32 it zero-extends and is no mere copy. */
export interface Move extends InstructionBase {
  readonly kind: 'move';
  readonly width: 32 | 64;
  dst: Register;
  src: Register;
}
/** `dst = value`, signed 64 bits. */
export interface Constant extends InstructionBase {
  readonly kind: 'constant';
  dst: Register;
  readonly value: bigint;
}
/** `dst = r10 + where the slot is + offset` */
export interface FrameAddress extends InstructionBase {
  readonly kind: 'frame';
  dst: Register;
  readonly slot: StackSlot;
  readonly offset: number;
}
/** `dst = map`, or the address of a byte of its only value. */
export interface MapAddress extends InstructionBase {
  readonly kind: 'map';
  dst: Register;
  readonly map: string;
  readonly valueOffset: number | undefined;
}
/** `dst = dst op src` */
export interface Alu extends InstructionBase {
  readonly kind: 'alu';
  readonly op: BinaryOp;
  readonly width: 32 | 64;
  dst: Register;
  src: MachineOperand;
}
/** `dst = op dst` */
export interface InPlace extends InstructionBase {
  readonly kind: 'inPlace';
  readonly op: 'neg' | 'neg32' | 'swap16' | 'swap32' | 'swap64';
  dst: Register;
}
export interface MachineLoad extends InstructionBase {
  readonly kind: 'load';
  readonly size: MemorySize;
  dst: Register;
  address: Address;
  /** May be done again at each use instead of being kept. */
  readonly repeatable: boolean;
}
export interface MachineStore extends InstructionBase {
  readonly kind: 'store';
  readonly size: MemorySize;
  address: Address;
  src: MachineOperand;
}
export interface MachineAtomicAdd extends InstructionBase {
  readonly kind: 'atomicAdd';
  readonly size: 4 | 8;
  address: Address;
  src: Register;
}
/** Reads r1 to r`arity`, writes r0 to r5. */
export interface MachineCall extends InstructionBase {
  readonly kind: 'call';
  readonly helper: number;
  readonly arity: number;
}

export type MachineInstruction =
  | Move
  | Constant
  | FrameAddress
  | MapAddress
  | Alu
  | InPlace
  | MachineLoad
  | MachineStore
  | MachineAtomicAdd
  | MachineCall;

export interface MachineJump {
  readonly kind: 'jump';
  target: MachineBlock;
  place: Place | undefined;
}
export interface MachineBranch {
  readonly kind: 'branch';
  readonly op: CompareOp;
  readonly width: 32 | 64;
  left: Register;
  right: MachineOperand;
  then: MachineBlock;
  else: MachineBlock;
  readonly likely: 'then' | 'else' | undefined;
  place: Place | undefined;
}
/** Returns r0. */
export interface MachineReturn {
  readonly kind: 'return';
  place: Place | undefined;
}
export type MachineTerminator = MachineJump | MachineBranch | MachineReturn;

export interface MachineBlock {
  readonly id: number;
  instructions: MachineInstruction[];
  terminator: MachineTerminator;
  /** Guessed runs of this block for one of the program. */
  readonly frequency: number;
}

export interface MachineFunction {
  /** In reverse post-order; the entry is the first. */
  blocks: MachineBlock[];
  slots: StackSlot[];
  /** Slots that hold spilled registers: written and read whole, and never by address. */
  readonly spillSlots: Set<StackSlot>;
  /** The slots of registers that hold a spilled value between two calls. */
  readonly homes: Map<Register, StackSlot>;
  nextRegister: Register;
  nextSlot: number;
}

/** Where control goes from a block. */
export function machineSuccessors(block: MachineBlock): MachineBlock[] {
  const t = block.terminator;
  switch (t.kind) {
    case 'jump':
      return [t.target];
    case 'branch':
      return [t.then, t.else];
    case 'return':
      return [];
  }
}

/** The registers that an instruction reads. */
export function reads(instruction: MachineInstruction): Register[] {
  switch (instruction.kind) {
    case 'move':
      return [instruction.src];
    case 'alu':
      return 'register' in instruction.src ? [instruction.dst, instruction.src.register] : [instruction.dst];
    case 'inPlace':
      return [instruction.dst];
    case 'load':
      return addressRegisters(instruction.address);
    case 'store': {
      const base = addressRegisters(instruction.address);
      return 'register' in instruction.src ? [...base, instruction.src.register] : base;
    }
    case 'atomicAdd':
      return [...addressRegisters(instruction.address), instruction.src];
    case 'call':
      return [1, 2, 3, 4, 5].slice(0, instruction.arity);
    case 'constant':
    case 'frame':
    case 'map':
      return [];
  }
}

const CALL_WRITES: readonly Register[] = [0, 1, 2, 3, 4, 5];

/** The registers that an instruction writes. */
export function writes(instruction: MachineInstruction): readonly Register[] {
  switch (instruction.kind) {
    case 'store':
    case 'atomicAdd':
      return [];
    case 'call':
      return CALL_WRITES;
    default:
      return [instruction.dst];
  }
}

/** The registers that a terminator reads. */
export function terminatorReads(terminator: MachineTerminator): Register[] {
  switch (terminator.kind) {
    case 'jump':
      return [];
    case 'branch':
      return 'register' in terminator.right ? [terminator.left, terminator.right.register] : [terminator.left];
    case 'return':
      return [0];
  }
}

/** Rewrites every register of an instruction: `read` for those only read, `write` for those (also) written. */
export function renameRegisters(
  instruction: MachineInstruction,
  read: (register: Register) => Register,
  write: (register: Register) => Register,
): void {
  switch (instruction.kind) {
    case 'move':
      instruction.src = read(instruction.src);
      break;
    case 'alu':
      instruction.src = renameOperand(instruction.src, read);
      break;
    case 'load':
      instruction.address = renameAddress(instruction.address, read);
      break;
    case 'store':
      instruction.address = renameAddress(instruction.address, read);
      instruction.src = renameOperand(instruction.src, read);
      return;
    case 'atomicAdd':
      instruction.address = renameAddress(instruction.address, read);
      instruction.src = read(instruction.src);
      return;
    case 'call':
      return;
    case 'inPlace':
    case 'constant':
    case 'frame':
    case 'map':
      break;
  }
  instruction.dst = write(instruction.dst);
}

/** Rewrites every register of a terminator. */
export function renameTerminator(terminator: MachineTerminator, read: (register: Register) => Register): void {
  if (terminator.kind !== 'branch') return;
  terminator.left = read(terminator.left);
  terminator.right = renameOperand(terminator.right, read);
}

function renameOperand(operand: MachineOperand, read: (register: Register) => Register): MachineOperand {
  return 'register' in operand ? { register: read(operand.register) } : operand;
}

function renameAddress(address: Address, read: (register: Register) => Register): Address {
  return 'base' in address ? { base: read(address.base), offset: address.offset } : address;
}

function addressRegisters(address: Address): Register[] {
  return 'base' in address ? [address.base] : [];
}
