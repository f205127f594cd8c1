import { ArgumentError } from '@tailrace/bpf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { HEAP, MAP_LIMIT, TAG_MAPS } from './layout.ts';
import { EngineMemory } from './memory.ts';

test('blocks do not overlap, are aligned, and are zeros', () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ bytes: fc.integer({ min: 0, max: 5000 }), align: fc.constantFrom(8, 64, 4096) }) },
    { weight: 2, arbitrary: fc.record({ free: fc.nat() }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const memory = new EngineMemory();
      const blocks: { address: number; bytes: number }[] = [];
      for (const step of steps) {
        if ('free' in step) {
          const [block] = blocks.splice(step.free % Math.max(1, blocks.length), 1);
          if (block) memory.free(block.address);
          continue;
        }
        const address = memory.allocate(step.bytes, step.align);
        const end = address + step.bytes;
        expect(address % step.align).toBe(0);
        expect(address).toBeGreaterThanOrEqual(HEAP);
        for (const other of blocks) expect(end <= other.address || address >= other.address + other.bytes).toBe(true);
        expect(memory.u8.subarray(address, end).every((byte) => byte === 0)).toBe(true);
        memory.u8.fill(0xaa, address, end);
        blocks.push({ address, bytes: step.bytes });
      }
      for (const { address } of blocks) memory.free(address);
      expect(memory.used).toBe(0);
      // All is one block again.
      expect(memory.allocate(100_000)).toBe(HEAP);
    }),
    { numRuns: 30 },
  );
});

test('it grows, and views follow', () => {
  const memory = new EngineMemory();
  const { u8, view } = memory;
  const address = memory.allocate(3 << 20);
  memory.view.setUint32(address + (3 << 20) - 4, 7, true);
  expect(memory.u8.length).toBeGreaterThan(u8.length);
  expect(memory.view.byteLength).toBe(memory.u8.length);
  // The old ones show what they had.
  memory.u8[100] = 5;
  expect([u8[100], view.getUint8(100)]).toEqual([5, 5]);
});

test('where memory is used up, nothing changes', () => {
  const memory = new EngineMemory();
  const small = memory.allocate(100);
  expect(() => memory.allocate(2 ** 32, 64, 'map l4lb/conns')).toThrow(
    expect.objectContaining({
      errnoName: 'ENOMEM',
      message: 'memory.grow for map l4lb/conns failed: ENOMEM, not enough memory',
      hint: 'an engine has 4 GiB: lower maxEntries or close maps',
    }),
  );
  expect(memory.allocate(100)).toBeGreaterThan(small);
  expect(memory.u8.length).toBeLessThan(8 << 20);
});

test('only blocks that were handed out are taken back, once', () => {
  const memory = new EngineMemory();
  const address = memory.allocate(10);
  memory.free(address);
  expect(() => memory.free(address)).toThrow(new ArgumentError(`no block of memory starts at ${address}`));
});

test('scratch grows, and is the same as long as it suffices', () => {
  const memory = new EngineMemory();
  const first = memory.scratch(10);
  expect(memory.scratch(4000)).toBe(first);
  memory.scratch(100_000);
  expect(memory.used).toBe(100_000);
});

test('tags: fresh ones first, then those that were given back', () => {
  const memory = new EngineMemory();
  expect(memory.takeTag()).toBe(TAG_MAPS);
  memory.freeTag(TAG_MAPS);
  for (let i = 1; i < MAP_LIMIT; i++) memory.takeTag();
  expect(memory.takeTag()).toBe(TAG_MAPS);
  expect(() => memory.takeTag('map a')).toThrow(
    expect.objectContaining({ errnoName: 'ENOSPC', hint: `an engine has at most ${MAP_LIMIT} maps at a time` }),
  );
});
