import { type ArrayHandle, type FnDecl, type Resource, stage, u32, u64 } from '@tailrace/stage';
import { packet, SimulatedMaps, simulate, simulatedHandle } from '@tailrace/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ExactTable, type ExactTableOptions, exactTable } from './exact-table.ts';
import { mix, mixed, unmix } from './mix.ts';

const frame = packet().payload('').bytes();

/** A table, and a stage that reads it. */
function subject(table: ExactTable) {
  const maps = new SimulatedMaps();
  const buckets = simulatedHandle(maps, table.maps.buckets as Resource<unknown, ArrayHandle<Record<string, bigint>>>);
  const reader = stage({
    name: 'reader',
    hook: 'xdp',
    uses: { table },
    reads: { key: u64 },
    writes: { value: u32 },
    program(ctx, { table }) {
      ctx.meta.value = table.find(ctx.meta.key);
      return ctx.next();
    },
  });
  return {
    handle: simulatedHandle(maps, table),
    bucket: (index: number): bigint[] => Object.values(buckets.get(index) ?? {}),
    find: (key: bigint) => simulate(reader, frame, { maps, meta: { key } }).meta.value as number,
  };
}

/** A table of 16 buckets: values of 4 bits. */
const small = () => subject(exactTable({ name: 'table', entries: 4 }));
/** Keys of one bucket of that table; the first has a rest of 0. */
const neighbours = Array.from({ length: 20 }, (_, i) => unmix((3n << 60n) | BigInt(i)));
const said = (action: () => unknown): string => {
  try {
    return String(action());
  } catch (error) {
    return String(error);
  }
};

describe('mixed', () => {
  it('is what programs do', () => {
    const inProgram = (key: bigint): bigint => mix.body(...([key, mix.uses] as never)) as bigint;
    fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (key) => mixed(key) === inProgram(key)));
  });
});

