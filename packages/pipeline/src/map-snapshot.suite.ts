/** Maps saved to files and restored from them, on an engine. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ArgumentError, type Engine, type EngineInstance } from '@tailrace/bpf';
import {
  type AnyMap,
  array,
  arrayMap,
  be32,
  ConflictError,
  type HandleOf,
  hash,
  ipv4Prefix,
  lpmTrie,
  lruHash,
  perCpuArray,
  perCpuHash,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { EngineMapRegistry } from './registry.ts';
import { SnapshotError, writeSnapshot } from './snapshot-file.ts';

const Flow = struct({ source: be32, port: u16 });
const Counts = struct({ packets: u64, kind: u8 });

/** The cases, on an engine. */
export function mapSnapshotSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  let folder: string;
  let path: string;
  beforeAll(async () => {
    engine = await blueprint.open();
    folder = mkdtempSync(join(tmpdir(), 'tailrace-snapshot-'));
    path = join(folder, 'flows');
  });
  afterAll(async () => {
    await engine.close();
    rmSync(folder, { recursive: true });
  });
  const holds: Disposable[] = [];
  afterEach(() => {
    for (const hold of holds.splice(0)) hold[Symbol.dispose]();
    for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true });
  });

  /** The handle of a fresh map. */
  function open<M extends AnyMap>(declared: M): HandleOf<M> {
    const registry = new EngineMapRegistry(engine);
    holds.push(registry.hold([{ map: declared, scope: 'edge', user: 'test' }]));
    return registry.handle(declared) as HandleOf<M>;
  }

  const flows = (options: { readonly maxEntries?: number } = {}) =>
    hash({ name: 'flows', key: Flow, value: Counts, maxEntries: options.maxEntries ?? 100 });
  const flow = (port: number) => ({ source: 0x0a000001, port });

  /** A saved map of some entries. */
  async function saved(entries = 3) {
    const handle = open(flows());
    for (let port = 0; port < entries; port++) handle.set(flow(port), { packets: BigInt(port) << 40n, kind: port });
    expect(await handle.save(path)).toBe(entries);
    return handle;
  }

  describe('what is saved comes back', () => {
    const each = (value: bigint) => Array.from({ length: engine.cpus }, (_, cpu) => value + BigInt(cpu));

    test.each(['hash', 'lruHash'] as const)('of a %s, over what is there', async (kind) => {
      const make = () => open((kind === 'hash' ? hash : lruHash)({ name: 'flows', key: Flow, value: Counts, maxEntries: 100 }));
      const [from, to] = [make(), make()];
      from.set(flow(1), { packets: 1n, kind: 1 });
      from.set(flow(2), { packets: 1n << 63n, kind: 255 });
      to.set(flow(2), { packets: 0n, kind: 0 });
      to.set(flow(3), { packets: 3n, kind: 3 });
      expect([await from.save(path), await to.restore(path)]).toEqual([2, 2]);
      expect(new Map(to.getAll().map(([{ port }, value]) => [port, value]))).toEqual(
        new Map([
          [1, { packets: 1n, kind: 1 }],
          [2, { packets: 1n << 63n, kind: 255 }],
          [3, { packets: 3n, kind: 3 }],
        ]),
      );
      expect([readdirSync(folder), statSync(path).mode & 0o777]).toEqual([['flows'], 0o600]);
    });

    test('of a trie and an array', async () => {
      const routes = () => open(lpmTrie({ name: 'routes', key: ipv4Prefix, value: u32, maxEntries: 16 }));
      const [from, to] = [routes(), routes()];
      from.set({ prefixLen: 8, addr: 0x0a000000 }, 1);
      from.set({ prefixLen: 24, addr: 0x0a010200 }, 2);
      expect([await from.save(path), await to.restore(path)]).toEqual([2, 2]);
      expect(to.get({ prefixLen: 32, addr: 0x0a010203 })).toBe(2);
      const table = () => open(arrayMap({ name: 'table', value: u16, maxEntries: 4 }));
      const [first, second] = [table(), table()];
      first.set(3, 700);
      expect([await first.save(path), await second.restore(path)]).toEqual([4, 4]);
      expect(second.getAll()).toEqual([0, 0, 0, 700].map((value, index) => [index, value]));
    });

    test('of per-CPU maps', async () => {
      const counters = () => open(perCpuHash({ name: 'counters', key: u32, value: u64, maxEntries: 16 }));
      const [from, to] = [counters(), counters()];
      from.set(7, each(100n));
      expect([await from.save(path), await to.restore(path)]).toEqual([1, 1]);
      expect(to.get(7)).toEqual(each(100n));
      const totals = () => open(perCpuArray({ name: 'totals', value: u64, maxEntries: 2 }));
      const [first, second] = [totals(), totals()];
      first.set(1, each(5n));
      expect([await first.save(path), await second.restore(path)]).toEqual([2, 2]);
      expect(second.get(1)).toEqual(each(5n));
    });

    test('of an empty map, and of one that is read in many parts', async () => {
      expect([await open(flows()).save(path), await open(flows()).restore(path)]).toEqual([0, 0]);
      const large = () => open(hash({ name: 'large', key: u32, value: array(u8, 1 << 20), maxEntries: 11 }));
      const [from, to] = [large(), large()];
      for (let key = 0; key < 11; key++) from.set(key, new Uint8Array(1 << 20).fill(key));
      expect([await from.save(path), await to.restore(path)]).toEqual([11, 11]);
      for (let key = 0; key < 11; key++) expect(Array.from(to.get(key) ?? []).every((byte) => byte === key)).toBe(true);
    });

    test('in the place of an older file', async () => {
      await saved(3);
      const handle = await saved(1);
      await handle.restore(path);
      expect(readdirSync(folder)).toEqual(['flows']);
    });
  });

  describe('a file that does not fit', () => {
    test('is refused, whatever byte of it is another or missing, and the map stays', async () => {
      await saved(5);
      const whole = readFileSync(path);
      const handle = open(flows());
      const damage = fc.oneof(
        fc.record({ at: fc.nat(whole.length - 1), by: fc.integer({ min: 1, max: 255 }) }),
        fc.record({ cut: fc.nat(whole.length - 1) }),
        fc.record({ more: fc.uint8Array({ minLength: 1, maxLength: 40 }) }),
      );
      await fc.assert(
        fc.asyncProperty(damage, async (one) => {
          const bytes = Buffer.from(whole);
          if ('at' in one) bytes[one.at] = (bytes[one.at] as number) ^ one.by;
          writeFileSync(path, 'cut' in one ? bytes.subarray(0, one.cut) : 'more' in one ? Buffer.concat([bytes, one.more]) : bytes);
          await expect(handle.restore(path)).rejects.toBeInstanceOf(SnapshotError);
          expect(handle.size).toBe(0);
        }),
        { numRuns: 150 },
      );
      writeFileSync(path, whole);
      expect(await handle.restore(path)).toBe(5);
    });

    test('says what is wrong with it', async () => {
      const handle = await saved();
      const whole = readFileSync(path);
      const told = async (bytes: Uint8Array): Promise<string> => {
        writeFileSync(path, bytes);
        return handle.restore(path).then(
          () => 'nothing',
          (error: SnapshotError) => `${error.code} ${error.message}`.replace(path, 'flows'),
        );
      };
      const changed = (at: number, to: number): Buffer => {
        const bytes = Buffer.from(whole);
        bytes[at] = to;
        return bytes;
      };
      expect([
        await told(new Uint8Array(0)),
        await told(Buffer.from('{"flows": [1, 2, 3]}')),
        await told(changed(7, 2)),
        await told(changed(20, 0)),
        await told(changed(whole.length - 20, 0xff)),
        await told(whole.subarray(0, whole.length - 30)),
        await told(Buffer.concat([whole, Buffer.from('x')])),
      ]).toMatchInlineSnapshot(`
        [
          "snapshot snapshot flows: cut, it ends at byte 0",
          "snapshot snapshot flows: no file of entries, it does not begin as one",
          "snapshot snapshot flows: version 2, expected 1",
          "snapshot snapshot flows: damaged between byte 0 and 188",
          "snapshot snapshot flows: damaged between byte 192 and 268",
          "snapshot snapshot flows: cut, it ends at byte 258",
          "snapshot snapshot flows: 1 bytes behind its end",
        ]
      `);
      await expect(handle.restore(join(folder, 'none'))).rejects.toMatchObject({
        code: 'snapshot',
        path: join(folder, 'none'),
        message: `snapshot ${folder}/none: cannot be read: ENOENT`,
        cause: { code: 'ENOENT' },
      });
    });

    test('from another map shows what differs', async () => {
      await saved();
      const Other = struct({ packets: u32, kind: u8, more: u16 });
      const other = open(hash({ name: 'other', key: Flow, value: Other, maxEntries: 10 }));
      await expect(other.restore(path)).rejects.toEqual(
        new ConflictError(`map 'other' and ${path}`, [
          { field: 'valueSize', ours: '8', theirs: '16' },
          { field: 'value.packets', ours: 'u32 at byte 0', theirs: 'u64 at byte 0' },
          { field: 'value.kind', ours: 'u8 at byte 4', theirs: 'u8 at byte 8' },
          { field: 'value.more', ours: 'u16 at byte 6', theirs: 'missing' },
        ]),
      );
      const lru = open(lruHash({ name: 'lru', key: Flow, value: Counts, maxEntries: 10 }));
      await expect(lru.restore(path)).rejects.toEqual(
        new ConflictError(`map 'lru' and ${path}`, [{ field: 'type', ours: 'lruHash', theirs: 'hash' }]),
      );
    });

    test('with more entries than there are places is refused before the first', async () => {
      await saved(9);
      const small = open(flows({ maxEntries: 8 }));
      await expect(small.restore(path)).rejects.toEqual(new ArgumentError(`map 'flows' has room for 8 entries, ${path} has 9`));
      expect(small.size).toBe(0);
      const taken = open(flows({ maxEntries: 10 }));
      for (let port = 100; port < 105; port++) taken.set(flow(port), { packets: 0n, kind: 0 });
      await expect(taken.restore(path)).rejects.toMatchObject({ errnoName: 'E2BIG' });
    });
  });

  describe('from a machine with another number of CPUs', () => {
    const cpus = 3;
    const counters = (value: typeof u8 | typeof u64) =>
      perCpuHash({ name: 'counters', key: u32, value: value as typeof u64, maxEntries: 16 });
    /** As that machine saves it. */
    const foreign = (value: 'u8' | 'u64', values: readonly bigint[]) =>
      writeSnapshot(
        path,
        {
          type: 'perCpuHash',
          cpus: values.length,
          keySize: 4,
          stride: 8 * values.length,
          fields: { key: 'u32 at byte 0', value: `${value} at byte 0` },
        },
        [{ count: 1, keys: new Uint8Array(Uint32Array.of(7).buffer), values: new Uint8Array(BigUint64Array.from(values).buffer) }],
      );
    const others = Array.from({ length: cpus + 1000 }, (_, cpu) => BigInt(cpu));

    test('it is refused, and summed where that is asked for', async () => {
      await foreign('u64', others);
      const handle = open(counters(u64));
      await expect(handle.restore(path)).rejects.toMatchObject({
        code: 'conflict',
        differences: [{ field: 'cpus', ours: String(engine.cpus), theirs: String(others.length) }],
        hint: "cpus: 'sum' adds the values of all CPUs up",
      });
      expect(await handle.restore(path, { cpus: 'sum' })).toBe(1);
      const sum = others.reduce((all, one) => all + one, 0n);
      expect(handle.get(7)).toEqual(Array.from({ length: engine.cpus }, (_, cpu) => (cpu === 0 ? sum : 0n)));
    });

    test('sums that a value cannot hold are refused before anything is written', async () => {
      await foreign(
        'u8',
        Array.from({ length: 1000 }, () => 200n),
      );
      const handle = open(counters(u8));
      await expect(handle.restore(path, { cpus: 'sum' })).rejects.toBeInstanceOf(ArgumentError);
      expect(handle.size).toBe(0);
    });
  });

  describe('a file that cannot be written', () => {
    test('leaves what was there, and nothing else', async () => {
      const handle = await saved();
      const before = readFileSync(path);
      await expect(handle.save(join(folder, 'none', 'flows'))).rejects.toMatchObject({ code: 'snapshot', cause: { code: 'ENOENT' } });
      mkdirSync(join(folder, 'taken'));
      await expect(handle.save(join(folder, 'taken'))).rejects.toMatchObject({ code: 'snapshot', cause: { code: 'EISDIR' } });
      expect(readdirSync(folder).toSorted()).toEqual(['flows', 'taken']);
      expect(readFileSync(path)).toEqual(before);
    });

    test('because the map is closed meanwhile', async () => {
      await saved();
      const before = readFileSync(path);
      const large = open(hash({ name: 'large', key: u32, value: array(u8, 1 << 20), maxEntries: 11 }));
      for (let key = 0; key < 11; key++) large.set(key, new Uint8Array(1 << 20));
      const saving = large.save(path);
      for (const hold of holds.splice(0)) hold[Symbol.dispose]();
      await expect(saving).rejects.toBeInstanceOf(ArgumentError);
      expect([readdirSync(folder), readFileSync(path)]).toEqual([['flows'], before]);
    });
  });
}
