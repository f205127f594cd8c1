/** Streams of what changes in maps, on an engine. */
import { type Engine, type EngineInstance, TailraceError } from '@tailrace/bpf';
import {
  type AnyMap,
  arrayMap,
  type HandleOf,
  hash,
  hashOfMaps,
  ipv4Prefix,
  lpmTrie,
  lruHash,
  type MapChanges,
  override,
  perCpuArray,
  perCpuHash,
  stage,
  struct,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import fc from 'fast-check';
import { map, type Observable, VirtualAction, VirtualTimeScheduler } from 'rxjs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { EngineMapRegistry } from './registry.ts';
import { Clock } from './service.ts';

/** Time that goes on when it is told to. */
class HandClock extends VirtualTimeScheduler {
  constructor() {
    super(VirtualAction, 0);
  }

  /** Goes on by so many ms, and does what is due by then. */
  pass(ms: number): void {
    this.maxFrames = this.frame + ms;
    this.flush();
    this.frame = this.maxFrames;
  }
}

/** The cases, on an engine. */
export function mapChangesSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  /** Opens a map; what its stream tells is collected. */
  function open<M extends AnyMap>(declared: M) {
    const clock = new HandClock();
    const registry = new EngineMapRegistry(engine, { clock });
    const hold = registry.hold([{ map: declared, scope: 'edge', user: 'test' }]);
    return { clock, hold, registry, handle: registry.handle(declared) as HandleOf<M> };
  }
  /** Collects what a stream tells, and how it ends. */
  function collect<K, V>(changes$: Observable<MapChanges<K, V>>) {
    const [seen, ends]: [MapChanges<K, V>[], unknown[]] = [[], []];
    const subscription = changes$.subscribe({
      next: (one) => seen.push(one),
      error: (e) => ends.push(e),
      complete: () => ends.push('done'),
    });
    return { seen, ends, subscription };
  }

  const pair = struct({ hits: u64, kind: u16 });

  test.each([
    ['a hash', hash({ name: 'm', key: u32, value: pair, maxEntries: 64 })],
    ['an LRU hash', lruHash({ name: 'm', key: u32, value: pair, maxEntries: 64 })],
  ] as const)('of %s: first all, then what is different', (_name, declared) => {
    using resources = new DisposableStack();
    const { clock, handle, hold } = open(declared);
    resources.use(hold);
    handle.set(1, { hits: 1n, kind: 1 });
    const { seen, ends } = collect(handle.changes$(100));
    expect(seen).toEqual([]);
    clock.pass(0);
    expect(seen.splice(0)).toEqual([{ added: [[1, { hits: 1n, kind: 1 }]], changed: [], removed: [] }]);
    clock.pass(250);
    expect(seen).toEqual([]);
    handle.set(1, { hits: 2n, kind: 1 });
    handle.set(2, { hits: 0n, kind: 9 });
    clock.pass(40);
    expect(seen).toEqual([]);
    clock.pass(10);
    expect(seen.splice(0)).toEqual([
      { added: [[2, { hits: 0n, kind: 9 }]], changed: [[1, { hits: 2n, kind: 1 }, { hits: 1n, kind: 1 }]], removed: [] },
    ]);
    handle.delete(1);
    handle.set(3, { hits: 1n, kind: 1 });
    handle.delete(3);
    clock.pass(100);
    expect(seen.splice(0)).toEqual([{ added: [], changed: [], removed: [[1, { hits: 2n, kind: 1 }]] }]);
    expect(ends).toEqual([]);
  });

  test('of an empty map the first look tells nothing, and says so', () => {
    const { clock, handle, hold } = open(lpmTrie({ name: 'm', key: ipv4Prefix, value: u32, maxEntries: 8 }));
    const { seen } = collect(handle.changes$(5));
    clock.pass(5);
    expect(seen.splice(0)).toEqual([{ added: [], changed: [], removed: [] }]);
    handle.set({ prefixLen: 8, addr: 0x0a000000 }, 3);
    clock.pass(5);
    expect(seen).toEqual([{ added: [[{ prefixLen: 8, addr: 0x0a000000 }, 3]], changed: [], removed: [] }]);
    hold[Symbol.dispose]();
  });

  test('of arrays and per-CPU maps', () => {
    const array = open(arrayMap({ name: 'm', value: u16, maxEntries: 3 }));
    const counted = collect(array.handle.changes$(10));
    array.clock.pass(0);
    expect(counted.seen.splice(0)[0]?.added.toSorted()).toEqual([0, 1, 2].map((index) => [index, 0]));
    array.handle.set(2, 500);
    array.clock.pass(10);
    expect(counted.seen).toEqual([{ added: [], changed: [[2, 500, 0]], removed: [] }]);
    array.hold[Symbol.dispose]();
    const each = (value: number) => Array.from({ length: engine.cpus }, (_, cpu) => value + cpu);
    for (const { handle, clock, hold } of [
      open(perCpuArray({ name: 'm', value: u32, maxEntries: 1 })),
      open(perCpuHash({ name: 'm', key: u32, value: u32, maxEntries: 9 })),
    ]) {
      handle.set(0, each(1));
      const { seen } = collect(handle.changes$(10));
      clock.pass(0);
      handle.set(0, each(7));
      clock.pass(10);
      expect(seen).toEqual([
        { added: [[0, each(1)]], changed: [], removed: [] },
        { added: [], changed: [[0, each(7), each(1)]], removed: [] },
      ]);
      hold[Symbol.dispose]();
    }
  });

  test('of an inner map, until it is closed', async () => {
    const inner = hash({ name: 'inner', key: u32, value: u32, maxEntries: 4 });
    const { clock, handle, hold } = open(hashOfMaps({ name: 'm', key: u32, inner, maxEntries: 4 }));
    const made = handle.create();
    const { seen, ends } = collect(made.changes$(10));
    made.set(1, 2);
    clock.pass(10);
    expect([seen, ends]).toEqual([[{ added: [[1, 2]], changed: [], removed: [] }], []]);
    made.close();
    expect(ends).toEqual(['done']);
    hold[Symbol.dispose]();
  });

  test('put together, changes are the map: against a model', () => {
    const step = fc.record({ key: fc.nat(9), value: fc.option(fc.nat(3)), look: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { clock, handle, hold } = open(hash({ name: 'm', key: u32, value: u32, maxEntries: 16 }));
        const model = new Map<number, number>();
        const told = new Map<number, number>();
        handle.changes$(1).subscribe(({ added, changed, removed }) => {
          for (const [key, value] of removed) {
            expect(told.get(key)).toBe(value);
            told.delete(key);
          }
          for (const [key, value, before] of changed) {
            expect(told.get(key)).toBe(before);
            told.set(key, value);
          }
          for (const [key, value] of added) {
            expect(told.has(key)).toBe(false);
            told.set(key, value);
          }
        });
        for (const { key, value, look } of steps) {
          if (value === null) {
            handle.delete(key);
            model.delete(key);
          } else {
            handle.set(key, value);
            model.set(key, value);
          }
          if (!look) continue;
          clock.pass(1);
          expect(told).toEqual(model);
        }
        hold[Symbol.dispose]();
      }),
      { numRuns: 40 },
    );
  });

  describe('who listens', () => {
    const declared = hash({ name: 'm', key: u32, value: u32, maxEntries: 16 });

    test('has looks of its own, which end when it leaves', () => {
      const { clock, handle, hold } = open(declared);
      const first = collect(handle.changes$(10));
      clock.pass(25);
      const second = collect(handle.changes$(10));
      handle.set(1, 1);
      clock.pass(0);
      expect([first.seen.length, second.seen]).toEqual([1, [{ added: [[1, 1]], changed: [], removed: [] }]]);
      first.subscription.unsubscribe();
      handle.set(2, 2);
      clock.pass(30);
      expect([first.seen.length, second.seen.length]).toEqual([1, 2]);
      second.subscription.unsubscribe();
      // nothing is due any more, and time that nobody waits for does not go on
      expect(clock.actions).toEqual([]);
      hold[Symbol.dispose]();
    });

    test('fails alone', () => {
      const { clock, handle, hold } = open(declared);
      const failing = collect(
        handle.changes$(10).pipe(
          map((changes) => {
            if (changes.added.length > 0) throw new RangeError('mine');
            return changes;
          }),
        ),
      );
      const other = collect(handle.changes$(10));
      clock.pass(0);
      handle.set(1, 1);
      clock.pass(20);
      expect(failing.ends).toEqual([new RangeError('mine')]);
      expect([other.ends, other.seen.length]).toEqual([[], 2]);
      hold[Symbol.dispose]();
    });

    test('is told when reading fails, and that the map is closed, also later', () => {
      const { clock, handle, hold, registry } = open(declared);
      const loaded = registry.loaded(declared);
      const read = collect(handle.changes$(10));
      const readAll = loaded.readAll.bind(loaded);
      loaded.readAll = () => {
        throw new TailraceError('conflict', 'keys come and go');
      };
      clock.pass(0);
      expect(read.ends).toEqual([new TailraceError('conflict', 'keys come and go')]);
      loaded.readAll = readAll;
      const open$ = collect(handle.changes$(10));
      clock.pass(0);
      hold[Symbol.dispose]();
      expect(open$.ends).toEqual(['done']);
      const after = collect(handle.changes$(10));
      clock.pass(50);
      expect([after.seen, after.ends, clock.actions]).toEqual([[], ['done'], []]);
    });

    test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])('every %d ms is refused', (period) => {
      const { handle, hold } = open(declared);
      expect(() => handle.changes$(period)).toThrow(
        `changes of map edge/m every ${period} ms, expected more than 0 and at most 2147483647`,
      );
      hold[Symbol.dispose]();
    });
  });

  test('a pipeline has its clock, and ends them when it stops', async () => {
    const hits = hash({ name: 'hits', key: u32, value: u64, maxEntries: 16 });
    const count = stage({
      name: 'count',
      hook: 'xdp',
      uses: { hits },
      program(ctx, { hits }) {
        const known = hits.lookup(ctx.length);
        if (known) known.value += 1n;
        else hits.update(ctx.length, 1n);
        return ctx.drop();
      },
    });
    const clock = new HandClock();
    await using running = await pipeline('edge', { xdp: [count] }).run(blueprint, { services: [override(Clock, clock)] });
    const { seen, ends } = collect(running.map(hits).changes$(1_000));
    clock.pass(0);
    await running.run(new Uint8Array(60));
    await running.run(new Uint8Array(60));
    await running.run(new Uint8Array(90));
    clock.pass(1_000);
    await running.run(new Uint8Array(60));
    clock.pass(1_000);
    const [nothing, first, second] = seen;
    expect(nothing).toEqual({ added: [], changed: [], removed: [] });
    expect(first?.added.toSorted()).toEqual([
      [60, 2n],
      [90, 1n],
    ]);
    expect(second).toEqual({ added: [], changed: [[60, 3n, 2n]], removed: [] });
    await running.stop();
    expect(ends).toEqual(['done']);
  });
}
