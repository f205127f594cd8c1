/** Maps of maps through their handles, on an engine. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import {
  type AnyMap,
  arrayMap,
  arrayOfMaps,
  type HandleOf,
  hash,
  hashOfMaps,
  type InnerHandle,
  type KeyedHandle,
  perCpuHash,
  queue,
  struct,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EngineMapRegistry } from './registry.ts';

const flows = hash({ name: 'flows', key: u32, value: u64, maxEntries: 4 });

/** The cases, on an engine. */
export function mapsHandleSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  async function withMap<M extends AnyMap>(map: M, body: (handle: HandleOf<M>) => Promise<void>): Promise<void> {
    const registry = new EngineMapRegistry(engine);
    using _hold = registry.hold([{ map, scope: 'maps', user: 'maps' }]);
    await body(registry.handle(map) as HandleOf<M>);
  }

  describe('maps of maps', () => {
    const index = fc.nat(3);
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('fresh' as const), key: index }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('known' as const), key: index, which: fc.nat() }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('delete' as const), key: index }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('close' as const), which: fc.nat() }) },
    );
    type Inner = InnerHandle<KeyedHandle<number, bigint>>;

    test.each([
      ['array', arrayOfMaps({ name: 'outer', maxEntries: 3, inner: flows })],
      ['hash', hashOfMaps({ name: 'outer', key: u32, maxEntries: 3, inner: flows })],
    ] as const)('%s: what lies under which key', async (type, map) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 12 }), (steps) =>
          withMap<typeof map>(map, async (handle) => {
            const model = new Map<number, Inner>();
            const made: Inner[] = [];
            const closed = new Set<Inner>();
            const fits = (key: number): boolean => (type === 'array' ? key < 3 : model.has(key) || model.size < 3);
            for (const step of steps) {
              const inner = 'which' in step ? made[step.which % made.length] : undefined;
              if (step.kind === 'delete') expect(await handle.delete(step.key)).toBe(model.delete(step.key));
              else if (step.kind === 'close') {
                inner?.close();
                if (inner) closed.add(inner);
              } else if (step.kind === 'known' && inner && closed.has(inner)) {
                await expect(handle.set(step.key, inner)).rejects.toThrow("map maps/outer: the inner map is closed or another's");
              } else if (!fits(step.key)) {
                await expect(handle.set(step.key, inner)).rejects.toMatchObject({ errnoName: 'E2BIG' });
              } else {
                const put = await handle.set(step.key, inner);
                if (inner) expect(put).toBe(inner);
                else {
                  made.push(put);
                  put.set(1, BigInt(made.length));
                }
                model.set(step.key, put);
              }
              expect(handle.keys().sort()).toEqual([...model.keys()].sort());
              expect(handle.size).toBe(model.size);
              for (let key = 0; key < 4; key++) {
                const wanted = model.get(key);
                const found = handle.get(key);
                expect(found).toBe(wanted && closed.has(wanted) ? undefined : wanted);
                if (found) expect(found.getAll()).toEqual([[1, BigInt(made.indexOf(found) + 1)]]);
              }
            }
          }),
        ),
        { numRuns: 12 },
      );
    });

    test('inner maps of every kind that has methods', async () => {
      const inners = [
        perCpuHash({ name: 'i', key: u16, value: u32, maxEntries: 2 }),
        arrayMap({ name: 'i', value: struct({ a: u32 }), maxEntries: 2 }),
        queue({ name: 'i', value: u32, maxEntries: 2 }),
      ] as const;
      await withMap(arrayOfMaps({ name: 'o', maxEntries: 1, inner: inners[0] }), async (handle) => {
        const inner = await handle.set(0);
        inner.set(7, [1, 2, ...Array.from({ length: engine.cpus - 2 }, () => 0)].slice(0, engine.cpus));
        expect(inner.sum(7)).toBe(engine.cpus > 1 ? 3 : 1);
      });
      await withMap(arrayOfMaps({ name: 'o', maxEntries: 1, inner: inners[1] }), async (handle) => {
        const inner = await handle.set(0);
        inner.set(1, { a: 5 });
        expect(handle.get(0)?.getAll()).toEqual([
          [0, { a: 0 }],
          [1, { a: 5 }],
        ]);
      });
      await withMap(arrayOfMaps({ name: 'o', maxEntries: 1, inner: inners[2] }), async (handle) => {
        const inner = await handle.set(0);
        inner.push(5);
        expect(handle.get(0)?.peek()).toBe(5);
      });
    });
  });
}
