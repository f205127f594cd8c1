/**
 * A program as the engine works on it: one entry a slot, with what its immediates stand for, and the functions that it is
 * made of. Refuses what can never run: jumps that lead nowhere, ends that are not reached, instructions without a meaning
 * here. Reads no memory and knows no map but by name.
 */
import {
  AluCode,
  AtomicCode,
  CALL_OPCODE,
  CallPseudo,
  checkInstruction,
  EncodingError,
  EXIT_OPCODE,
  type Instruction,
  InstructionClass,
  JumpCode,
  Mode,
  OpcodeMask,
  type ProgramSpec,
  Size,
  Source,
  slotCount,
  slotsOf,
  UnsupportedError,
  WIDE_OPCODE,
  WidePseudo,
  wideValue,
} from '@tailrace/bpf';

/** BPF_COMPLEXITY_LIMIT_INSNS (include/linux/bpf.h): the longest program that the kernel takes. */
const SLOT_LIMIT = 1_000_000;

/** One instruction, at the slot where it starts. */
export interface Operation extends Instruction {
  /** Slots to the next instruction. */
  readonly slots: 1 | 2;
  /** A wide instruction's number. */
  readonly wide?: bigint;
  /** A wide instruction that names a map, by the program's name for it. */
  readonly map?: string;
  /** Set beside `map`: the address of this byte of element 0's value is meant. */
  readonly valueOffset?: number;
  /** A wide instruction that names a function: the slot where that starts. */
  readonly callback?: number;
}

/** A program's slots; undefined for the second one of a wide instruction. */
export type Code = readonly (Operation | undefined)[];

/** How an instruction hands on control. */
export type Flow = 'next' | 'jump' | 'branch' | 'exit';

/** True for instructions that end a basic block. */
export function flowOf({ opcode }: Instruction): Flow {
  const kind = opcode & OpcodeMask.class;
  if (kind !== InstructionClass.jmp && kind !== InstructionClass.jmp32) return 'next';
  if (opcode === EXIT_OPCODE) return 'exit';
  const code = opcode & OpcodeMask.code;
  if (code === JumpCode.call) return 'next';
  return code === JumpCode.ja ? 'jump' : 'branch';
}

/** Where a jump or branch at `pc` leads. */
export function targetOf(operation: Operation, pc: number): number {
  const far = (operation.opcode & OpcodeMask.class) === InstructionClass.jmp32 && (operation.opcode & OpcodeMask.code) === JumpCode.ja;
  return pc + 1 + (far ? operation.imm : operation.offset);
}

/** Slots that control may go to behind `pc`: of a branch, the one behind it first. */
export function successorsOf(code: Code, pc: number): readonly number[] {
  const operation = operationAt(code, pc);
  const behind = pc + operation.slots;
  switch (flowOf(operation)) {
    case 'exit':
      return [];
    case 'jump':
      return [targetOf(operation, pc)];
    case 'branch':
      return [behind, targetOf(operation, pc)];
    default:
      return [behind];
  }
}

/** True for a call of a subprogram. */
export function isSubprogramCall({ opcode, src }: Instruction): boolean {
  return opcode === CALL_OPCODE && src === CallPseudo.subprogram;
}

/** True for a call of a helper. */
export function isHelperCall({ opcode, src }: Instruction): boolean {
  return opcode === CALL_OPCODE && src === CallPseudo.helper;
}

/** True for a call of a helper by the id in a register: of no use to the engine, see `Provenance.calledByRegister`. */
export function isRegisterCall({ opcode }: Instruction): boolean {
  return opcode === (CALL_OPCODE | Source.reg);
}

/** The register that an instruction reads or writes memory by; undefined for others. */
export function pointerRegister(operation: Operation): number | undefined {
  switch (operation.opcode & OpcodeMask.class) {
    case InstructionClass.ldx:
      return operation.src;
    case InstructionClass.st:
      return operation.dst;
    case InstructionClass.stx:
      return storesTo(operation) ? operation.dst : operation.src;
    default:
      return undefined;
  }
}

/** True for loads that extend the sign. */
export function isSignedLoad({ opcode }: Operation): boolean {
  return (opcode & OpcodeMask.class) === InstructionClass.ldx && (opcode & OpcodeMask.mode) === Mode.memsx;
}

/** True for atomic operations, and for loads and stores that are ordered. */
export function isAtomic({ opcode }: Operation): boolean {
  return (opcode & OpcodeMask.class) === InstructionClass.stx && (opcode & OpcodeMask.mode) === Mode.atomic;
}

const BYTES: Readonly<Record<number, number>> = { [Size.w]: 4, [Size.h]: 2, [Size.b]: 1, [Size.dw]: 8 };

/** Bytes that a load, store or atomic touches. */
export function bytesOf({ opcode }: Operation): 1 | 2 | 4 | 8 {
  return BYTES[opcode & OpcodeMask.size] as 1 | 2 | 4 | 8;
}

/** True for instructions that write memory. */
export function storesTo(operation: Operation): boolean {
  const kind = operation.opcode & OpcodeMask.class;
  return (
    kind === InstructionClass.st || (kind === InstructionClass.stx && !(isAtomic(operation) && operation.imm === AtomicCode.loadAcquire))
  );
}

/** The instruction that starts at `pc`. Throws EncodingError where none does. */
export function operationAt(code: Code, pc: number): Operation {
  const operation = code[pc];
  if (operation === undefined) throw new EncodingError('offset', `pc ${pc}: no instruction starts there`, { pc });
  return operation;
}

