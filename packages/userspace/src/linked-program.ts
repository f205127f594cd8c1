/** Programs of a chain as the translator and the interpreter see them: code, graphs, and maps with their places in memory. */
import type { MapSpec, ProgramSpec } from '@tailrace/bpf';
import type { Code } from './code.ts';
import type { FunctionGraph } from './control-flow.ts';

/** A map, where it lies. */
export interface MapPlace {
  readonly spec: MapSpec;
  /** Address of its descriptor. */
  readonly address: number;
  /** Tag of pointers to its values. */
  readonly tag: number;
  /** Address of its first value. */
  readonly values: number;
  /** Bytes from entry to entry, and from one CPU's value to the next. */
  readonly stride: number;
  readonly valueStride: number;
  /** Other workers may change it meanwhile. */
  readonly isShared: boolean;
  /** Program arrays: numbers of programs in the chain, by slot. */
  readonly slots: ReadonlyMap<number, number>;
}

/** One program of a chain. */
export interface LinkedProgram {
  readonly spec: ProgramSpec;
  /** Its number in the chain; 0 is the one that packets enter. */
  readonly index: number;
  readonly code: Code;
  /** Its functions, the entry point's first. */
  readonly graphs: readonly FunctionGraph[];
  /** Frames that its calls take, the entry point's own counted. */
  readonly frames: number;
  /** Maps by the program's names. */
  readonly maps: ReadonlyMap<string, MapPlace>;
}

/** What the entry point is given: the context, or a block of memory and its length (programs without a hook). */
export type Entry = 'context' | 'memory';
