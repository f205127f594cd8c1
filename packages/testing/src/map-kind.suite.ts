/** Each kind of map from both sides: what programs do on an engine and in the simulation, and what handles see of it. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import {
  type AnyMap,
  arrayMap,
  bloomFilter,
  fn,
  hash,
  hashOfMaps,
  ipv4Prefix,
  lpmTrie,
  lruHash,
  lruPerCpuHash,
  perCpuArray,
  perCpuHash,
  queue,
  sockhash,
  sockmap,
  stack,
  stage,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bothSides, frame, Order, orders, runs, sorted } from './map-sides.ts';
import { runner } from './run.ts';

const Value = struct({ a: u32, b: u64, c: u8 });
/** The cases, on an engine. */
export function mapKindSuite(engine: Engine): void {
  let opened: EngineInstance;
  beforeAll(async () => {
    opened = await engine.open();
  });
  afterAll(() => opened.close());

  describe('maps with keys', () => {
    const keyed = { name: 'table', key: u16, value: Value, maxEntries: 4 };
    /** Puts in, puts in only anew, only again, adds in place, takes out; the verdict says what came of it. */
    const stageOf = (table: ReturnType<typeof hash<number, { a: number; b: bigint; c: number }>>) =>
      stage({
        name: 'keyed',
        hook: 'xdp',
        uses: { table, Order },
        program(ctx, { table, Order }) {
          const order = ctx.at(Order, 0);
          if (!order) return ctx.abort();
          const { what, key } = order;
          if (what === 0) return table.update(key, { a: key, b: 1n, c: 2 }) ? ctx.drop() : ctx.tx();
          if (what === 1) return table.update(key, { a: 7, b: 7n, c: 7 }, 'noexist') ? ctx.drop() : ctx.tx();
          if (what === 2) return table.update(key, { a: 9, b: 9n, c: 9 }, 'exist') ? ctx.drop() : ctx.tx();
          if (what === 3) return table.delete(key) ? ctx.drop() : ctx.tx();
          const found = table.lookup(key);
          if (!found) return ctx.pass();
          found.b += 3n;
          return ctx.drop();
        },
      });
    type Table = Parameters<typeof stageOf>[0];

    test.each<[string, AnyMap]>([
      ['hash', hash(keyed)],
      ['hash without preallocation', hash({ ...keyed, noPrealloc: true })],
      ['LRU hash with room', lruHash({ ...keyed, maxEntries: 1024 })],
    ])('%s', async (_name, map) => {
      const table = map as Table;
      await fc.assert(
        fc.asyncProperty(orders(4), async (frames) => {
          await bothSides(opened, stageOf(table), frames, {
            prepare: (handle) => handle(table).set(5, { a: 1, b: 2n, c: 3 }),
            see: (handle) => sorted(handle(table).getAll()),
          });
        }),
        runs,
      );
    });

    test.each<[string, AnyMap]>([
      ['hash for each CPU', perCpuHash(keyed)],
      ['LRU hash for each CPU, with room', lruPerCpuHash({ ...keyed, maxEntries: 1024 })],
    ])('%s: their sum', async (_name, map) => {
      const table = map as unknown as Table;
      const perCpu = map as ReturnType<typeof perCpuHash<number, { a: number; b: bigint; c: number }>>;
      // Each CPU adds to its own: only what a CPU finds at zero can be compared with a simulation that has one.
      await bothSides(opened, stageOf(table), [frame(4, 1), frame(0, 1), frame(4, 1), frame(0, 2), frame(3, 1), frame(4, 1)], {
        see: (handle) =>
          sorted(
            handle(perCpu)
              .getAll()
              .map(([key]) => key),
          ),
      });
      await using live = await runner(stageOf(table), { engine: opened, attach: false });
      const handle = live.handle(perCpu);
      handle.set(
        1,
        Array.from({ length: opened.cpus }, () => ({ a: 0, b: 0n, c: 0 })),
      );
      for (let i = 0; i < 10; i++) await live.run(frame(4, 1));
      expect(handle.sum(1)).toEqual({ a: 0, b: 30n, c: 0 });
    });

    test('a trie', async () => {
      const trie = lpmTrie({ name: 'trie', key: ipv4Prefix, value: u32, maxEntries: 8 });
      const subject = stage({
        name: 'prefixes',
        hook: 'xdp',
        uses: { trie, Order },
        program(ctx, { trie, Order }) {
          const order = ctx.at(Order, 0);
          if (!order) return ctx.abort();
          const { what, key } = order;
          if (what === 0) return trie.update({ prefixLen: 8 * (key & 3), addr: 0x0a000000 + key * 0x10000 }, key) ? ctx.drop() : ctx.tx();
          if (what === 1) return trie.delete({ prefixLen: 8 * (key & 3), addr: 0x0a000000 + key * 0x10000 }) ? ctx.drop() : ctx.tx();
          const found = trie.lookup({ prefixLen: 32, addr: 0x0a000000 + key * 0x10000 + 9 });
          if (!found) return ctx.pass();
          found.value += 100;
          return ctx.drop();
        },
      });
      const addresses = Array.from({ length: 7 }, (_, i) => ({ prefixLen: 32, addr: 0x0a000000 + i * 0x10000 + 5 }));
      await fc.assert(
        fc.asyncProperty(orders(2), async (frames) => {
          await bothSides(opened, subject, frames, {
            prepare: (handle) => handle(trie).set({ prefixLen: 0, addr: 0 }, 1),
            see: (handle) => [handle(trie).size, addresses.map((key) => handle(trie).get(key))],
          });
        }),
        runs,
      );
    });
  });

  test('arrays: in place, shared and for each CPU, beyond the end', async () => {
    const shared = arrayMap({ name: 'shared', value: Value, maxEntries: 3 });
    const own = perCpuArray({ name: 'own', value: u64, maxEntries: 3 });
    const one = arrayMap({ name: 'one', value: u32, maxEntries: 1 });
    const subject = stage({
      name: 'arrays',
      hook: 'xdp',
      uses: { shared, own, one, Order },
      program(ctx, { shared, own, one, Order }) {
        const order = ctx.at(Order, 0);
        if (!order) return ctx.abort();
        const count = own.lookup(order.key);
        if (count) count.value += 1n;
        const only = one.lookup(0);
        if (only) only.value += 2;
        const entry = shared.lookup(order.key);
        if (!entry) return ctx.pass();
        entry.b += 5n;
        entry.c = order.what;
        return ctx.drop();
      },
    });
    await fc.assert(
      fc.asyncProperty(orders(3), async (frames) => {
        await bothSides(opened, subject, frames, {
          see: (handle) => [handle(shared).getAll(), handle(one).get(0), [0, 1, 2, 3].map((i) => handle(own).sum(i))],
        });
      }),
      runs,
    );
  });

  describe('maps without keys', () => {
    const stageOf = (values: ReturnType<typeof queue<{ a: number; b: bigint; c: number }>>) =>
      stage({
        name: 'values',
        hook: 'xdp',
        uses: { values, Order },
        program(ctx, { values, Order }) {
          const order = ctx.at(Order, 0);
          if (!order) return ctx.abort();
          const { what, key } = order;
          if (what === 0) return values.push({ a: key, b: 1n, c: key }) ? ctx.drop() : ctx.tx();
          if (what === 1) return values.push({ a: key, b: 2n, c: key }, 'exist') ? ctx.drop() : ctx.tx();
          if (what === 2) {
            const first = values.pop();
            if (!first) return ctx.pass();
            // The copy is the program's own: writing to it changes nothing but what is put in again.
            first.b += 10n;
            const second = values.peek();
            if (second && second.a === first.a) return ctx.next();
            return values.push(first) ? ctx.drop() : ctx.tx();
          }
          const next = values.peek();
          if (next === undefined) return ctx.pass();
          next.a = 99;
          return next.b > 5n ? ctx.abort() : ctx.drop();
        },
      });
    test.each([
      ['queue', queue({ name: 'values', value: Value, maxEntries: 3 })],
      ['stack', stack({ name: 'values', value: Value, maxEntries: 3 })],
    ] as const)('%s', async (_name, map) => {
      const values = map as ReturnType<typeof queue<{ a: number; b: bigint; c: number }>>;
      await fc.assert(
        fc.asyncProperty(orders(3, 40), async (frames) => {
          await bothSides(opened, stageOf(values), frames, {
            prepare: (handle) => handle(values).push({ a: 1, b: 1n, c: 1 }),
            // Takes all out and puts it in again, in the order in which it came.
            see(handle) {
              const all = [];
              for (let value = handle(values).pop(); value; value = handle(values).pop()) all.push(value);
              for (const value of map.type === 'queue' ? all : all.toReversed()) handle(values).push(value);
              return all;
            },
          });
        }),
        runs,
      );
    });

    test('several values at once, in a loop and in a fn, each in a place of its own', async () => {
      const values = queue({ name: 'values', value: Value, maxEntries: 16 });
      const out = arrayMap({ name: 'out', value: u64, maxEntries: 1 });
      const take = fn([u64], u64, { values }, (base, { values }) => {
        const taken = values.pop();
        return taken ? base * 100n + taken.b : base;
      });
      const subject = stage({
        name: 'loop',
        hook: 'xdp',
        uses: { values, out, take },
        program(ctx, { values, out, take }) {
          const sum = out.lookup(0);
          if (!sum) return ctx.abort();
          const first = values.pop();
          const second = values.pop();
          for (let i = 0; i < 4; i++) {
            const value = values.pop();
            if (!value) break;
            sum.value = sum.value * 100n + value.b;
          }
          sum.value = take(sum.value);
          if (first && second) sum.value = sum.value * 10_000n + first.b * 100n + second.b;
          else if (first) sum.value = sum.value * 100n + first.b;
          return ctx.drop();
        },
      });
      for (const count of [0, 1, 2, 3, 5, 6, 8])
        await bothSides(opened, subject, [frame(), frame()], {
          prepare(handle) {
            for (let i = 1; i <= count; i++) handle(values).push({ a: i, b: BigInt(i), c: i });
          },
          see: (handle) => handle(out).get(0),
        });
    });

    test('bloom filter', async () => {
      const seen = bloomFilter({ name: 'seen', value: struct({ a: u8, b: u32 }), maxEntries: 1000 });
      const subject = stage({
        name: 'seen',
        hook: 'xdp',
        uses: { seen, Order },
        program(ctx, { seen, Order }) {
          const order = ctx.at(Order, 0);
          if (!order) return ctx.abort();
          const value = { a: order.key, b: 5 };
          if (order.what === 0) seen.add(value);
          return seen.has(value) ? ctx.drop() : ctx.pass();
        },
      });
      await fc.assert(
        fc.asyncProperty(orders(1, 30), async (frames) => {
          await bothSides(opened, subject, frames, { see: (handle) => [0, 1, 2, 3, 4, 5].map((a) => handle(seen).has({ a, b: 5 })) });
        }),
        runs,
      );
    });
  });

  test('programs of TC have the same maps', async () => {
    const jobs = queue({ name: 'jobs', value: u32, maxEntries: 4 });
    const seen = bloomFilter({ name: 'seen', value: u32, maxEntries: 64 });
    const tenants = hashOfMaps({
      name: 'tenants',
      key: u32,
      maxEntries: 4,
      inner: hash({ name: 'flows', key: u32, value: u64, maxEntries: 4 }),
    });
    const subject = stage({
      name: 'tc',
      hook: 'tc',
      uses: { jobs, seen, tenants },
      program(ctx, { jobs, seen, tenants }) {
        const job = jobs.pop();
        const flows = tenants.lookup(1);
        if (!job || !flows) return ctx.pass();
        if (seen.has(job.value)) return ctx.drop();
        seen.add(job.value);
        flows.update(job.value, 1n);
        return ctx.next();
      },
    });
    await using live = await runner(subject, { engine: opened, attach: false });
    const flows = await live.handle(tenants).set(1);
    for (const job of [7, 8, 7]) live.handle(jobs).push(job);
    const verdicts: string[] = [];
    for (let i = 0; i < 4; i++) verdicts.push((await live.run(frame())).verdict);
    expect(verdicts).toEqual(['next', 'next', 'drop', 'pass']);
    expect(sorted(flows.getAll())).toEqual([
      [7, 1n],
      [8, 1n],
    ]);
  });

  test('maps of sockets may stand in uses; programs of packets have nothing to do with them', async () => {
    const [table, list] = [sockhash({ name: 'table', key: u32, maxEntries: 4 }), sockmap({ name: 'list', maxEntries: 4 })];
    const subject = stage({ name: 'idle', hook: 'xdp', uses: { table, list }, program: (ctx) => ctx.pass() });
    await using live = await runner(subject, { engine: opened, attach: false });
    expect((await live.run(frame())).verdict).toBe('pass');
  });
}