/**
 * The code of a program. Throws EncodingError naming pc and field for what is no instruction or leads nowhere, and
 * UnsupportedError for what this engine does not do (kfuncs, calls by register, arenas, kernel variables).
 */
export function codeOf(spec: Pick<ProgramSpec, 'name' | 'instructions' | 'mapReferences'>): Code {
  if (spec.instructions.length === 0)
    throw new EncodingError('opcode', `program ${spec.name} is empty, expected instructions up to an exit`);
  if (slotCount(spec.instructions) > SLOT_LIMIT)
    throw new EncodingError('opcode', `program ${spec.name} has ${slotCount(spec.instructions)} slots, expected at most ${SLOT_LIMIT}`);
  const references = new Map(spec.mapReferences.map((reference) => [reference.pc, reference]));
  const code: (Operation | undefined)[] = [];
  for (const instruction of spec.instructions) {
    const pc = code.length;
    checkInstruction(instruction, pc);
    refuseUnsupported(spec.name, instruction, pc);
    checkFramePointer(instruction, pc);
    const reference = references.get(pc);
    const slots = slotsOf(instruction);
    const { opcode, src } = instruction;
    if (opcode !== WIDE_OPCODE) {
      if (reference) throw new EncodingError('opcode', `pc ${pc}: map ${reference.map} is referred to by no wide instruction`, { pc });
      code.push({ ...instruction, slots });
      continue;
    }
    if (reference)
      code.push({
        ...instruction,
        slots,
        map: reference.map,
        ...(reference.valueOffset === undefined ? {} : { valueOffset: reference.valueOffset }),
      });
    else if (src === WidePseudo.func) code.push({ ...instruction, slots, callback: pc + 1 + instruction.imm });
    else if (src === WidePseudo.value) code.push({ ...instruction, slots, wide: wideValue(instruction) });
    else throw new EncodingError('src', `pc ${pc}: a wide instruction names a map that the program has no reference for`, { pc });
    code.push(undefined);
  }
  checkTargets(code);
  return code;
}

/** The function that an instruction names: it calls it, or takes its address. */
export function namedFunction(operation: Operation, pc: number): number | undefined {
  return isSubprogramCall(operation) ? pc + 1 + operation.imm : operation.callback;
}

function refuseUnsupported(program: string, { opcode, src, offset }: Instruction, pc: number): void {
  const refuse = (what: string): never => {
    throw new UnsupportedError(`program ${program}, pc ${pc}: ${what} cannot be run in userspace`, { hint: 'run it in the kernel' });
  };
  const kind = opcode & OpcodeMask.class;
  const isJump = kind === InstructionClass.jmp || kind === InstructionClass.jmp32;
  if (opcode === CALL_OPCODE && src === CallPseudo.kfunc) refuse('a call of a kernel function');
  if (isJump && (opcode & OpcodeMask.code) === JumpCode.cond) refuse('may_goto');
  if (kind === InstructionClass.alu64 && (opcode & OpcodeMask.code) === AluCode.mov && (opcode & Source.reg) !== 0 && offset === 1)
    refuse('a cast of an arena pointer');
  if (opcode === WIDE_OPCODE && src === WidePseudo.btfId) refuse('a variable of the kernel');
  if (kind === InstructionClass.ld && opcode !== WIDE_OPCODE) refuse('legacy packet access');
}

/** r10 is where the stack is: nothing may write it. */
function checkFramePointer(instruction: Instruction, pc: number): void {
  if (!writtenRegisters(instruction).includes(10)) return;
  const field = instruction.dst === 10 ? 'dst' : 'src';
  throw new EncodingError(field, `pc ${pc}: r10 is written, expected it to be read only`, { pc });
}

/** Registers that an instruction which is no call writes; r0 of a cmpxchg is not told. */
function writtenRegisters({ opcode, dst, src, imm }: Instruction): readonly number[] {
  const kind = opcode & OpcodeMask.class;
  if (kind === InstructionClass.alu || kind === InstructionClass.alu64 || kind === InstructionClass.ldx) return [dst];
  if (kind === InstructionClass.ld) return (opcode & OpcodeMask.mode) === Mode.imm ? [dst] : [];
  if (kind !== InstructionClass.stx || (opcode & OpcodeMask.mode) !== Mode.atomic) return [];
  if (imm === AtomicCode.loadAcquire) return [dst];
  return imm !== AtomicCode.cmpxchg && (imm & AtomicCode.fetchAdd) !== 0 ? [src] : [];
}

function checkTargets(code: Code): void {
  const check = (pc: number, to: number, what: string): void => {
    if (code[to] !== undefined) return;
    const where = to < 0 || to >= code.length ? 'outside the program' : 'into a wide instruction';
    throw new EncodingError('offset', `pc ${pc}: ${what} leads ${where}, to slot ${to}`, { pc });
  };
  for (const [pc, operation] of code.entries()) {
    if (operation === undefined) continue;
    const flow = flowOf(operation);
    if (flow === 'jump' || flow === 'branch') check(pc, targetOf(operation, pc), 'a jump');
    if (isSubprogramCall(operation)) check(pc, pc + 1 + operation.imm, 'a call');
    if (operation.callback !== undefined) check(pc, operation.callback, 'a callback');
    if (flow !== 'exit' && flow !== 'jump' && pc + operation.slots >= code.length)
      throw new EncodingError('opcode', `pc ${pc}: the program runs off its end, expected an exit`, { pc });
  }
}
