import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAGLEV_SIZE, maglevTable, type RingMember, slotsByValue } from './maglev.ts';

const reals = (count: number, weight = 1): RingMember[] =>
  Array.from({ length: count }, (_, i) => ({ name: `10.0.${i >> 8}.${i & 255}`, weight, value: i + 1 }));

const moved = (before: Uint16Array, after: Uint16Array, except: number): number =>
  before.reduce((sum, value, slot) => sum + (value !== except && value !== after[slot] ? 1 : 0), 0);

describe('maglevTable', () => {
  it('gives equal members the same number of slots, to within one', () => {
    for (const count of [1, 2, 3, 7, 100, 1000]) {
      const slots = [...slotsByValue(maglevTable(reals(count))).values()];
      expect(slots).toHaveLength(count);
      expect(Math.max(...slots) - Math.min(...slots)).toBeLessThanOrEqual(1);
    }
  });

  it('is empty without members', () => {
    expect(slotsByValue(maglevTable([]))).toEqual(new Map([[0, MAGLEV_SIZE]]));
    expect(slotsByValue(maglevTable(reals(3, 0), 7))).toEqual(new Map([[0, 7]]));
  });

  it('gives slots by weight', () => {
    const weights = [1, 2, 3, 10, 0];
    const table = maglevTable(weights.map((weight, i) => ({ name: `real ${i}`, weight, value: i + 1 })));
    const slots = slotsByValue(table);
    for (const [i, weight] of weights.entries()) {
      const share = (MAGLEV_SIZE * weight) / 16;
      expect(Math.abs((slots.get(i + 1) ?? 0) - share)).toBeLessThanOrEqual(2);
    }
  });

  it('moves few slots besides those of a member that goes', () => {
    // the paper's figure 12: with 65,537 slots and 100 members some per cent of the others' slots move
    const before = maglevTable(reals(100));
    const after = maglevTable(reals(100).filter(({ value }) => value !== 42));
    expect(moved(before, after, 42) / MAGLEV_SIZE).toBeLessThan(0.03);
    expect(slotsByValue(after).has(42)).toBe(false);
    // and as many when it comes back, since the table depends on the set alone
    expect(moved(after, before, -1) - (slotsByValue(before).get(42) ?? 0)).toBe(moved(before, after, 42));
  });

  it('takes a few milliseconds for 100 reals', () => {
    maglevTable(reals(100));
    const start = performance.now();
    for (let i = 0; i < 5; i++) maglevTable(reals(100));
    expect((performance.now() - start) / 5).toBeLessThan(40);
  });

  const member = fc.record({
    name: fc.string({ maxLength: 8 }),
    weight: fc.integer({ min: 0, max: 20 }),
    value: fc.integer({ min: 1, max: 0xffff }),
  });
  const members = fc.uniqueArray(member, { selector: ({ name }) => name, minLength: 1, maxLength: 12 });

  it('depends on the set of members, not on their order', () => {
    fc.assert(
      fc.property(members, (list) => {
        expect(maglevTable([...list].reverse(), 1009)).toEqual(maglevTable(list, 1009));
      }),
      { numRuns: 50 },
    );
  });

  it('keeps every share within its bounds', () => {
    const distinct = fc.uniqueArray(member, { selector: ({ value }) => value, minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(distinct, (list) => {
        const named = list.map((entry, i) => ({ ...entry, name: String(i) }));
        const slots = slotsByValue(maglevTable(named, 1009));
        const total = named.reduce((sum, { weight }) => sum + weight, 0);
        const active = named.filter(({ weight }) => weight > 0).length;
        for (const { weight, value } of named)
          if (total > 0)
            expect(Math.abs((slots.get(value) ?? 0) - (1009 * weight) / total)).toBeLessThanOrEqual(1 + (active * weight) / total);
      }),
      { numRuns: 50 },
    );
  });

  it('moves little when a weight changes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 20 }), fc.nat(), (count, chosen) => {
        const before = reals(count, 10);
        const after = before.map((entry, i) => (i === chosen % count ? { ...entry, weight: 9 } : entry));
        // the chosen one loses a tenth of its share; others swap some slots
        expect(moved(maglevTable(before, 10_007), maglevTable(after, 10_007), -1) / 10_007).toBeLessThan(0.1);
      }),
      { numRuns: 20 },
    );
  });

  it('refuses what no table can have', () => {
    const texts = [
      () => maglevTable([], 65_536),
      () => maglevTable([], 1),
      () => maglevTable([...reals(1), ...reals(1)]),
      () => maglevTable(reals(1, 1.5)),
      () => maglevTable(reals(1, 1001)),
      () => maglevTable([{ name: 'a', weight: 1, value: 0 }]),
    ].map((run) => {
      try {
        run();
      } catch (error) {
        return String(error);
      }
      return 'nothing';
    });
    expect(texts).toMatchInlineSnapshot(`
      [
        "ArgumentError: maglevTable: size is 65536, expected a prime",
        "ArgumentError: maglevTable: size is 1, expected a prime",
        "ArgumentError: maglevTable: member '10.0.0.0' is there twice, expected different names",
        "ArgumentError: maglevTable: member '10.0.0.0': weight is 1.5, expected 0..1000",
        "ArgumentError: maglevTable: member '10.0.0.0': weight is 1001, expected 0..1000",
        "ArgumentError: maglevTable: member 'a': value is 0, expected 1..65535",
      ]
    `);
  });
});
