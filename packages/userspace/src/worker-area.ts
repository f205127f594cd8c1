/** A worker's area in memory, as it is before the first packet: its regions, its number, its random numbers. */
import {
  FRAME_LIMIT,
  FRAME_SIZE,
  REGION_BASE,
  REGION_COUNT,
  REGION_LENGTH,
  REGION_SIZE,
  REGION_STRIDE,
  TAG_STACK,
  WORKER_CPU,
  WORKER_RANDOM,
  WORKER_REGIONS,
  WORKER_SIZE,
  WORKER_STACK,
} from './layout.ts';
import type { EngineMemory } from './memory.ts';

/** Makes the area that starts at `worker`. */
export function initializeWorker(
  { u8, view }: EngineMemory,
  worker: number,
  { cpu, seed }: { readonly cpu: number; readonly seed: bigint },
): void {
  u8.fill(0, worker, worker + WORKER_SIZE);
  for (let depth = 0; depth < FRAME_LIMIT; depth++) {
    const row = worker + WORKER_REGIONS + (TAG_STACK + depth) * REGION_SIZE;
    view.setUint32(row + REGION_BASE, worker + WORKER_STACK + depth * FRAME_SIZE, true);
    view.setUint32(row + REGION_LENGTH, FRAME_SIZE, true);
    view.setUint32(row + REGION_STRIDE, 0, true);
    view.setUint32(row + REGION_COUNT, 1, true);
  }
  view.setUint32(worker + WORKER_CPU, cpu, true);
  view.setBigUint64(worker + WORKER_RANDOM, BigInt.asUintN(64, seed) || 1n, true);
}
