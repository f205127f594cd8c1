/** Maps of both engines under the same calls: what they answer, and what they refuse in which words. */
import { type EngineInstance, isPerCpu, type LoadedMap, type MapSpec, type MapType, type UpdateFlag } from '@tailrace/bpf';
import { kernel } from '@tailrace/kernel';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mapSpec, u32 } from './fixture.ts';
import { UserspaceMap } from './map.ts';
import { EngineMemory } from './memory.ts';

const memory = new EngineMemory();
let engine: EngineInstance;
beforeAll(async () => {
  engine = await kernel({ interfaces: [] }).open();
});
afterAll(() => engine.close());

type Step =
  | { readonly kind: 'lookup' | 'delete' | 'nextKey'; readonly key: Uint8Array }
  | { readonly kind: 'update'; readonly key: Uint8Array; readonly value: Uint8Array; readonly flag: UpdateFlag }
  | { readonly kind: 'updateBatch'; readonly entries: readonly (readonly [Uint8Array, Uint8Array])[] }
  | { readonly kind: 'deleteBatch'; readonly keys: readonly Uint8Array[] }
  | { readonly kind: 'first' | 'readAll' | 'pop' };

interface Kind {
  readonly rest?: Partial<MapSpec>;
  readonly key: fc.Arbitrary<Uint8Array>;
  /** Default any bytes. */
  readonly value?: fc.Arbitrary<Uint8Array>;
  /** Keys come in the kernel's order. */
  readonly isOrdered?: boolean;
}

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const index = fc.oneof({ weight: 9, arbitrary: fc.nat(9) }, { weight: 1, arbitrary: fc.constantFrom(1000, 0xffff_ffff) }).map(u32);
const prefix = fc
  .tuple(
    fc.oneof(fc.nat(33), fc.constantFrom(0, 8, 9, 16, 32)),
    fc.array(fc.constantFrom(0, 0x80, 0xc0, 0x0a), { minLength: 4, maxLength: 4 }),
  )
  .map(([bits, address]) => Uint8Array.of(...u32(bits), ...address));
const wide = fc
  .tuple(fc.constantFrom(0, 1, 7, 8, 40, 41, 47, 48, 49), fc.array(fc.constantFrom(0, 1, 0x80), { minLength: 6, maxLength: 6 }))
  .map(([bits, address]) => Uint8Array.of(...u32(bits), ...address));
const few = (size: number): fc.Arbitrary<Uint8Array> =>
  fc.nat(9).map((seed) => Uint8Array.from({ length: size }, (_, i) => (i === size - 1 ? seed : 7)));
const none = fc.constant(new Uint8Array(0));

const kinds: readonly (readonly [string, MapType, Kind])[] = [
  ['array', 'array', { key: index, rest: { maxEntries: 8, valueSize: 6 }, isOrdered: true }],
  ['array for each CPU', 'perCpuArray', { key: index, rest: { maxEntries: 8, valueSize: 12 }, isOrdered: true }],
  ['hash', 'hash', { key: index, rest: { maxEntries: 6 } }],
  ['hash without preallocation', 'hash', { key: few(13), rest: { keySize: 13, maxEntries: 6, flags: 1 } }],
  ['hash, 8', 'hash', { key: few(8), rest: { keySize: 8, maxEntries: 6 } }],
  ['hash, 16', 'hash', { key: few(16), rest: { keySize: 16, maxEntries: 6 } }],
  ['hash, 1', 'hash', { key: few(1), rest: { keySize: 1, valueSize: 1, maxEntries: 1 } }],
  ['hash for each CPU', 'perCpuHash', { key: few(5), rest: { keySize: 5, valueSize: 3, maxEntries: 6 } }],
  ['LRU hash with room', 'lruHash', { key: index, rest: { maxEntries: 1024 } }],
  ['LRU hash for each CPU, with room', 'lruPerCpuHash', { key: index, rest: { maxEntries: 1024 } }],
  ['trie', 'lpmTrie', { key: prefix, rest: { maxEntries: 12 }, isOrdered: true }],
  ['trie of 6 bytes', 'lpmTrie', { key: wide, rest: { keySize: 10, maxEntries: 12 }, isOrdered: true }],
  ['devmap', 'devmap', { key: index, value: fc.constantFrom(0, 1).map(u32), rest: { maxEntries: 8 }, isOrdered: true }],
  ['devmap hash', 'devmapHash', { key: index, value: fc.constantFrom(0, 1).map(u32), rest: { maxEntries: 8 } }],
  [
    'cpumap',
    'cpumap',
    { key: fc.nat(2).map(u32), value: fc.constantFrom(0, 192, 16_385).map(u32), rest: { maxEntries: 2 }, isOrdered: true },
  ],
  ['queue', 'queue', { key: none, rest: { maxEntries: 3 } }],
  ['stack', 'stack', { key: none, rest: { maxEntries: 3 } }],
];

