/**
 * Maps that programs write to while handles read them, and write too: what stays is always found, no key twice, and every call
 * comes to an end. In the kernel the two are on different CPUs; in userspace they take turns.
 */
import { setImmediate } from 'node:timers/promises';
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { compileStage } from '@tailrace/compiler';
import {
  type AnyMap,
  type AnyStage,
  arrayMap,
  bloomFilter,
  type HandleOf,
  hash,
  hashOfMaps,
  ipv4Prefix,
  lpmTrie,
  lruHash,
  lruPerCpuHash,
  type PerCpuHandle,
  perCpuArray,
  perCpuHash,
  queue,
  stack,
  stage,
  u32,
  u64,
} from '@tailrace/stage';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EngineMapRegistry } from './registry.ts';

/** The cases, on an engine. */
export function mapChurnSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  const PACKET = new Uint8Array(64);
  /** Runs of a program in one go, a few milliseconds' worth. */
  const REPEAT = 20_000;
  /** Times that a reading is checked at least, however slow the machine is. */
  const LEAST_ROUNDS = 5;

  /** Opens the maps of a stage. */
  function maps(churn: AnyStage, others: readonly AnyMap[] = []) {
    const registry = new EngineMapRegistry(engine);
    const compiled = compileStage(churn);
    const hold = registry.hold([...compiled.maps.values(), ...others].map((map) => ({ map, scope: 'churn', user: 'churn' })));
    return {
      handle: <M extends AnyMap>(map: M) => registry.handle(map) as HandleOf<M>,
      /** Runs the program over and over, and `body` beside it, for as long. */
      async beside(body: () => void | Promise<void>, forMs = 300): Promise<void> {
        const references = new Map([...compiled.maps].map(([name, map]) => [name, registry.loaded(map)]));
        const program = await engine.loadProgram(compiled.program, references);
        let [going, rounds] = [true, 0];
        const traffic = (async () => {
          while (going) {
            await program.testRun({ packet: PACKET, repeat: REPEAT });
            await setImmediate();
          }
        })();
        try {
          // what takes turns needs no luck to meet
          for (
            const until = performance.now() + (engine.kind === 'kernel' ? forMs : 0);
            rounds < LEAST_ROUNDS || performance.now() < until;
            rounds++
          ) {
            await body();
            await setImmediate();
          }
        } finally {
          going = false;
          await traffic;
          program.close();
        }
      },
      [Symbol.dispose]: () => hold[Symbol.dispose](),
    };
  }

  const STAYING = 400;
  const options = { name: 'm', key: u32, value: u64, maxEntries: 4096 };

  /** Checks one reading: all that stay are there, once, with their values, and nothing else but keys that come and go. */
  function check(read: readonly (readonly [number, unknown])[], expected: (key: number) => unknown): void {
    const seen = new Map(read);
    expect(seen.size).toBe(read.length);
    for (let key = 0; key < STAYING; key++) expect(seen.get(key)).toEqual(expected(key));
    for (const key of seen.keys()) expect(key < STAYING || (key >= 1000 && key < 1128)).toBe(true);
  }

  describe('keys that a program puts in and takes out', () => {
    const churnOf = (table: typeof hashes.hash) =>
      stage({
        name: 'churn',
        hook: 'xdp',
        uses: { table },
        program(ctx, { table }) {
          const key = 1000 + (ctx.random() & 63);
          if ((ctx.random() & 1) === 0) table.update(key, 1n);
          else table.delete(key);
          return ctx.drop();
        },
      });
    const hashes = {
      hash: hash(options),
      'hash without preallocation': hash({ ...options, noPrealloc: true }),
    };

    test.each(Object.entries({ ...hashes, 'LRU hash': lruHash(options) }))('%s', async (_name, map) => {
      using open = maps(churnOf(map as typeof hashes.hash));
      const handle = open.handle(map as typeof hashes.hash);
      handle.setMany(Array.from({ length: STAYING }, (_, key) => [key, BigInt(key * 3)] as const));
      await open.beside(() => {
        check(handle.getAll(), (key) => BigInt(key * 3));
        check([...handle.entries()], (key) => BigInt(key * 3));
        expect(handle.size).toBeGreaterThanOrEqual(STAYING);
        // Keys of our own, in batches, among those of the program.
        const own = Array.from({ length: 64 }, (_, i) => 1064 + i);
        handle.setMany(own.map((key) => [key, 7n] as const));
        expect(own.every((key) => handle.get(key) === 7n)).toBe(true);
        expect(handle.deleteMany([5000, ...own, 5001])).toBe(64);
        expect(own.some((key) => handle.get(key) !== undefined)).toBe(false);
      });
    });

    test.each(
      Object.entries({
        'hash for each CPU': perCpuHash(options),
        'LRU hash for each CPU': lruPerCpuHash(options),
      }),
    )('%s', async (_name, map) => {
      using open = maps(churnOf(map as unknown as typeof hashes.hash));
      const handle = open.handle(map as AnyMap) as PerCpuHandle<number, bigint>;
      const expected = (key: number): bigint[] => Array.from({ length: engine.cpus }, (_, cpu) => BigInt(key * 3 + cpu));
      handle.setMany(Array.from({ length: STAYING }, (_, key) => [key, expected(key)] as const));
      await open.beside(() => {
        check(handle.getAll(), expected);
        // An entry of the program's has its value on every CPU that put it in, and zeros for the others.
        for (const [key, values] of handle.getAll())
          if (key >= 1000) expect(values.includes(1n) && values.every((one) => one <= 1n)).toBe(true);
        expect(handle.deleteMany([5000, 5001])).toBe(0);
      });
    });

    test('a trie, which has no buckets to read by', async () => {
      const trie = lpmTrie({ ...options, key: ipv4Prefix });
      const churn = stage({
        name: 'churn',
        hook: 'xdp',
        uses: { trie },
        program(ctx, { trie }) {
          // Among those that stay, and above and below them.
          const prefix = { prefixLen: 32 - (ctx.random() & 1), addr: ((ctx.random() & 0x1ff) << 4) | 8 };
          if ((ctx.random() & 1) === 0) trie.update(prefix, 1n);
          else trie.delete(prefix);
          return ctx.drop();
        },
      });
      using open = maps(churn);
      const handle = open.handle(trie);
      const staying = Array.from({ length: STAYING }, (_, i) => ({ prefixLen: i % 3 === 0 ? 28 : 32, addr: i << 4 }));
      handle.setMany(staying.map((key, i) => [key, BigInt(1000 + i)] as const));
      const name = ({ prefixLen, addr }: { prefixLen: number; addr: number }): string => `${addr}/${prefixLen}`;
      await open.beside(() => {
        const read = handle.getAll();
        const seen = new Map(read.map(([key, value]) => [name(key), value]));
        expect(seen.size).toBe(read.length);
        for (const [i, key] of staying.entries()) expect(seen.get(name(key))).toBe(BigInt(1000 + i));
        expect(read.length).toBeLessThanOrEqual(STAYING + 1024);
      }, 3_000);
    });
  });

  describe('maps that grow while they are read', () => {
    test('a hash: the reading ends, with each key once', async () => {
      const table = hash({ ...options, maxEntries: 200_000 });
      const churn = stage({
        name: 'churn',
        hook: 'xdp',
        uses: { table },
        program(ctx, { table }) {
          table.update(ctx.random(), 1n);
          return ctx.drop();
        },
      });
      using open = maps(churn);
      const handle = open.handle(table);
      await open.beside(() => {
        const read = handle.getAll();
        expect(new Set(read.map(([key]) => key)).size).toBe(read.length);
      });
      expect(handle.size).toBeGreaterThan(10_000);
    });

    test('an LRU map that evicts all the time', async () => {
      const table = lruHash({ ...options, maxEntries: 1024 });
      const churn = stage({
        name: 'churn',
        hook: 'xdp',
        uses: { table },
        program(ctx, { table }) {
          if (!table.update(ctx.random(), 1n)) return ctx.abort();
          return ctx.drop();
        },
      });
      using open = maps(churn);
      const handle = open.handle(table);
      await open.beside(() => {
        const read = handle.getAll();
        expect(new Set(read.map(([key]) => key)).size).toBe(read.length);
        expect(read.length).toBeLessThanOrEqual(1024);
      });
    });

    test('a trie whose keys are always others: the reading ends, or says that it cannot keep up', async () => {
      const trie = lpmTrie({ ...options, key: ipv4Prefix, maxEntries: 512 });
      const last = arrayMap({ name: 'last', value: u32, maxEntries: 512 });
      const churn = stage({
        name: 'churn',
        hook: 'xdp',
        uses: { trie, last },
        program(ctx, { trie, last }) {
          const slot = last.lookup(ctx.random() & 511);
          if (!slot) return ctx.abort();
          trie.delete({ prefixLen: 32, addr: slot.value });
          slot.value = ctx.random();
          trie.update({ prefixLen: 32, addr: slot.value }, 1n);
          return ctx.drop();
        },
      });
      using open = maps(churn);
      const handle = open.handle(trie);
      await open.beside(() => {
        try {
          const read = handle.getAll();
          expect(new Set(read.map(([{ addr }]) => addr)).size).toBe(read.length);
        } catch (error) {
          expect(error).toMatchObject({ code: 'conflict' });
        }
      });
    });
  });

  test('inner maps come and go while their keys are read', async () => {
    const outer = hashOfMaps({ name: 'outer', key: u32, maxEntries: 64, inner: hash({ ...options, maxEntries: 4 }) });
    const reader = stage({
      name: 'reader',
      hook: 'xdp',
      uses: { outer },
      program(ctx, { outer }) {
        const inner = outer.lookup(8 + (ctx.random() & 3));
        if (!inner) return ctx.pass();
        const value = inner.lookup(1);
        if (value) value.value += 1n;
        return ctx.drop();
      },
    });
    using open = maps(reader);
    const handle = open.handle(outer);
    for (let key = 0; key < 8; key++) await handle.set(key);
    let going = true;
    const changes = (async () => {
      for (let i = 0; going; i++) {
        const inner = await handle.set(8 + (i % 4));
        inner.set(1, 0n);
        if (i % 2 === 1) await handle.delete(8 + (i % 4));
        inner.close();
        await setImmediate();
      }
    })();
    await open.beside(() => {
      const keys = handle.keys();
      expect(new Set(keys).size).toBe(keys.length);
      expect(keys.filter((key) => key < 8).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
      expect(keys.every((key) => key < 12)).toBe(true);
    });
    going = false;
    await changes;
  });

  test('a queue between a program and the control plane: all arrive, in order, once', async () => {
    const values = queue({ name: 'values', value: u64, maxEntries: 256 });
    const next = arrayMap({ name: 'next', value: u64, maxEntries: 1 });
    const producer = stage({
      name: 'producer',
      hook: 'xdp',
      uses: { values, next },
      program(ctx, { values, next }) {
        const count = next.lookup(0);
        if (!count) return ctx.abort();
        if (!values.push(count.value)) return ctx.pass();
        count.value += 1n;
        return ctx.drop();
      },
    });
    using open = maps(producer);
    const handle = open.handle(values);
    let expected = 0n;
    await open.beside(() => {
      for (let i = 0; i < 2000; i++) {
        const value = handle.pop();
        if (value === undefined) break;
        expect(value).toBe(expected++);
      }
    });
    for (let value = handle.pop(); value !== undefined; value = handle.pop()) expect(value).toBe(expected++);
    expect(open.handle(next).get(0)).toBe(expected);
    expect(expected).toBeGreaterThan(1000n);
  });

  test('a stack and a bloom filter that a program fills', async () => {
    const values = stack({ name: 'values', value: u32, maxEntries: 64 });
    const seen = bloomFilter({ name: 'seen', value: u32, maxEntries: 4096 });
    const producer = stage({
      name: 'producer',
      hook: 'xdp',
      uses: { values, seen },
      program(ctx, { values, seen }) {
        const value = ctx.random() & 0xfff;
        seen.add(value);
        values.push(value, 'exist');
        return ctx.drop();
      },
    });
    using open = maps(producer);
    const [handle, filter] = [open.handle(values), open.handle(seen)];
    let popped = 0;
    await open.beside(() => {
      for (let i = 0; i < 100; i++) {
        const value = handle.pop();
        if (value === undefined) break;
        popped += 1;
        expect(filter.has(value)).toBe(true);
      }
    });
    expect(popped).toBeGreaterThan(50);
  });

  test('counters: what a program adds on its CPUs is never lost, whatever is read meanwhile', async () => {
    const own = perCpuArray({ name: 'own', value: u64, maxEntries: 4 });
    const shared = arrayMap({ name: 'shared', value: u64, maxEntries: 4 });
    const counter = stage({
      name: 'counter',
      hook: 'xdp',
      uses: { own, shared },
      program(ctx, { own, shared }) {
        const slot = ctx.random() & 3;
        const mine = own.lookup(slot);
        const ours = shared.lookup(slot);
        if (!mine || !ours) return ctx.abort();
        mine.value += 1n;
        ours.value += 1n;
        return ctx.drop();
      },
    });
    using open = maps(counter);
    const total = (): bigint => [0, 1, 2, 3].reduce((sum, slot) => sum + (open.handle(own).sum(slot) ?? 0n), 0n);
    let before = 0n;
    await open.beside(() => {
      const now = total();
      expect(now).toBeGreaterThanOrEqual(before);
      before = now;
      expect(open.handle(shared).getAll()).toHaveLength(4);
    });
    expect(
      open
        .handle(shared)
        .getAll()
        .reduce((sum, [, value]) => sum + value, 0n),
    ).toBe(total());
    expect(total() % BigInt(REPEAT)).toBe(0n);
  });

  test.each([
    ['hash', 4, 0],
    ['lruHash', 4, 0],
    ['lpmTrie', 8, 1],
  ] as const)('parts of a %s: each key once, and all that stay, whatever handles do between them', (type, keySize, flags) => {
    // some entries a part
    const valueSize = 1 << 20;
    const action = fc.record({ at: fc.nat(20), set: fc.boolean(), key: fc.nat(23) });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 12 }), (actions) => {
        const [map, other] = ['m', 'other'].map((name) => engine.createMap({ name, type, keySize, valueSize, maxEntries: 64, flags }));
        if (!map || !other) return;
        const keyOf = (key: number): Uint8Array => new Uint8Array(Uint32Array.of(...(keySize === 8 ? [32, key] : [key])).buffer);
        for (let key = 0; key < 16; key++) map.update(keyOf(key), new Uint8Array(valueSize).fill(key));
        const touched = new Set(actions.map(({ key }) => key));
        const found: number[] = [];
        let at = 0;
        for (const { count, keys, values } of map.readParts()) {
          expect(values).toHaveLength(count * valueSize);
          for (let i = 0; i < count; i++) {
            const key = keys[i * keySize + keySize - 4] as number;
            found.push(key);
            expect(values[i * valueSize + 7]).toBe(key);
          }
          for (const { set, key } of actions.filter((one) => one.at === at))
            if (set) map.update(keyOf(key), new Uint8Array(valueSize).fill(key));
            else map.delete(keyOf(key));
          // what engines keep for themselves between two parts is not what other maps use
          other.update(keyOf(at), new Uint8Array(valueSize).fill(0xff));
          at += 1;
        }
        expect(new Set(found).size).toBe(found.length);
        for (let key = 0; key < 16; key++) if (!touched.has(key)) expect(found).toContain(key);
        map.close();
        other.close();
      }),
      { numRuns: 15 },
    );
  });
}
