/** Has each system call of an operation fail once, the first, the second and so on, until one run has none left to fail. */
import { TailraceError } from '@tailrace/bpf';
import { expect } from 'vitest';
import { failureTaken, injectFailure } from '../packages/kernel/src/syscall.ts';

/** What came of one run. */
export interface FailingRun {
  /** Which call failed, from 1. */
  readonly nth: number;
  /** Thrown by the operation; undefined where it went on without the call. */
  readonly error: TailraceError | undefined;
}

/** Runs `operate` over and over, `check` after each run in which a call failed. Returns how many calls there are. */
export function failing(operate: () => Promise<unknown>, check: (run: FailingRun) => Promise<void>): Promise<number> {
  return failingAfter(async () => operate, check);
}

/** As `failing`, for what has to be prepared each time. */
export async function failingAfter(
  prepare: () => Promise<() => Promise<unknown>>,
  check: (run: FailingRun) => Promise<void>,
): Promise<number> {
  for (let nth = 1; ; nth += 1) {
    const operate = await prepare();
    injectFailure(nth);
    let error: unknown;
    try {
      await operate();
    } catch (thrown) {
      error = thrown;
    }
    const taken = failureTaken();
    injectFailure(0);
    if (error !== undefined) expect(error, `call ${nth}`).toBeInstanceOf(TailraceError);
    if (!taken) {
      expect(error).toBeUndefined();
      return nth - 1;
    }
    await check({ nth, error: error as TailraceError | undefined });
  }
}
