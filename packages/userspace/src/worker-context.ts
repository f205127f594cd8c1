/** What a worker runs programs with: the memory, its area in it, and how far a run may go. */
import type { EngineMemory } from './memory.ts';

/** How programs are run. */
export type ExecutionMode = 'wasm' | 'interpreter';

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
  /** ns since boot, as the clock helpers answer. */
  readonly now: () => bigint;
}
