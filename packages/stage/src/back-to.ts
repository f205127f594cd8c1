/** Loops in a chain: an exit that leads back to a stage before it, which has to be said so. */
import { ArgumentError } from '@tailrace/bpf';

/** A target that leads back. */
export interface BackTo<N extends string = string> {
  readonly kind: 'backTo';
  /** Of a stage, or the function's and the stage's with a dot between, as seen from where the exit is wired. */
  readonly name: N;
}

/**
 * Leads a packet back to a stage that it has passed: `parse.on({ inner: [decap, backTo('parse')] })`. The kernel ends every loop:
 * the 34th tail call of a packet falls through, is counted as a miss, and gets what the stage says `onMiss`.
 * Throws ArgumentError for what is no name.
 */
export function backTo<const N extends string>(name: N): BackTo<N> {
  if (!/^[A-Za-z]\w*(\.[A-Za-z]\w*)*$/.test(name)) throw new ArgumentError(`backTo: '${name}' is no name of a stage`);
  return Object.freeze({ kind: 'backTo', name });
}

/** True for what `backTo` gave. */
export function isBackTo(value: unknown): value is BackTo {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'backTo';
}
