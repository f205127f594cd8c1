/** Waiting that ends: nothing in a test waits without a bound. */
import { TailraceError } from '@tailrace/bpf';

/** What was waited for did not come in time. */
export class TimeoutError extends TailraceError {
  constructor(what: string, timeoutMs: number, seen?: string) {
    super('timeout', `${what}: nothing within ${timeoutMs} ms${seen === undefined || seen === '' ? '' : `; meanwhile came\n${seen}`}`);
  }
}

/** `promise`, or TimeoutError after `timeoutMs`; `what` starts its message, `seen` may add what came instead. */
export async function within<T>(promise: Promise<T>, timeoutMs: number, what: string, seen?: () => string): Promise<T> {
  const { promise: expired, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new TimeoutError(what, timeoutMs, seen?.())), timeoutMs);
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks again every 5 ms until the answer is neither undefined nor false. Throws TimeoutError. */
export async function eventually<T>(
  ask: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = 2000,
  what = 'a condition',
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() >= deadline) throw new TimeoutError(what, timeoutMs);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
