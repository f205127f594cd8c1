import { counterNames } from '@tailrace/compiler';
import { array, type Schema, stage, u8, u16, u32, u64 } from '@tailrace/stage';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fakeCompiler } from './fake-engine.ts';
import { type ChainPlan, planChain } from './plan.ts';
import { fork, step } from './sample.ts';
import { layoutState, MAX_STATE_BYTES, type StateLayout } from './state.ts';

const plan = (...members: Parameters<typeof planChain>[0]) => planChain(members, { hook: 'xdp', outcomesOf: fakeCompiler.outcomesOf });
const writer = (fields: Readonly<Record<string, Schema<unknown>>>) =>
  stage({ name: 'writer', hook: 'xdp', writes: fields, program: (ctx) => ctx.next() });

test('length and misses, metadata by alignment, then a block of counters for each stage', () => {
  const { fields, counters, size } = layoutState(plan(writer({ a: u8, b: u64, c: u16, d: u32 }), fork('acl').on({ odd: 'drop' })));
  expect([...fields].map(([name, { offset }]) => [name, offset])).toEqual([
    ['b', 16],
    ['d', 24],
    ['c', 28],
    ['a', 30],
  ]);
  expect([...counters].map(([name, { offset, names }]) => [name, offset, names])).toEqual([
    ['writer', 32, ['bytes', 'misses', 'abort', 'drop', 'pass', 'tx', 'redirect', 'next']],
    ['acl', 96, counterNames('xdp', ['odd'])],
  ]);
  expect(size).toBe(2 * (96 + counterNames('xdp', ['odd']).length * 8) + 4096);
});

test('more than a per-CPU value holds is refused', () => {
  const whole = (length: number) => layoutState(plan(writer({ big: array(u64, length) })));
  expect(() => whole(4096)).toThrow("the chain's state has no room for metadata 'big': 32768 bytes, of 32768");
  expect(whole(4080).size).toBeLessThanOrEqual(MAX_STATE_BYTES);
});

/** Byte ranges of a layout, header included. */
function ranges({ fields, counters }: StateLayout): readonly (readonly [number, number])[] {
  return [
    [0, 16],
    ...[...fields.values()].map(({ offset, layout }) => [offset, offset + layout.size] as const),
    ...[...counters.values()].map(({ offset, names }) => [offset, offset + names.length * 8] as const),
  ];
}

const schemas = { u8, u16, u32, u64, three: array(u8, 3) } as const;
const chains = fc
  .record({
    fields: fc.dictionary(fc.stringMatching(/^[a-f]$/), fc.constantFrom(...(Object.keys(schemas) as (keyof typeof schemas)[])), {
      maxKeys: 6,
    }),
    stages: fc.uniqueArray(fc.tuple(fc.stringMatching(/^s[a-h]$/), fc.boolean()), { maxLength: 6, selector: ([name]) => name }),
  })
  .map(({ fields, stages }): ChainPlan => {
    const writes = Object.fromEntries(Object.entries(fields).map(([name, schema]) => [name, schemas[schema]]));
    return plan(writer(writes), ...stages.map(([name, forks]) => (forks ? fork(name).on({ odd: 'drop' }) : step(name))));
  });

test('nothing overlaps, also not what a change keeps or leaves behind', () => {
  fc.assert(
    fc.property(chains, chains, (first, second) => {
      const before = layoutState(first);
      const after = layoutState(second, { previous: before });
      expect(after.size).toBe(before.size);
      for (const state of [before, after]) {
        const sorted = [...ranges(state)].sort(([a], [b]) => a - b);
        for (const [i, [start]] of sorted.entries()) expect(start).toBeGreaterThanOrEqual(sorted[i - 1]?.[1] ?? 0);
        expect(sorted.at(-1)?.[1]).toBeLessThanOrEqual(state.size);
        for (const { offset, layout } of state.fields.values()) expect(offset % layout.align).toBe(0);
      }
      const old = ranges(before);
      for (const [start, end] of ranges(after))
        if (!old.some(([from, to]) => from === start && to === end)) expect(old.some(([from, to]) => start < to && from < end)).toBe(false);
    }),
    { numRuns: 100 },
  );
});
