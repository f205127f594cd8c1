import { stage, u16, u32 } from '@tailrace/stage';
import { packet, SimulatedMaps, simulate, simulatedHandle } from '@tailrace/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { maglevTable } from './maglev.ts';
import { maglevRing } from './maglev-ring.ts';

function setUp(rings: number, size: number) {
  const ring = maglevRing({ name: 'ring', rings, size });
  const maps = new SimulatedMaps();
  const probe = stage({
    name: 'probe',
    hook: 'xdp',
    uses: { ring },
    reads: { vip: u16, hash: u32 },
    writes: { real: u16 },
    program(ctx, { ring }) {
      ctx.meta.real = ring.at(ctx.meta.vip, ctx.meta.hash);
      return ctx.next();
    },
  });
  const frame = packet().bytes();
  const at = (vip: number, hash: number) => simulate(probe, frame, { maps, meta: { vip, hash } }).meta.real;
  return { at, handle: simulatedHandle(maps, ring), reread: () => simulatedHandle(maps, ring) };
}

const members = (count: number) => Array.from({ length: count }, (_, i) => ({ name: `real ${i}`, weight: 1, value: i + 1 }));

describe('maglevRing', () => {
  it('finds the slot that a hash falls on', () => {
    const { at, handle } = setUp(3, 101);
    const table = maglevTable(members(5), 101);
    handle.set(1, table);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (hash) => {
        expect(at(1, hash)).toBe(table[Math.floor((hash * 101) / 2 ** 32)]);
      }),
      { numRuns: 200 },
    );
    expect([at(1, 0), at(1, 0xffff_ffff)]).toEqual([table[0], table[100]]);
  });

  it('keeps rings apart; an empty one has nobody', () => {
    const { at, handle } = setUp(2, 101);
    handle.set(1, new Uint16Array(101).fill(7));
    expect([at(0, 0xffff_ffff), at(1, 0), at(1, 0xffff_ffff)]).toEqual([0, 7, 7]);
  });

  it('writes only the lines that differ', () => {
    const { handle, reread } = setUp(2, 1009);
    const table = maglevTable(members(3), 1009);
    expect(handle.set(1, table)).toBe(32);
    expect(handle.set(1, table)).toBe(0);
    const changed = table.slice();
    changed[40] = 9;
    changed[1008] = 9;
    expect(handle.set(1, changed)).toBe(2);
    expect(reread().get(1)).toEqual(changed);
    expect(reread().get(0)).toEqual(new Uint16Array(1009));
  });

  it('refuses tables and rings that are not there', () => {
    const { handle } = setUp(2, 101);
    expect(() => handle.set(0, new Uint16Array(100))).toThrow('a table of 100 slots, expected 101');
    expect(() => handle.get(2)).toThrow('ring 2, expected 0..1');
    expect(() => maglevRing({ name: 'r', rings: 0 })).toThrow("maglevRing 'r': rings is 0, expected 1..65536");
  });
});
