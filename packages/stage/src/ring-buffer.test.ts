import { expect, test } from 'vitest';
import { mapDifferences } from './binding.ts';
import { events } from './events.ts';
import { toMapSpec } from './map-spec.ts';
import { mapsIn } from './reach.ts';
import { type RingBufferOptions, ringBuffer } from './ring-buffer.ts';
import { array, nothing, struct, u8, u16, u32, u64 } from './schema.ts';

const Seen = struct({ at: u64, length: u16 });

test('a ring buffer has no key and no size of values, and nothing describes it', () => {
  const ring = ringBuffer({ name: 'seen', value: Seen, bytes: 8192 });
  expect(toMapSpec(ring, 'edge/seen')).toEqual({
    name: 'edge/seen',
    type: 'ringBuffer',
    keySize: 0,
    valueSize: 0,
    maxEntries: 8192,
    flags: 0,
  });
  expect(Object.isFrozen(ring)).toBe(true);
  expect(mapDifferences(ring, ringBuffer({ name: 'seen', value: u64, bytes: 4096 })).map(({ field }) => field)).toEqual([
    'value',
    'maxEntries',
  ]);
});

test.each<[Partial<RingBufferOptions<unknown>>, string]>([
  [{ bytes: 4000 }, "ringBuffer 'seen': bytes is 4000, expected a power of two from 4096 to 1073741824"],
  [{ bytes: 2048 }, "ringBuffer 'seen': bytes is 2048, expected a power of two from 4096 to 1073741824"],
  [{ bytes: 12_288 }, "ringBuffer 'seen': bytes is 12288, expected a power of two from 4096 to 1073741824"],
  [{ bytes: 2 ** 31 }, "ringBuffer 'seen': bytes is 2147483648, expected a power of two from 4096 to 1073741824"],
  [{ bytes: Number.NaN }, "ringBuffer 'seen': bytes is NaN, expected a power of two from 4096 to 1073741824"],
  [{ name: 'a b' }, "ringBuffer: name 'a b', expected 1 to 64 letters, digits, '_', '.' or '-'"],
  [{ value: nothing }, "ringBuffer 'seen': the value is nothing, expected a schema with bytes"],
  [{ value: array(u8, 4081) }, "ringBuffer 'seen': the value takes 4081 bytes, expected at most 4080"],
])('%o is refused', (wrong, message) => {
  expect(() => ringBuffer({ name: 'seen', value: Seen as never, bytes: 4096, ...wrong })).toThrow(message);
});

test('events are a ring and what it lost', () => {
  const seen = events({ name: 'seen', value: Seen });
  expect(mapsIn({ seen }).map(({ name, type, maxEntries }) => `${type} ${name} ${maxEntries}`)).toEqual([
    'ringBuffer seen 262144',
    'perCpuArray seen.losses 1',
  ]);
  expect(Object.keys(seen.fns)).toEqual(['send']);
  expect(() => events({ name: 'seen', value: u32, bytes: 5000 })).toThrow('bytes is 5000');
});
