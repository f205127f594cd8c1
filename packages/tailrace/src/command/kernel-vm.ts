/**
 * Raw programs in the kernel: r1 points to a block of memory, r2 has its length, r0 is the answer. The program becomes the
 * rest of an XDP program that begins like this, and each `exit` of its first function becomes a jump to the epilogue:
 *
 *     0: goto start
 *        epilogue: r1 = &result; *r1 = r0; r0 = 0; exit
 *        start: r1 = &memory; r2 = length
 *
 * Since everything is put in front and an exit takes as many slots as a jump, no distance changes: neither those of jumps nor
 * those to subprograms, whose own exits stay.
 */
import {
  ArgumentError,
  CALL_OPCODE,
  CallPseudo,
  decode,
  type EngineInstance,
  EXIT_OPCODE,
  type Instruction,
  insn,
  type LoadedMap,
  type LoadedProgram,
  type MapReference,
  type MapSpec,
  type ProgramSpec,
  slotCount,
  slotsOf,
  UnsupportedError,
  WIDE_OPCODE,
  WidePseudo,
} from '@tailrace/bpf';
import { VerifierError } from '@tailrace/kernel';

/** Slots that are put in front, and where the epilogue starts. */
const EPILOGUE = 1;
/** A test run wants a packet, which the program never sees. */
const PACKET = new Uint8Array(64);
const FIRST_KEY = new Uint8Array(4);
/** The farthest that a plain jump leads back. */
const FARTHEST = -0x8000;

/**
 * Runs instructions, as bytes, in the kernel, on a block of memory; without one r1 and r2 are 0. Gives r0, unsigned. Throws
 * EncodingError, VerifierError and SyscallError for programs that are none, UnsupportedError for those that name maps.
 */
export async function runInKernel(instance: EngineInstance, bytes: Uint8Array, memory: Uint8Array): Promise<bigint> {
  using maps = new DisposableStack();
  const make = (name: string, valueSize: number): LoadedMap => {
    const map = instance.createMap({ ...ONE, name, valueSize });
    maps.defer(() => map.close());
    return map;
  };
  const result = make('result', 8);
  const named = new Map([['result', result]]);
  if (memory.length > 0) {
    const block = make('memory', memory.length);
    block.update(FIRST_KEY, memory);
    named.set('memory', block);
  }
  const program = await load(instance, decode(bytes), memory.length, named);
  try {
    await program.testRun({ packet: PACKET });
  } finally {
    program.close();
  }
  const value = result.lookup(FIRST_KEY);
  if (value === undefined) throw new ArgumentError('map result has no value, expected one');
  return new DataView(value.buffer, value.byteOffset).getBigUint64(0, true);
}

const ONE: Omit<MapSpec, 'name' | 'valueSize'> = { type: 'array', keySize: 4, maxEntries: 1, flags: 0 };

/** Loads a program as part of another; what the verifier has against it is told by its own slots. */
async function load(
  instance: EngineInstance,
  instructions: readonly Instruction[],
  memoryBytes: number,
  maps: ReadonlyMap<string, LoadedMap>,
): Promise<LoadedProgram> {
  const spec = wrapped(instructions, memoryBytes);
  try {
    return await instance.loadProgram(spec, maps);
  } catch (error) {
    if (!(error instanceof VerifierError) || error.pc === undefined) throw error;
    const { program, reason, instruction, registers, log } = error;
    const pc = error.pc - slotCount(spec.instructions) + slotCount(instructions);
    throw new VerifierError({ program, reason, pc: pc < 0 ? undefined : pc, instruction, registers, log }, error);
  }
}

/** The XDP program around a program. Throws UnsupportedError. */
function wrapped(program: readonly Instruction[], memoryBytes: number): ProgramSpec {
  const epilogue = [insn.wideMapValue(1, 0), insn.store(8, 1, 0, 0), insn.mov(0, 0), insn.exit()];
  const start = memoryBytes > 0 ? [insn.wideMapValue(1, 0), insn.mov(2, memoryBytes)] : [insn.mov(1, 0), insn.mov(2, 0)];
  const front = [insn.ja(slotCount(epilogue)), ...epilogue, ...start];
  const offset = slotCount(front);
  const subprograms = subprogramsOf(program);
  const end = subprograms[0] ?? Number.POSITIVE_INFINITY;
  let pc = 0;
  const body = program.map((instruction) => {
    const at = pc;
    pc += slotsOf(instruction);
    if (instruction.opcode !== EXIT_OPCODE || at >= end) return instruction;
    const distance = EPILOGUE - (offset + at + 1);
    return distance < FARTHEST ? insn.ja32(distance) : insn.ja(distance);
  });
  const memory: readonly MapReference[] = memoryBytes > 0 ? [{ pc: EPILOGUE + slotCount(epilogue), map: 'memory', valueOffset: 0 }] : [];
  return {
    name: 'program',
    type: 'xdp',
    frags: false,
    license: 'Dual MIT/GPL',
    instructions: [...front, ...body],
    mapReferences: [{ pc: EPILOGUE, map: 'result', valueOffset: 0 }, ...memory],
    functions: [{ pc: 0, name: 'program' }, ...subprograms.map((start) => ({ pc: offset + start, name: `function_${start}` }))],
    lines: [],
  };
}

/** Where functions start that are called or given to helpers, in order. Throws UnsupportedError for what only the kernel has a name for. */
function subprogramsOf(program: readonly Instruction[]): readonly number[] {
  const starts = new Set<number>();
  const slots = slotCount(program);
  let pc = 0;
  for (const { opcode, src, imm } of program) {
    if (opcode === CALL_OPCODE && src === CallPseudo.kfunc) throw unsupported(pc, 'calls a kernel function by its number');
    if (opcode === WIDE_OPCODE && src !== WidePseudo.value && src !== WidePseudo.func)
      throw unsupported(pc, 'loads a map or variable by its number');
    const isCall = opcode === CALL_OPCODE && src === CallPseudo.subprogram;
    const target = pc + 1 + imm;
    if ((isCall || (opcode === WIDE_OPCODE && src === WidePseudo.func)) && target > 0 && target < slots) starts.add(target);
    pc += opcode === WIDE_OPCODE ? 2 : 1;
  }
  return [...starts].sort((left, right) => left - right);
}

/** Numbers of descriptors and types mean something in the process that made the program, and something else here. */
function unsupported(pc: number, what: string): UnsupportedError {
  return new UnsupportedError(`program at pc ${pc} ${what}, which has no meaning here`);
}
