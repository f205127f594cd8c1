/**
 * A function's code as a module has it, and where it calls other functions: what is never called is left out of a module, and
 * the rest has other numbers. Instructions: WebAssembly Core Specification 2.0, chapter 5.4, with tail calls and threads.
 */
import { TailraceError } from '@tailrace/bpf';
import { ByteReader } from './byte-reader.ts';

/** A call: where the number of the function that is called stands, in how many bytes. */
export interface CallSite {
  readonly at: number;
  /** 0: no number was written. */
  readonly bytes: number;
  readonly callee: number;
}

/** Locals and instructions of a function, without the length before them. */
export interface FunctionCode {
  readonly bytes: Uint8Array;
  /** In the order of their places. */
  readonly calls: readonly CallSite[];
}

/** Code that was compiled elsewhere. Throws TailraceError for instructions that the runtime is not made of. */
export function codeFrom(bytes: Uint8Array): FunctionCode {
  const reader = new ByteReader(bytes);
  const calls: CallSite[] = [];
  for (let groups = reader.u32(); groups > 0; groups--) {
    reader.u32();
    reader.byte();
  }
  while (!reader.isAtEnd) {
    const opcode = reader.byte();
    if (opcode === CALL || opcode === RETURN_CALL) {
      const at = reader.at;
      const callee = reader.u32();
      calls.push({ at, bytes: reader.at - at, callee });
    } else skipImmediates(reader, opcode);
  }
  return { bytes, calls };
}

/** The functions that are called from some, these among them; by number, in order. */
export function reachedFrom(roots: readonly number[], functions: readonly FunctionCode[]): readonly number[] {
  const reached = new Set(roots);
  // a Set can grow while it is walked
  for (const index of reached) for (const { callee } of functions[index]?.calls ?? []) reached.add(callee);
  return [...reached].sort((a, b) => a - b);
}

const CALL = 0x10;
const RETURN_CALL = 0x12;
/** What instructions of more than one byte begin with. */
const BULK = 0xfc;
const ATOMIC = 0xfe;

/** Skips what follows an opcode that calls nothing. */
function skipImmediates(reader: ByteReader, opcode: number): void {
  // br_table: labels, and one more for what is beyond them
  if (opcode === 0x0e) for (let left = reader.u32() + 1; left > 0; left--) reader.u32();
  // loads and stores: an alignment and an offset
  else if (opcode >= 0x28 && opcode <= 0x3e) skipNumbers(reader, 2);
  // blocks by their types, branches, locals and globals, memory.size and memory.grow, constants
  else if (ONE_NUMBER.has(opcode)) skipNumbers(reader, 1);
  else if (opcode === BULK) skipNumbers(reader, bulkNumbers(reader.u32()));
  else if (opcode === ATOMIC) skipNumbers(reader, reader.u32() === ATOMIC_FENCE ? 1 : 2);
  else if (opcode === 0x43 || opcode === 0x44) reader.take(opcode === 0x43 ? 4 : 8);
  else if (opcode > LAST_PLAIN || INDIRECT.has(opcode)) throw unknown(opcode);
}

const ONE_NUMBER: ReadonlySet<number> = new Set([0x02, 0x03, 0x04, 0x0c, 0x0d, 0x20, 0x21, 0x22, 0x23, 0x24, 0x3f, 0x40, 0x41, 0x42]);
/** Calls by tables, typed selections, tables: the runtime has none. */
const INDIRECT: ReadonlySet<number> = new Set([0x11, 0x13, 0x1c, 0x25, 0x26]);
/** i64.extend32_s; behind it come references. */
const LAST_PLAIN = 0xc4;
const ATOMIC_FENCE = 0x03;
/** Floats to integers, saturating. */
const LAST_TRUNCATION = 7;
const MEMORY_COPY = 10;
const MEMORY_FILL = 11;

function bulkNumbers(operation: number): number {
  if (operation <= LAST_TRUNCATION) return 0;
  if (operation === MEMORY_COPY) return 2;
  if (operation === MEMORY_FILL) return 1;
  throw unknown(BULK);
}

/** LEB128 numbers, signed or not. */
function skipNumbers(reader: ByteReader, count: number): void {
  for (let left = count; left > 0; ) if (reader.byte() < 0x80) left -= 1;
}

function unknown(opcode: number): TailraceError {
  return new TailraceError('compile', `the runtime has an instruction 0x${opcode.toString(16)}, which is not known here`);
}
