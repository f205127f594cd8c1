/** What translated functions share: the module that they are written into, and what they are translated with. */
import type { Registers } from './arithmetic.ts';
import type { Entry, LinkedProgram } from './linked-program.ts';
import type { Provenance } from './provenance.ts';
import type { TileWriter } from './tile-writer.ts';
import { type FunctionWriter, type ModuleWriter, Type, type ValueType } from './wasm-writer.ts';

/** What the programs of one module share. */
export interface ModuleContext {
  readonly module: ModuleWriter;
  /** Start of the worker's area. */
  readonly worker: number;
  /** Several workers run over the maps: atomics are real. */
  readonly isShared: boolean;
  readonly entry: Entry;
  /** Global i32: turns of loops that are left. */
  readonly turns: number;
  /** Function (pointer i64, bytes i32, reason i32, program i32, pc i32): leaves the trap behind and traps. */
  readonly trap: number;
  /** Functions of the entry points, by program number. */
  readonly entries: readonly number[];
  /** Frames of the programs, by program number. */
  readonly frames: readonly number[];
  /** Whether tail calls are counted: there may be more of them than the limit. */
  readonly countsTailCalls: boolean;
  /** Whether programs may start behind frames of others: tail calls are made out of subprograms. */
  readonly startsDeep: boolean;
  /** Functions that store into fields of the context, by type of program and bytes: see context-store.ts. */
  readonly contextStores: Map<string, number>;
}

/** Type of a program's entry point: the end of its frame. */
export const ENTRY_PARAMETERS: readonly ValueType[] = [Type.i64];
/** Type of a subprogram: r1 to r5, and the end of its frame. */
export const SUBPROGRAM_PARAMETERS: readonly ValueType[] = [Type.i64, Type.i64, Type.i64, Type.i64, Type.i64, Type.i64];
export const RESULT: readonly ValueType[] = [Type.i64];

/** What a function is translated with. */
export interface FunctionParts {
  readonly context: ModuleContext;
  readonly program: LinkedProgram;
  readonly provenance: Provenance;
  /** Numbers of the program's functions, by the slots where they start. */
  readonly functions: ReadonlyMap<number, number>;
  readonly writer: FunctionWriter;
  readonly registers: Registers;
  /** What of the function's frame is in locals; undefined where nothing is. */
  readonly tiles: TileWriter | undefined;
  /** Set where the function's code stands inside of another function: what takes its place. */
  readonly inlined?: InlinedFunction;
}

/** How code that stands inside of another function ends, and what it knows from there. */
export interface InlinedFunction {
  /** Local i64 for the result. */
  readonly result: number;
  /** The writer's depth just inside the block that the code branches out of. */
  readonly depth: number;
  /** Locals i32 with the packet's first byte and the byte behind its last, where nothing moves the packet before they are read. */
  readonly ends: { readonly data: number; readonly end: number } | undefined;
}