describe('maps answer as the kernel does', () => {
  test.each(kinds)('%s', (_name, type, kind) => {
    const spec = mapSpec(type, kind.rest);
    fc.assert(
      fc.property(steps(spec, kind), (list) => {
        const theirs = engine.createMap(spec);
        const ours = new UserspaceMap(memory, spec, 1, engine.cpus, list.length % 2 === 0);
        try {
          expect(ours.valueStride).toBe(theirs.valueStride);
          for (const step of list) expect(outcome(ours, step, kind)).toEqual(outcome(theirs, step, kind));
        } finally {
          ours.close();
          theirs.close();
        }
      }),
      { numRuns: 40 },
    );
    expect(memory.used).toBeLessThan(10e6);
  });

  function steps(spec: MapSpec, { key, value }: Kind): fc.Arbitrary<readonly Step[]> {
    const stride = isPerCpu(spec.type) ? Math.ceil(spec.valueSize / 8) * 8 * engine.cpus : spec.valueSize;
    const values = value ?? bytes(stride);
    const flag = fc.constantFrom<UpdateFlag>('any', 'any', 'noexist', 'exist');
    const step = fc.oneof<fc.WeightedArbitrary<Step>[]>(
      { weight: 8, arbitrary: fc.record({ kind: fc.constant('update' as const), key, value: values, flag }) },
      { weight: 6, arbitrary: fc.record({ kind: fc.constantFrom('lookup' as const, 'delete' as const, 'nextKey' as const), key }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('first' as const, 'readAll' as const, 'pop' as const) }) },
      {
        weight: 1,
        arbitrary: fc.record({ kind: fc.constant('updateBatch' as const), entries: fc.array(fc.tuple(key, values), { maxLength: 4 }) }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('deleteBatch' as const), keys: fc.array(key, { maxLength: 4 }) }) },
    );
    return fc.array(step, { maxLength: 40 });
  }
});

function outcome(map: LoadedMap, step: Step, kind: Kind): unknown {
  try {
    return answer(map, step, kind);
  } catch (error) {
    const { name, message, hint } = error as { name: string; message: string; hint?: string };
    // Of batches the kernel engine gives no hints, and of deletes it counts calls that went through.
    const told = step.kind === 'deleteBatch' ? message.replace(/\d+ of/, 'some of') : message;
    return { step, name, message: told, hint: step.kind === 'updateBatch' ? undefined : hint };
  }
}

function answer(map: LoadedMap, step: Step, { isOrdered }: Kind): unknown {
  switch (step.kind) {
    case 'lookup':
      return map.lookup(step.key);
    case 'update':
      return map.update(step.key, step.value, step.flag);
    case 'delete':
      return map.delete(step.key);
    case 'nextKey': {
      const next = map.nextKey(step.key);
      return isOrdered ? next : undefined;
    }
    case 'first': {
      const next = map.nextKey();
      return isOrdered ? next : next?.length;
    }
    case 'pop':
      return map.pop();
    case 'readAll': {
      const { count, keys, values } = map.readAll();
      const entries = Array.from({ length: count }, (_, i) => [
        hex(keys.subarray(i * map.spec.keySize, (i + 1) * map.spec.keySize)),
        hex(values.subarray(i * map.valueStride, (i + 1) * map.valueStride)),
      ]);
      return isOrdered ? entries : entries.sort();
    }
    case 'updateBatch':
      return map.updateBatch({
        count: step.entries.length,
        keys: joined(step.entries.map(([key]) => key)),
        values: joined(step.entries.map(([, value]) => value)),
      });
    case 'deleteBatch':
      return map.deleteBatch(joined(step.keys), step.keys.length);
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

function hex(part: Uint8Array): string {
  return Buffer.from(part).toString('hex');
}

test.each<MapType>([
  'queue',
  'stack',
  'bloomFilter',
  'ringBuffer',
  'array',
  'xskmap',
  'programArray',
  'perfEventArray',
  'arrayOfMaps',
  'hashOfMaps',
])('%s: what it refuses', (type) => {
  const rest: Partial<MapSpec> = {
    maxEntries: type === 'ringBuffer' ? 4096 : 4,
    ...(type.endsWith('OfMaps') ? { inner: mapSpec('hash') } : {}),
  };
  const spec = mapSpec(type, rest);
  const [theirs, ours] = [engine.createMap(spec), new UserspaceMap(memory, spec, 1, engine.cpus)];
  const key = spec.keySize === 0 ? new Uint8Array(0) : u32(1);
  const beyond = spec.keySize === 0 ? new Uint8Array(0) : u32(4);
  const wrong = new Uint8Array(7);
  const calls: ((map: LoadedMap) => unknown)[] = [
    // The kernel says of empty slots too that it emptied them.
    ...(type === 'xskmap' ? [] : [(map: LoadedMap) => map.delete(key)]),
    (map) => map.delete(beyond),
    (map) => map.nextKey(key),
    (map) => map.nextKey(),
    (map) => map.readAll(),
    (map) => map.pop(),
    (map) => map.lookup(wrong),
    (map) => map.update(wrong, wrong),
    (map) => map.update(key, wrong),
    (map) => map.delete(wrong),
    (map) => map.updateBatch({ count: 2, keys: wrong, values: wrong }),
    (map) => map.deleteBatch(wrong, 3),
    (map) => map.has(wrong),
    ...(type === 'bloomFilter' ? [] : [(map: LoadedMap) => map.lookup(key), (map: LoadedMap) => map.lookup(beyond)]),
    ...(type === 'xskmap' ? [] : [(map: LoadedMap) => map.update(beyond, new Uint8Array(spec.valueSize), 'noexist')]),
  ];
  for (const [i, call] of calls.entries()) {
    const [expected, got] = [theirs, ours].map((map) => {
      try {
        return { result: call(map) };
      } catch (error) {
        return { name: (error as Error).name, message: (error as Error).message };
      }
    });
    expect(got, `call ${i}`).toEqual(expected);
  }
  ours.close();
  theirs.close();
});
