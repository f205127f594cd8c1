/** Entries on their way from one live map into another, on an engine: what is brought, what others wrote, what is refused. */
import type { Engine, EngineInstance, LoadedMap } from '@tailrace/bpf';
import {
  type AnyMap,
  arrayMap,
  be32,
  type HandleOf,
  hash,
  ipv4Prefix,
  lpmTrie,
  lruHash,
  lruPerCpuHash,
  perCpuArray,
  perCpuHash,
  type Schema,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { copiedSpec, MapMigration, type MigrationProgress } from './map-migration.ts';
import { type MigratableMap, type Migration, migrate } from './migration.ts';
import { EngineMapRegistry } from './registry.ts';

const Old = struct({ packets: u32 });
const Now = struct({ packets: u64, tag: u8 });
const rich = { tag: 7 };

/** The cases, on an engine. */
export function mapMigrationSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());
  const undo: Disposable[] = [];
  const closeAll = (): void => {
    for (const one of undo.splice(0).reverse()) one[Symbol.dispose]();
  };
  afterEach(closeAll);

  function open<M extends AnyMap>(declared: M): { readonly handle: HandleOf<M>; readonly loaded: LoadedMap } {
    const registry = new EngineMapRegistry(engine);
    undo.push(registry.hold([{ map: declared, scope: 'edge', user: 'test' }]));
    return { handle: registry.handle(declared) as HandleOf<M>, loaded: registry.loaded(declared) };
  }

  /** Both maps, and what brings entries from one into the other. */
  function between<A extends MigratableMap, B extends MigratableMap>(from: A, to: B, migration: Migration) {
    const [old, now] = [open(from), open(to)];
    const copied = engine.createMap(copiedSpec(old.loaded));
    undo.push({ [Symbol.dispose]: () => copied.close() });
    const told: MigrationProgress[] = [];
    const maps = { from: old.loaded, to: now.loaded, copied };
    const moving = new MapMigration(migration, maps, (progress) => void told.push(progress));
    return { old: old.handle, now: now.handle, moving, told };
  }

  const flows = (maxEntries = 64) => hash({ name: 'flows', key: u32, value: Old, maxEntries });
  const richFlows = (maxEntries = 64) => hash({ name: 'flows', key: be32, value: Now, maxEntries });
  const toRich = (from = flows(), to = richFlows()) =>
    between(
      from,
      to,
      migrate(from, to, (key, { packets }) => [key, { packets: BigInt(packets), ...rich }]),
    );

  const keysOf = (handle: { getAll(): [number, unknown][] }): number[] =>
    handle
      .getAll()
      .map(([key]) => key)
      .sort();

  test('entries are converted, and those that are told to stay behind do', async () => {
    const [from, to] = [flows(), richFlows()];
    const { old, now, moving } = between(
      from,
      to,
      migrate(from, to, (key, { packets }) => (packets > 5 ? undefined : [key + 100, { packets: BigInt(packets), tag: key }])),
    );
    old.setMany([1, 2, 3, 4].map((key) => [key, { packets: 2 * key }]));
    await moving.copy();
    expect(now.getAll().sort()).toEqual([
      [101, { packets: 2n, tag: 1 }],
      [102, { packets: 4n, tag: 2 }],
    ]);
  });

  test('what came, changed or went meanwhile follows', async () => {
    const { old, now, moving } = toRich();
    old.setMany([1, 2, 3].map((key) => [key, { packets: key }]));
    await moving.copy();
    old.set(2, { packets: 22 });
    old.delete(3);
    old.set(4, { packets: 4 });
    await moving.follow();
    const expected = [
      [1, { packets: 1n, ...rich }],
      [2, { packets: 22n, ...rich }],
      [4, { packets: 4n, ...rich }],
    ];
    expect(now.getAll().sort()).toEqual(expected);
    await moving.follow();
    expect(now.getAll().sort()).toEqual(expected);
  });

  test('what others wrote into the new map stays, whatever became of the old', async () => {
    const { old, now, moving } = toRich();
    old.setMany([1, 2, 3, 4].map((key) => [key, { packets: key }]));
    await moving.copy();
    now.set(1, { packets: 100n, tag: 0 });
    now.delete(2);
    now.set(3, { packets: 300n, tag: 0 });
    now.set(5, { packets: 500n, tag: 0 });
    old.set(1, { packets: 11 });
    old.set(2, { packets: 22 });
    old.delete(3);
    old.set(4, { packets: 44 });
    old.set(5, { packets: 55 });
    old.set(6, { packets: 66 });
    await moving.follow();
    const expected = [
      [1, { packets: 100n, tag: 0 }],
      [3, { packets: 300n, tag: 0 }],
      [4, { packets: 44n, ...rich }],
      [5, { packets: 500n, tag: 0 }],
      [6, { packets: 66n, ...rich }],
    ];
    expect(now.getAll().sort()).toEqual(expected);
    now.delete(6);
    await moving.follow();
    expect(now.get(6)).toBeUndefined();
  });

  test('an entry whose key depends on its value moves with it', async () => {
    const [from, to] = [flows(), flows()];
    const { old, now, moving } = between(
      from,
      to,
      migrate(from, to, (key, { packets }) => (packets === 0 ? undefined : [1000 * packets + key, { packets }])),
    );
    old.set(1, { packets: 1 });
    old.set(2, { packets: 0 });
    old.set(3, { packets: 3 });
    await moving.copy();
    old.set(1, { packets: 2 });
    old.set(2, { packets: 1 });
    old.set(3, { packets: 0 });
    await moving.follow();
    expect(now.getAll().sort()).toEqual([
      [1002, { packets: 1 }],
      [2001, { packets: 2 }],
    ]);
  });

  test('without a conversion entries stay what they are, also in another kind and by other schemas of the same type', async () => {
    const from = hash({ name: 'm', key: be32, value: struct({ n: u32 }), maxEntries: 8 });
    const to = lruHash({ name: 'm', key: u32, value: struct({ pad: u8, n: u32 }), maxEntries: 300 });
    const larger = hash({ name: 'm', key: be32, value: struct({ n: u32 }), maxEntries: 300 });
    const plain = between(from, larger, migrate(from, larger));
    plain.old.set(9, { n: 1 });
    await plain.moving.copy();
    expect(plain.now.getAll()).toEqual([[9, { n: 1 }]]);
    const other = between(
      from,
      to,
      migrate(from, to, (key, { n }) => [key, { pad: 0, n }]),
    );
    other.old.set(9, { n: 2 });
    await other.moving.copy();
    expect(other.now.getAll()).toEqual([[9, { pad: 0, n: 2 }]]);
  });

  describe.each(['hash', 'lruHash', 'perCpuHash', 'lruPerCpuHash'] as const)('from %s', (kind) => {
    test.each(['hash', 'lruHash', 'perCpuHash', 'lruPerCpuHash'] as const)('to %s', async (other) => {
      const kinds = { hash, lruHash, perCpuHash, lruPerCpuHash };
      const of = (type: keyof typeof kinds, value: Schema<number>) =>
        kinds[type]({ name: 'm', key: u32, value, maxEntries: 1024 }) as ReturnType<typeof hash<number, unknown>>;
      const plain = (type: keyof typeof kinds, n: number): unknown =>
        type === 'hash' || type === 'lruHash' ? n : Array.from({ length: engine.cpus }, () => n);
      const first = (value: unknown): number => (Array.isArray(value) ? value[0] : value) as number;
      const [from, to] = [of(kind, u8), of(other, u16)];
      const { old, now, moving } = between(
        from,
        to,
        migrate(from, to, (key, value) => [key, plain(other, 100 * first(value))]),
      );
      for (const key of [1, 2, 3]) old.set(key, plain(kind, key));
      await moving.copy();
      old.set(1, plain(kind, 11));
      old.delete(2);
      old.set(4, plain(kind, 44));
      await moving.follow();
      const values = now.getAll().map(([key, value]): [number, number] => [key, first(value)]);
      expect(values.sort()).toEqual([
        [1, 1100],
        [3, 300],
        [4, 4400],
      ]);
    });
  });

  describe('per-CPU maps, tries and arrays', () => {
    test('a value for each CPU, or all in one', async () => {
      const cpus = [...Array(engine.cpus).keys()];
      const from = perCpuHash({ name: 'm', key: u32, value: u32, maxEntries: 8 });
      const wide = perCpuHash({ name: 'm', key: u32, value: u64, maxEntries: 8 });
      const each = between(
        from,
        wide,
        migrate(from, wide, (key, values) => [key, values.map((value) => BigInt(value) * 2n)]),
      );
      each.old.set(
        3,
        cpus.map((cpu) => cpu + 1),
      );
      await each.moving.copy();
      expect(each.now.get(3)).toEqual(cpus.map((cpu) => BigInt(2 * cpu + 2)));
      each.old.set(
        3,
        cpus.map(() => 5),
      );
      await each.moving.follow();
      expect(each.now.get(3)).toEqual(cpus.map(() => 10n));

      const total = hash({ name: 'm', key: u32, value: u64, maxEntries: 8 });
      const sum = between(
        from,
        total,
        migrate(from, total, (key, values) => [key, values.reduce((all, value) => all + BigInt(value), 0n)]),
      );
      sum.old.set(
        3,
        cpus.map((cpu) => cpu + 1),
      );
      await sum.moving.copy();
      expect(sum.now.get(3)).toBe(BigInt((engine.cpus * (engine.cpus + 1)) / 2));
    });

    test('prefixes are told apart from shorter ones that hold them', async () => {
      const declared = (value: typeof u32 | typeof u64) =>
        lpmTrie({ name: 'm', key: ipv4Prefix, value: value as typeof u32, maxEntries: 64 });
      const [from, to] = [declared(u32), declared(u32)];
      const { old, now, moving } = between(from, to, migrate(from, to));
      const prefix = (prefixLen: number, addr = 0x0a000000) => ({ prefixLen, addr });
      old.set(prefix(8), 1);
      old.set(prefix(16), 1);
      old.set(prefix(24), 3);
      await moving.copy();
      // gone from the old; the shorter one answers for it there
      old.delete(prefix(24));
      // gone from the new, where the shorter one has the value that it had
      now.delete(prefix(16));
      old.set(prefix(16), 22);
      // nothing but the shorter one is there
      old.set(prefix(28), 1);
      await moving.follow();
      expect(now.getAll().sort(([a], [b]) => a.prefixLen - b.prefixLen)).toEqual([
        [prefix(8), 1],
        [prefix(28), 1],
      ]);
    });

    test('arrays keep their places; zeros are free', async () => {
      const from = arrayMap({ name: 'm', value: u32, maxEntries: 4 });
      const to = arrayMap({ name: 'm', value: u64, maxEntries: 6 });
      const { old, now, moving } = between(
        from,
        to,
        migrate(from, to, (index, value) => [index, BigInt(value)]),
      );
      old.setMany([
        [0, 1],
        [1, 2],
      ]);
      await moving.copy();
      now.set(0, 100n);
      old.set(0, 11);
      old.set(1, 22);
      old.set(3, 33);
      await moving.follow();
      expect(now.getAll().map(([, value]) => value)).toEqual([100n, 22n, 0n, 33n, 0n, 0n]);
      old.set(1, 0);
      await moving.follow();
      expect(now.get(1)).toBe(0n);
    });

    test('an array of values for each CPU', async () => {
      const from = perCpuArray({ name: 'm', value: u32, maxEntries: 2 });
      const to = perCpuArray({ name: 'm', value: struct({ n: u32, m: u32 }), maxEntries: 2 });
      const { old, now, moving } = between(
        from,
        to,
        migrate(from, to, (index, values) => [index, values.map((n) => ({ n, m: 1 }))]),
      );
      const all = <T>(value: T): T[] => Array.from({ length: engine.cpus }, () => value);
      old.set(1, all(5));
      await moving.copy();
      expect(now.getAll()).toEqual([
        [0, all({ n: 0, m: 1 })],
        [1, all({ n: 5, m: 1 })],
      ]);
    });
  });

  describe('refused', () => {
    test('a conversion that throws, with map and key', async () => {
      const [from, to] = [flows(), richFlows()];
      const fails = migrate(from, to, (key, { packets }) => {
        if (key === 2) throw new RangeError('no such tag');
        return [key, { packets: BigInt(packets), tag: 1 }];
      });
      const { old, moving } = between(from, to, fails);
      old.set(2, { packets: 1 });
      const failed = moving.copy();
      await expect(failed).rejects.toMatchObject({
        code: 'migration',
        problem: 'convert',
        map: 'edge/flows',
        key: 2,
        cause: { name: 'RangeError' },
      });
      await expect(failed).rejects.toThrowErrorMatchingInlineSnapshot(
        `[MigrationError: map 'edge/flows': its entry 2 cannot be converted: no such tag]`,
      );
    });

    test('what the new schema cannot hold', async () => {
      const [from, to] = [flows(), hash({ name: 'flows', key: struct({ id: u8 }), value: Old, maxEntries: 8 })];
      const { old, moving } = between(
        from,
        to,
        migrate(from, to, (id, value) => [{ id }, value]),
      );
      old.set(300, { packets: 1 });
      await expect(moving.copy()).rejects.toThrowErrorMatchingInlineSnapshot(
        `[MigrationError: map 'edge/flows': its entry 300 cannot be converted: key of 'edge/flows'.id: expected 0..255, got 300]`,
      );
    });

    test('more entries than there is room for, which are counted', async () => {
      for (const to of [richFlows(4), lruHash({ name: 'flows', key: be32, value: Now, maxEntries: 4 })]) {
        const { old, moving } = toRich(flows(), to as ReturnType<typeof richFlows>);
        old.setMany([...Array(9).keys()].map((key) => [key, { packets: key }]));
        await expect(moving.copy()).rejects.toMatchObject({
          problem: 'room',
          message: "map 'edge/flows': has room for 4 entries, and 9 are to come",
          hint: 'raise its maxEntries, or leave entries out',
        });
      }
    });

    test('two that become one', async () => {
      const [from, to] = [flows(), flows()];
      const { old, moving } = between(
        from,
        to,
        migrate(from, to, (key, value) => [key >>> 1, value]),
      );
      old.setMany([4, 5].map((key) => [key, { packets: key }]));
      await expect(moving.copy()).rejects.toThrow(/^map 'edge\/flows': its entry [45] and another become one$/);
    });

    test('no room for what came meanwhile: it is counted, and brought once there is some', async () => {
      const { old, now, moving } = toRich(flows(), richFlows(4));
      old.setMany([1, 2].map((key) => [key, { packets: key }]));
      await moving.copy();
      now.set(100, { packets: 1n, tag: 0 });
      old.setMany([3, 4, 5].map((key) => [key, { packets: key }]));
      await expect(moving.follow()).rejects.toThrow("map 'edge/flows': has room for 4 entries, and none for 2 that came meanwhile");
      const left = [3, 4, 5].filter((key) => now.get(key) === undefined);
      expect(left).toHaveLength(2);
      now.delete(100);
      old.delete(left[0] as number);
      await moving.follow();
      expect(keysOf(now)).toEqual(keysOf(old));
    });

    test('room that comes in the same pass as those who need it', async () => {
      const { old, now, moving } = toRich(flows(), richFlows(4));
      old.setMany([1, 2, 3, 4].map((key) => [key, { packets: key }]));
      await moving.copy();
      for (const key of [1, 2, 3]) old.delete(key);
      old.setMany([5, 6, 7].map((key) => [key, { packets: key }]));
      await moving.follow();
      expect(keysOf(now)).toEqual([4, 5, 6, 7]);
      old.delete(4);
      old.setMany([8, 9].map((key) => [key, { packets: key }]));
      await expect(moving.follow()).rejects.toThrow("map 'edge/flows': has room for 4 entries, and none for 1 that came meanwhile");
    });

    test('room that a conversion makes behind those who need it', async () => {
      const [from, to] = [flows(), flows(2)];
      const { old, now, moving } = between(
        from,
        to,
        migrate(from, to, (key, { packets }) => (packets === 0 ? undefined : [key, { packets }])),
      );
      old.setMany([1, 2, 3, 4].map((key) => [key, { packets: key < 3 ? 1 : 0 }]));
      await moving.copy();
      old.setMany([1, 2, 3, 4].map((key) => [key, { packets: key < 3 ? 0 : 1 }]));
      await moving.follow();
      expect(keysOf(now)).toEqual([3, 4]);
      // and back, so that whichever is met first needs room once
      old.setMany([1, 2, 3, 4].map((key) => [key, { packets: key < 3 ? 1 : 0 }]));
      await moving.follow();
      expect(keysOf(now)).toEqual([1, 2]);
    });
  });

  test('however both are written in between, the new map has what it was given last, or else what the old has', async () => {
    const key = fc.integer({ min: 0, max: 7 });
    const value = fc.integer({ min: 1, max: 3 });
    const write = fc.oneof(
      fc.record({ kind: fc.constant('old' as const), key, value: fc.option(value, { nil: undefined }) }),
      fc.record({ kind: fc.constant('now' as const), key, value }),
      fc.record({ kind: fc.constant('pass' as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(key, value)), fc.array(write, { maxLength: 30 }), async (first, writes) => {
        const { old, now, moving } = toRich();
        const expected = new Map<number, { packets: bigint; tag: number }>();
        const [theirs, ours] = [new Map(first), new Map<number, number>()];
        for (const [at, packets] of theirs) old.set(at, { packets });
        await moving.copy();
        for (const step of writes) {
          if (step.kind === 'pass') await moving.follow();
          else if (step.kind === 'now') {
            // no conversion makes this tag
            now.set(step.key, { packets: BigInt(step.value), tag: 99 });
            ours.set(step.key, step.value);
          } else if (step.value === undefined) {
            old.delete(step.key);
            theirs.delete(step.key);
          } else {
            old.set(step.key, { packets: step.value });
            theirs.set(step.key, step.value);
          }
        }
        await moving.follow();
        for (const [at, packets] of theirs) expected.set(at, { packets: BigInt(packets), ...rich });
        for (const [at, packets] of ours) expected.set(at, { packets: BigInt(packets), tag: 99 });
        expect(new Map(now.getAll())).toEqual(expected);
        closeAll();
      }),
      { numRuns: 60 },
    );
  });

  test('others have their turn while many entries are moved', async () => {
    const { old, now, moving, told } = toRich(flows(60_000), richFlows(60_000));
    old.setMany([...Array(60_000).keys()].map((key) => [key, { packets: key }]));
    let turns = 0;
    const ticking = setInterval(() => {
      turns += 1;
      old.set(turns, { packets: 1_000_000 });
    }, 1);
    await moving.copy();
    clearInterval(ticking);
    expect(turns).toBeGreaterThan(3);
    expect(told.length).toBeGreaterThan(3);
    expect(told.at(-1)).toEqual({ map: 'edge/flows', pass: 'all', entries: 60_000 });
    expect(told.every(({ entries }, at) => at === 0 || entries >= (told[at - 1]?.entries ?? 0))).toBe(true);
    await moving.follow();
    expect(told.at(-1)).toEqual({ map: 'edge/flows', pass: 'changes', entries: 60_000 });
    expect(now.size).toBe(60_000);
    for (let key = 1; key <= turns; key++) expect(now.get(key)?.packets).toBe(1_000_000n);
  });
}
