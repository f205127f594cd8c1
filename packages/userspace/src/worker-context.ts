/** What a worker runs programs with: the memory, its area in it, and how far a run may go. */
import type { EngineMemory } from './memory.ts';
import type { WorkerPool } from './worker-pool.ts';

/** How programs are run. */
export type ExecutionMode = 'wasm' | 'interpreter';

/** How chains are compiled: `well`, so that they are fast from the first packet, or `quickly`, where few packets come. */
export type Effort = 'well' | 'quickly';

/** One worker. */
export interface WorkerContext {
  readonly memory: EngineMemory;
  /** Start of its area. */
  readonly worker: number;
  readonly mode: ExecutionMode;
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
  /** ns since boot, as the clock helpers answer. */
  readonly now: () => bigint;
}
