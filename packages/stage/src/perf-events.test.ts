import { expect, expectTypeOf, test } from 'vitest';
import { mapDifferences } from './binding.ts';
import { toMapSpec } from './map-spec.ts';
import { type PerfEventOptions, type PerfEvents, type PerfPacket, perfEvents } from './perf-events.ts';
import { nothing, struct, u16, u64 } from './schema.ts';

const Seen = struct({ at: u64, length: u16 });

test('a perf event array has slots for descriptors, one for each CPU unless it says a number', () => {
  const events = perfEvents({ name: 'seen', value: Seen });
  const spec = { name: 'edge/seen', type: 'perfEventArray', keySize: 4, valueSize: 4, maxEntries: 0, flags: 0 };
  expect(toMapSpec(events, 'edge/seen')).toEqual(spec);
  expect(toMapSpec(perfEvents({ name: 'seen', value: Seen, maxEntries: 128 }), 'edge/seen')).toEqual({ ...spec, maxEntries: 128 });
  expect(mapDifferences(events, perfEvents({ name: 'seen', value: u64 })).map(({ field }) => field)).toEqual(['value']);
});

test('what events are is in the type', () => {
  expectTypeOf(perfEvents({ name: 'seen', value: u64 })).toEqualTypeOf<PerfEvents<bigint>>();
  expectTypeOf(perfEvents({ name: 'seen', value: u64, packet: true })).toEqualTypeOf<PerfEvents<PerfPacket<bigint>>>();
});

test.each<[Partial<PerfEventOptions<unknown>>, string]>([
  [{ bytes: 0 }, "perfEventArray 'seen': bytes is 0, expected 1 to 1073741824"],
  [{ bytes: 1.5 }, "perfEventArray 'seen': bytes is 1.5, expected 1 to 1073741824"],
  [{ bytes: 2 ** 31 }, "perfEventArray 'seen': bytes is 2147483648, expected 1 to 1073741824"],
  [{ maxEntries: -1 }, "perfEventArray 'seen': maxEntries is -1, expected 0..4294967295"],
  [{ value: nothing }, "perfEventArray 'seen': the value is nothing, expected a schema with bytes"],
])('%o is refused', (wrong, message) => {
  expect(() => perfEvents({ name: 'seen', value: Seen as never, ...wrong })).toThrow(message);
});
