/** What a worker runs programs with: the memory, its area in it, and how far a run may go. */
import type { LinkedProgram } from './linked-program.ts';
import type { Linker } from './linker.ts';
import type { EngineMemory } from './memory.ts';
import type { WorkerPool } from './worker-pool.ts';

/** How programs are run. */
export type ExecutionMode = 'wasm' | 'interpreter';

/** How chains are compiled: `well`, so that they are fast from the first packet, or `quickly`, where few packets come. */
export type Effort = 'well' | 'quickly';

/** An instruction that is about to run. */
export interface InterpreterStep {
  readonly program: LinkedProgram;
  /** Slot where the function starts. */
  readonly start: number;
  readonly pc: number;
  /** Frames above. */
  readonly depth: number;
  readonly registers: readonly bigint[];
}

/** One worker. */
export interface WorkerContext {
  readonly memory: EngineMemory;
  /** Start of its area. */
  readonly worker: number;
  readonly mode: ExecutionMode;
  /** The chains of the engine. */
  readonly linker: Linker;
  /** Values of per-CPU maps. */
  readonly cpus: number;
  /** Turns of loops before a run is stopped. */
  readonly turnLimit: number;
  /** Threads that run parts of batches beside this one. */
  readonly pool?: WorkerPool | undefined;
  /** Default `well`. */
  readonly compile?: Effort;
  /** False: accesses are checked although they were proved. What tests hold proofs to. */
  readonly proves?: boolean;
  /** Interpreters call it before each instruction: what tests look on by. */
  readonly onStep?: (step: InterpreterStep) => void;
  /** ns since boot, as the clock helpers answer. */
  readonly now: () => bigint;
}
