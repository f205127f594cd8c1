/** Readings that pass over keys. */
import type { Batch } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { inPasses } from './map-pass.ts';

const part = (...keys: number[]): Batch => ({
  count: keys.length,
  keys: Uint8Array.from(keys.flatMap((key) => [key, 0])),
  values: Uint8Array.from(keys.flatMap((key) => [key + 100, 1, 2])),
});
/** Each reading gives the next of these, the last one again and again. */
function readings(...all: (readonly Batch[])[]) {
  let count = 0;
  const read = () => all[Math.min(count++, all.length - 1)] as readonly Batch[];
  return { parts: [...inPasses(read)], count };
}

test('what is passed over in one reading comes in the next, each key once, with its value', () => {
  const { parts, count } = readings([part(5), part(9, 1)], [part(5, 3), part(9, 1)]);
  expect(parts).toEqual([part(5), part(9, 1), part(3)]);
  expect(count).toBe(3);
});

test('a map at rest is read twice, an empty one too', () => {
  expect(readings([part(5, 3)])).toEqual({ parts: [part(5, 3)], count: 2 });
  expect(readings([part()])).toEqual({ parts: [part()], count: 2 });
});

test('where there is always something new it ends all the same', () => {
  const { parts, count } = readings(...[1, 2, 3, 4, 5, 6].map((key) => [part(key)]));
  expect(parts).toEqual([part(1), part(2), part(3), part(4)]);
  expect(count).toBe(4);
});

test('a key that is given twice in one reading is given once', () => {
  expect(readings([part(1, 2), part(2, 3)]).parts).toEqual([part(1, 2), part(3)]);
});