describe('exactTable', () => {
  it('finds what was set, and nothing else', () => {
    const { handle, find } = small();
    handle.set(7n, 3);
    handle.set(2n ** 64n - 1n, 15);
    expect([7n, 2n ** 64n - 1n, 0n, 8n].map((key) => [find(key), handle.get(key)])).toEqual([
      [3, 3],
      [15, 15],
      [0, undefined],
      [0, undefined],
    ]);
    handle.set(7n, 4);
    expect([find(7n), handle.get(7n), handle.size]).toEqual([4, 4, 2]);
    expect(handle.delete(7n)).toBe(true);
    expect(handle.delete(7n)).toBe(false);
    expect([find(7n), handle.get(7n), handle.size]).toEqual([0, undefined, 1]);
    handle.clear();
    expect([find(2n ** 64n - 1n), handle.size]).toEqual([0, 0]);
  });

  it('does what a Map does', () => {
    // few keys of few buckets, so that buckets fill, and graves are dug and used again
    const key = fc.nat(19).chain((i) => fc.constantFrom(neighbours[i] as bigint, unmix(BigInt(i)), BigInt(i)));
    const step = fc.record({ key, value: fc.option(fc.integer({ min: 1, max: 15 }), { freq: 2 }) });
    let [full, deleted] = [0, 0];
    fc.assert(
      fc.property(fc.array(step, { minLength: 50, maxLength: 300, size: 'max' }), (steps) => {
        const { handle, find } = small();
        const model = new Map<bigint, number>();
        const room = (key: bigint) =>
          model.has(key) || [...model.keys()].filter((other) => mixed(other) >> 60n === mixed(key) >> 60n).length < 8;
        for (const { key, value } of steps) {
          if (value === null) {
            expect(handle.delete(key)).toBe(model.delete(key));
            deleted++;
          } else if (room(key)) {
            handle.set(key, value);
            model.set(key, value);
          } else {
            expect(() => handle.set(key, value)).toThrow('its bucket is full');
            full++;
          }
          expect(find(key)).toBe(model.get(key) ?? 0);
        }
        for (const key of [...model.keys(), ...neighbours])
          expect([find(key), handle.get(key)]).toEqual([model.get(key) ?? 0, model.get(key)]);
        expect(new Map(handle.entries())).toEqual(model);
        expect(handle.size).toBe(model.size);
      }),
      { numRuns: 15 },
    );
    expect(Math.min(full, deleted)).toBeGreaterThan(100);
  });

  it('never moves an entry, and leaves no empty word before one', () => {
    const key = fc.nat(11).map((i) => neighbours[i] as bigint);
    const placeOf = (words: readonly bigint[], key: bigint) =>
      words.findIndex((word) => word >> 4n === BigInt.asUintN(60, mixed(key)) && (word & 15n) !== 0n);
    fc.assert(
      fc.property(fc.array(fc.tuple(key, fc.boolean()), { minLength: 30, maxLength: 120, size: 'max' }), (steps) => {
        const { handle, bucket } = small();
        for (const [key, set] of steps) {
          const before = bucket(3);
          const staying = [...handle.entries()].map(([other]) => other).filter((other) => other !== key);
          if (!set) handle.delete(key);
          else if (staying.length < 8) handle.set(key, 5);
          const after = bucket(3);
          for (const other of staying) expect(placeOf(after, other)).toBe(placeOf(before, other));
          const used = after.indexOf(0n);
          expect(after.slice(used < 0 ? 8 : used)).toEqual(after.slice(used < 0 ? 8 : used).fill(0n));
          // nothing but what goes, comes, or is a grave was written
          expect(after.filter((word, place) => word !== before[place] && (word & 15n) !== 0n).length).toBeLessThanOrEqual(1);
        }
        for (const key of neighbours) handle.delete(key);
        expect(bucket(3)).toEqual(Array(8).fill(0n));
      }),
      { numRuns: 30 },
    );
  });

  it('lets a reader that is interrupted find what stays', () => {
    const step = fc.tuple(fc.nat(6), fc.boolean());
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 4, maxLength: 20 }),
        fc.nat(6),
        fc.array(step, { maxLength: 20 }),
        (steps, stays, changes) => {
          const { handle, bucket } = small();
          const change = ([i, set]: (typeof steps)[number]): void => {
            if (set) handle.set(neighbours[i] as bigint, i + 1);
            else handle.delete(neighbours[i] as bigint);
          };
          for (const one of steps) change(one);
          handle.set(neighbours[stays] as bigint, 9);
          // before each word that the reader reads, something may happen
          const pending = changes.filter(([i]) => i !== stays);
          const words: Record<string, { get(): bigint | undefined }> = {};
          for (let way = 0; way < 8; way++)
            words[`w${way}`] = {
              get: () => {
                for (const one of pending.splice(0, 2)) change(one);
                return bucket(3)[way];
              },
            };
          const { body, uses } = exactTable({ name: 'table', entries: 4 }).fns.find as unknown as FnDecl;
          const { search, ...places } = uses as { readonly search: FnDecl; readonly limit: bigint };
          const found = (body as (...args: readonly unknown[]) => number)(neighbours[stays], {
            ...places,
            buckets: { lookup: () => Object.defineProperties({}, words) },
            mix: mixed,
            search: search.body,
          });
          expect(found).toBe(9);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('holds what it was declared for, whatever keys share', () => {
    const entries = 8_192;
    const of = (key: (i: number) => bigint) => {
      const { handle } = subject(exactTable({ name: 'table', entries, maxValue: 4_096 }));
      for (let i = 0; i < entries; i++) handle.set(key(i), 1);
      return handle.size;
    };
    const address = 0xc633_6401n;
    expect([
      of((i) => (address << 32n) | (BigInt(i) << 16n) | 6n),
      of((i) => ((address + BigInt(i)) << 32n) | (80n << 16n) | 6n),
      of((i) => ((address + BigInt(i >> 1)) << 32n) | (i % 2 ? (443n << 16n) | 17n : 0n)),
    ]).toEqual([entries, entries, entries]);
  });

  it('says what it cannot hold', () => {
    const { handle } = small();
    for (const key of neighbours.slice(0, 8)) handle.set(key, 1);
    expect([
      said(() => handle.set(1n, 16)),
      said(() => handle.set(1n, 0)),
      said(() => handle.get(-1n)),
      said(() => handle.set(2n ** 64n, 1)),
      said(() => handle.set(neighbours[8] as bigint, 1)),
    ]).toMatchInlineSnapshot(`
      [
        "ArgumentError: exactTable 'table': value is 16, expected 1..15",
        "ArgumentError: exactTable 'table': value is 0, expected 1..15",
        "ArgumentError: exactTable 'table': key is -1, expected 0..18446744073709551615",
        "ArgumentError: exactTable 'table': key is 18446744073709551616, expected 0..18446744073709551615",
        "ArgumentError: exactTable 'table': no place for key 4010957569419531492, its bucket is full",
      ]
    `);
    expect(handle.size).toBe(8);
  });

  it('refuses sizes that no table can have', () => {
    const refused = (options: Partial<ExactTableOptions>) => said(() => exactTable({ name: 't', entries: 1, ...options }).name);
    expect([
      refused({ entries: 0 }),
      refused({ entries: 1_048_577 }),
      refused({ maxValue: 0 }),
      refused({ maxValue: 2 ** 22 }),
    ]).toMatchInlineSnapshot(`
        [
          "ArgumentError: exactTable 't': entries is 0, expected 1..1048576",
          "ArgumentError: exactTable 't': entries is 1048577, expected 1..1048576",
          "ArgumentError: exactTable 't': maxValue is 0, expected 1..4194303",
          "ArgumentError: exactTable 't': maxValue is 4194304, expected 1..4194303",
        ]
      `);
    const { maps } = exactTable({ name: 't', entries: 128, maxValue: 4_095 });
    expect(subject(exactTable({ name: 't', entries: 128, maxValue: 4_096 })).handle.maxValue).toBe(8_191);
    expect(maps.buckets).toMatchObject({ maxEntries: 4_096 });
  });
});
