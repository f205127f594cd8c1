/** How long the memory is that helpers are given. */
import type { MapSpec } from '@tailrace/bpf';
import type { AbstractValue } from './abstract-value.ts';
import type { ArgumentKind } from './helper.ts';

/** Largest number of bytes that a helper may be given at once: beyond it nothing is inside of anything. */
export const MAX_BYTES = 0x3fff_ffff;

/** Bytes of an argument that is memory, of a call with these values in r1 to r5; undefined where only the run tells. */
export function argumentBytes(kind: ArgumentKind, given: readonly AbstractValue[]): number | undefined {
  if (kind === 'lock') return 4;
  if (kind === 'key') return mapOf(given)?.keySize;
  if (kind === 'value' || kind === 'outValue') return mapOf(given)?.valueSize;
  if (typeof kind === 'string') return undefined;
  if (typeof kind.size === 'number') return kind.size;
  const size = given[kind.size.argument];
  // no bytes at all may be nowhere
  if (size?.kind !== 'number' || size.constant === undefined || size.constant === 0n || size.max > MAX_BYTES) return undefined;
  return size.max;
}

/** The map that a call is given, where it surely is one: its first argument, or the one behind the context. */
function mapOf([first, second]: readonly AbstractValue[]): MapSpec | undefined {
  const map = first?.kind === 'map' ? first : first?.kind === 'context' ? second : undefined;
  return map?.kind === 'map' && !map.maybeNull ? map.spec : undefined;
}
