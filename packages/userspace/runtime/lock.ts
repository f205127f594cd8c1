/** Spin locks in map values: a u32, 0 while nobody holds it. A program holds one at a time. */
import { WORKER_HELD_LOCK } from '../src/layout';

/** Attempts until the holder is given up: far longer than any program runs between its two calls. */
const PATIENCE: u32 = 1 << 28;

/** bpf_spin_lock: 1 where the lock is taken, 0 where the program holds one already or nobody gives it back. */
export function spin_lock(worker: usize, lock: usize): i32 {
  if (load<u32>(worker + WORKER_HELD_LOCK)) return 0;
  let left = PATIENCE;
  while (atomic.cmpxchg<u32>(lock, 0, 1) != 0) {
    if (left == 0) return 0;
    left--;
  }
  store<u32>(worker + WORKER_HELD_LOCK, <u32>lock);
  return 1;
}

/** bpf_spin_unlock: 1, or 0 where the program does not hold that lock. */
export function spin_unlock(worker: usize, lock: usize): i32 {
  if (load<u32>(worker + WORKER_HELD_LOCK) != <u32>lock) return 0;
  store<u32>(worker + WORKER_HELD_LOCK, 0);
  atomic.store<u32>(lock, 0);
  return 1;
}

/** Gives back the lock of a program that stopped while it held one. */
export function spin_release(worker: usize): void {
  const lock = <usize>load<u32>(worker + WORKER_HELD_LOCK);
  if (lock) spin_unlock(worker, lock);
}
