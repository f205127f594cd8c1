import { stage, u32, u64 } from '@tailrace/stage';
import { packet, SimulatedMaps, simulate, simulatedHandle } from '@tailrace/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { WideKey } from './mix.ts';
import { wideTable } from './wide-table.ts';

const frame = packet().payload('').bytes();

function setUp(entries: number) {
  const table = wideTable({ name: 'table', entries });
  const maps = new SimulatedMaps();
  const probe = stage({
    name: 'probe',
    hook: 'xdp',
    uses: { table },
    reads: { hi: u64, lo: u64, low: u64 },
    writes: { value: u32 },
    program(ctx, { table }) {
      ctx.meta.value = table.find(ctx.meta.hi, ctx.meta.lo, ctx.meta.low);
      return ctx.next();
    },
  });
  const find = (key: WideKey) => simulate(probe, frame, { maps, meta: { ...key } }).meta.value;
  return { find, handle: simulatedHandle(maps, table) };
}

// few parts, so that keys have some in common
const part = fc.constantFrom(0n, 1n, 0x2001_0db8_0000_0000n, 2n ** 64n - 1n);
const key = fc.record({ hi: part, lo: part, low: fc.constantFrom(0n, 6n, 0xffff_ffffn) });
const textOf = ({ hi, lo, low }: WideKey): string => `${hi} ${lo} ${low}`;

describe('wideTable', () => {
  it('does what a Map does', () => {
    const step = fc.record({ key, value: fc.option(fc.integer({ min: 1, max: 0xffff_ffff }), { freq: 3 }) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 60 }), (steps) => {
        const { find, handle } = setUp(48);
        const model = new Map<string, number>();
        for (const { key, value } of steps) {
          if (value === null) expect(handle.delete(key)).toBe(model.delete(textOf(key)));
          else {
            handle.set(key, value);
            model.set(textOf(key), value);
          }
          expect(handle.get(key)).toBe(model.get(textOf(key)));
          for (const { key } of steps) expect(find(key)).toBe(model.get(textOf(key)) ?? 0);
        }
        expect(new Map([...handle.entries()].map(([known, value]) => [textOf(known), value]))).toEqual(model);
        expect(handle.size).toBe(model.size);
      }),
      { numRuns: 15 },
    );
  });

  it('holds as many as it was declared for', () => {
    const { find, handle } = setUp(3);
    for (let lo = 0n; lo < 3n; lo++) handle.set({ hi: 0n, lo, low: 0n }, 7);
    expect(handle.capacity).toBe(3);
    expect(() => handle.set({ hi: 0n, lo: 3n, low: 0n }, 7)).toThrow("wideTable 'table': it has 3 entries already");
    handle.set({ hi: 0n, lo: 1n, low: 0n }, 8);
    handle.delete({ hi: 0n, lo: 2n, low: 0n });
    handle.set({ hi: 0n, lo: 3n, low: 0n }, 9);
    expect([0n, 1n, 2n, 3n].map((lo) => find({ hi: 0n, lo, low: 0n }))).toEqual([7, 8, 0, 9]);
  });

  it('refuses what it cannot hold', () => {
    const { handle } = setUp(3);
    expect(() => handle.set({ hi: 0n, lo: 0n, low: 0n }, 0)).toThrow("wideTable 'table': value is 0, expected 1..4294967295");
    expect(() => handle.get({ hi: 0n, lo: 0n, low: 1n << 32n })).toThrow('key.low is 4294967296, expected 0..4294967295');
    expect(() => handle.delete({ hi: -1n, lo: 0n, low: 0n })).toThrow('key.hi is -1, expected 0..18446744073709551615');
    expect(() => wideTable({ name: 't', entries: 0 })).toThrow("wideTable 't': entries is 0, expected 1..262144");
  });
});
