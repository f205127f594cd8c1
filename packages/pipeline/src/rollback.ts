/** Changes that fail and cannot be taken back whole: one error tells what went wrong first, and what went wrong then. */
import { RollbackError } from '@tailrace/bpf';

/** Takes something back after `error`, one after the other, each whatever becomes of the others. Returns what is to be thrown. */
export async function takenBack(error: unknown, ...undo: readonly (() => unknown)[]): Promise<unknown> {
  const failures: unknown[] = [];
  for (const one of undo) await Promise.try(one).catch((failure: unknown) => void failures.push(failure));
  return withFailures(error, failures);
}

/** Makes something that takes itself back by `using`: where both fail, one error tells it. */
export async function tellingBoth<T>(make: () => Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    throw withFailures(error, []);
  }
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
