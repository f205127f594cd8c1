/** Keys and values of many entries, as engines hand them over. */
import type { Batch } from './engine.ts';

/** Batches of one map as one, in their order. */
export function joinBatches(parts: readonly Batch[]): Batch {
  const [first] = parts;
  if (first && parts.length === 1) return first;
  return {
    count: parts.reduce((sum, { count }) => sum + count, 0),
    keys: joined(parts.map(({ keys }) => keys)),
    values: joined(parts.map(({ values }) => values)),
  };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
