import { type AnyMap, arrayOfMaps, bloomFilter, cpumap, hash, programArray, queue, ringBuffer, sockhash, u32 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { migrate } from './migration.ts';

const flows = hash({ name: 'flows', key: u32, value: u32, maxEntries: 8 });

test.each<AnyMap>([
  programArray({ name: 'flows', maxEntries: 8 }),
  sockhash({ name: 'flows', key: u32, maxEntries: 8 }),
  cpumap({ name: 'flows', maxEntries: 8 }),
  queue({ name: 'flows', value: u32, maxEntries: 8 }),
  bloomFilter({ name: 'flows', value: u32, maxEntries: 8 }),
  ringBuffer({ name: 'flows', value: u32, bytes: 4096 }),
  arrayOfMaps({ name: 'flows', maxEntries: 8, inner: flows }),
])('a $type is refused on either side', (map) => {
  const refused = expect.objectContaining({
    code: 'argument',
    message: `migrate: map 'flows' is of type ${map.type}, whose entries cannot be taken along`,
    hint: 'those of hash, lruHash, perCpuHash, lruPerCpuHash, lpmTrie, array, perCpuArray can',
  });
  expect(() => migrate(map as typeof flows, flows)).toThrow(refused);
  expect(() => migrate(flows, map as typeof flows)).toThrow(refused);
});

test('maps keep their names', () => {
  const other = hash({ name: 'conns', key: u32, value: u32, maxEntries: 8 });
  expect(() => migrate(flows, other)).toThrowErrorMatchingInlineSnapshot(
    `[ArgumentError: migrate: maps 'flows' and 'conns' have different names, expected one]`,
  );
});
