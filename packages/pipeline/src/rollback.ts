/** Changes that fail and cannot be taken back whole, and ends that fail more than once: one error tells all of it. */
import { ClosingError, RollbackError } from '@tailrace/bpf';

/** Takes something back after `error`, one after the other, each whatever becomes of the others. Returns what is to be thrown. */
export async function takenBack(error: unknown, ...undo: readonly (() => unknown)[]): Promise<unknown> {
  return withFailures(error, await failuresOf(undo));
}

/** Makes something that takes itself back by `using`: where both fail, one error tells it. */
export async function tellingBoth<T>(make: () => Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    throw withFailures(error, []);
  }
}

/** Does all of it, one after the other, each whatever becomes of the others. Throws what failed, or a ClosingError where several did. */
export async function allDone(what: string, ...steps: readonly (() => unknown)[]): Promise<void> {
  const failures = (await failuresOf(steps)).flatMap((failure) => [...inOrder(failure)]);
  if (failures.length > 0) throw failures.length === 1 ? failures[0] : new ClosingError(what, failures);
}

/** Does all of it, one after the other, and returns what failed. */
async function failuresOf(steps: readonly (() => unknown)[]): Promise<readonly unknown[]> {
  const failures: unknown[] = [];
  for (const step of steps) await Promise.try(step).catch((failure: unknown) => void failures.push(failure));
  return failures;
}

function withFailures(error: unknown, others: readonly unknown[]): unknown {
  const [first, ...failures] = [...inOrder(error), ...others.flatMap((other) => [...inOrder(other)])];
  return failures.length === 0 ? first : new RollbackError(first, failures);
}

/** All that errors of disposing and of taking back are made of, what failed first in front. */
function* inOrder(error: unknown): Generator<unknown> {
  if (error instanceof SuppressedError) {
    yield* inOrder(error.suppressed);
    yield* inOrder(error.error);
  } else if (error instanceof RollbackError) {
    yield* inOrder(error.cause);
    for (const failure of error.failures) yield* inOrder(failure);
  } else yield error;
}
