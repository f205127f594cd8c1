/** Maps that hold more than bytes from both sides: maps of maps, and those of interfaces and CPUs that packets are sent to. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import {
  arrayMap,
  arrayOfMaps,
  cpumap,
  devmap,
  devmapHash,
  hash,
  hashOfMaps,
  queue,
  stage,
  struct,
  u8,
  u16,
  u32,
  u64,
  xskmap,
} from '@tailrace/stage';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bothSides, frame, Order, orders, sorted } from './map-sides.ts';
import { runner } from './run.ts';

/** The cases, on an engine. */
export function mapLinkSuite(engine: Engine): void {
  let opened: EngineInstance;
  beforeAll(async () => {
    opened = await engine.open();
  });
  afterAll(() => opened.close());

  describe('maps of maps', () => {
    const inner = hash({ name: 'flows', key: u16, value: u64, maxEntries: 2 });
    const tenants = hashOfMaps({ name: 'tenants', key: struct({ id: u32, kind: u8 }), maxEntries: 4, inner });
    const lists = arrayOfMaps({ name: 'lists', maxEntries: 3, inner: queue({ name: 'list', value: u32, maxEntries: 2 }) });
    const subject = stage({
      name: 'tenants',
      hook: 'xdp',
      uses: { tenants, lists, Order },
      program(ctx, { tenants, lists, Order }) {
        const order = ctx.at(Order, 0);
        if (!order) return ctx.abort();
        const { what, key } = order;
        // Either of two keys leads to the map that is worked on.
        const flows = tenants.lookup({ id: what > 3 ? 2 : key, kind: what > 3 ? 0 : 1 });
        if (what === 0) {
          const list = lists.lookup(key);
          if (!list) return ctx.pass();
          return list.push(key) ? ctx.drop() : ctx.tx();
        }
        if (!flows) return ctx.pass();
        if (what === 1) return flows.update(key, 1n) ? ctx.drop() : ctx.tx();
        if (what === 2) return flows.delete(key) ? ctx.drop() : ctx.tx();
        const flow = flows.lookup(key);
        if (!flow) return flows.update(key, 5n, 'noexist') ? ctx.drop() : ctx.tx();
        flow.value += 1n;
        return ctx.next();
      },
    });

    test('programs work on what handles put in, and handles see it', async () => {
      const keys = [
        { id: 1, kind: 1 },
        { id: 2, kind: 0 },
        { id: 3, kind: 1 },
      ];
      await fc.assert(
        fc.asyncProperty(orders(5), async (frames) => {
          await bothSides(opened, subject, frames, {
            async prepare(handle) {
              const [first] = keys;
              if (first) (await handle(tenants).set(first)).set(9, 9n);
              // Two keys that lead to one map.
              const shared = handle(tenants).create();
              for (const key of keys.slice(1)) await handle(tenants).set(key, shared);
              await handle(lists).set(2);
            },
            see: (handle) => [
              keys.map((key) => sorted(handle(tenants).get(key)?.getAll() ?? [])),
              sorted(handle(tenants).keys()),
              handle(lists).get(2)?.peek(),
              handle(lists).get(1)?.peek(),
            ],
          });
        }),
        { numRuns: 4 },
      );
    });

    test('a table is filled aside and put in the place of the old one at once', async () => {
      const active = arrayOfMaps({ name: 'active', maxEntries: 1, inner: arrayMap({ name: 'rules', value: u32, maxEntries: 2 }) });
      const check = stage({
        name: 'check',
        hook: 'xdp',
        uses: { active },
        program(ctx, { active }) {
          const rules = active.lookup(0);
          if (!rules) return ctx.pass();
          const first = rules.lookup(0);
          const second = rules.lookup(1);
          if (!first || !second) return ctx.abort();
          return first.value === second.value ? ctx.drop() : ctx.tx();
        },
      });
      await using live = await runner(check, { engine: opened, attach: false });
      const handle = live.handle(active);
      expect((await live.run(frame())).verdict).toBe('pass');
      let current = await handle.set(0);
      for (let round = 1; round < 5; round++) {
        const next = handle.create();
        next.setMany([
          [0, round],
          [1, round],
        ]);
        const verdicts: string[] = [];
        const put = handle.set(0, next);
        for (let i = 0; i < 5; i++) verdicts.push((await live.run(frame())).verdict);
        await put;
        current.close();
        current = next;
        expect(new Set(verdicts)).toEqual(new Set(['drop']));
        expect(handle.get(0)?.get(1)).toBe(round);
      }
      // An inner map that is an array of one entry has no address that is known before it runs.
      const single = arrayOfMaps({ name: 'single', maxEntries: 1, inner: arrayMap({ name: 'one', value: u32, maxEntries: 1 }) });
      const bump = stage({
        name: 'bump',
        hook: 'xdp',
        uses: { single },
        program(ctx, { single }) {
          const value = single.lookup(0)?.lookup(0);
          return value ? ctx.drop() : ctx.pass();
        },
      });
      await expect(runner(bump, { engine: opened, attach: false })).rejects.toThrow('optional chaining');
      const plain = stage({
        name: 'plain',
        hook: 'xdp',
        uses: { single },
        program(ctx, { single }) {
          const map = single.lookup(0);
          if (!map) return ctx.pass();
          const value = map.lookup(0);
          if (!value) return ctx.abort();
          value.value += 1;
          return ctx.drop();
        },
      });
      await bothSides(opened, plain, [frame(), frame()], {
        prepare: async (handle) => void (await handle(single).set(0)),
        see: (handle) => handle(single).get(0)?.get(0),
      });
    });
  });

  test('packets are sent to what handles put in: interfaces and CPUs', async () => {
    const ports = devmap({ name: 'ports', maxEntries: 4 });
    const vlans = devmapHash({ name: 'vlans', maxEntries: 4 });
    const cpus = cpumap({ name: 'cpus', maxEntries: 4 });
    const queues = xskmap({ name: 'queues', maxEntries: 4 });
    const subject = stage({
      name: 'send',
      hook: 'xdp',
      uses: { ports, vlans, cpus, queues, Order },
      program(ctx, { ports, vlans, cpus, queues, Order }) {
        const order = ctx.at(Order, 0);
        if (!order) return ctx.abort();
        if (order.what === 0) return ctx.redirect(ports, order.key);
        if (order.what === 1) return ctx.redirect(vlans, order.key + 100_000);
        if (order.what === 2) return ctx.redirect(cpus, order.key);
        return ctx.redirect(queues, order.key);
      },
    });
    const results = await bothSides(
      opened,
      subject,
      [0, 1, 2, 3].flatMap((what) => [frame(what, 0), frame(what, 1), frame(what, 9)]),
      {
        prepare(handle) {
          handle(ports).set(1, 1);
          handle(vlans).set(100_000, 1);
          handle(cpus).set(0, { qsize: 192 });
        },
        see: (handle) => [handle(ports).getAll(), handle(vlans).getAll(), handle(cpus).getAll()],
      },
    );
    const [R, A] = ['redirect', 'abort'];
    expect(results.map(({ verdict }) => verdict)).toEqual([A, R, A, R, A, A, R, A, A, A, A, A]);
  });
}
