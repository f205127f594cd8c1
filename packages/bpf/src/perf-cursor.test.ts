import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PerfCursor } from './perf-cursor.ts';

const BYTES = 256;
const [HEAD, TAIL, DATA] = [0, 8, 64];

/** A ring in plain memory, with so many bytes in it from the start of its data on. */
function ring(data: Uint8Array, from = 0) {
  const buffer = new SharedArrayBuffer(DATA + BYTES);
  const view = new DataView(buffer);
  data.forEach((byte, at) => {
    view.setUint8(DATA + ((from + at) % BYTES), byte);
  });
  view.setBigUint64(TAIL, BigInt(from), true);
  view.setBigUint64(HEAD, BigInt(from + data.length), true);
  return { buffer, head: HEAD, tail: TAIL, data: DATA, bytes: BYTES };
}

/** A record of some type, that says so much of its size and its length. */
function record(content: readonly number[], type = 9, size = 12 + content.length, length = content.length): number[] {
  const head = new DataView(new ArrayBuffer(12));
  head.setUint32(0, type, true);
  head.setUint16(6, size, true);
  head.setUint32(8, length, true);
  return [...new Uint8Array(head.buffer), ...content];
}

function read(cursor: PerfCursor): number[][] {
  const found: number[][] = [];
  while (
    cursor.next((view, offset, length) => {
      found.push([...new Uint8Array(view.buffer, view.byteOffset + offset, length)]);
    })
  );
  return found;
}

test('rings have their turns, and each is read in order, over its end', () => {
  const first = ring(Uint8Array.from([...record([1, 1, 1, 1]), ...record([2, 2, 2, 2]), ...record([3, 3, 3, 3])]), BYTES - 24);
  const second = ring(Uint8Array.from(record([4, 4, 4, 4])));
  const cursor = new PerfCursor([first, ring(new Uint8Array(0)), second], () => 5n);
  expect(cursor.pending).toBe(64);
  expect(read(cursor).map(([number]) => number)).toEqual([4, 1, 2, 3]);
  expect([cursor.pending, cursor.lost]).toEqual([0, 5n]);
  cursor.release();
  expect(new DataView(first.buffer).getBigUint64(TAIL, true)).toBe(BigInt(BYTES - 24 + 48));
});

test.each([
  ['a length beyond its size', [...record([7, 7, 7, 7], 9, 16, 70_004), ...record([1, 1, 1, 1])], [1]],
  ['a size of nothing', [...record([7, 7, 7, 7], 9, 0), ...record([1, 1, 1, 1])], []],
  ['a size that leads behind the last', record([7, 7, 7, 7], 9, 64), []],
  ['a size that leads between two', [...record([7, 7, 7, 7], 9, 12), ...record([1, 1, 1, 1])], []],
] as const)('a record with %s is passed over, and counted', (_name, bytes, rest) => {
  const cursor = new PerfCursor([ring(Uint8Array.from(bytes))], () => 0n);
  expect(read(cursor).map(([number]) => number)).toEqual(rest);
  expect([cursor.pending, cursor.lost]).toEqual([0, 1n]);
});

test('whatever is in a ring, reading stays inside and comes to an end', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: BYTES }), fc.nat(40), (bytes, from) => {
      const cursor = new PerfCursor([ring(bytes, from * 8)], () => 0n);
      for (const content of read(cursor)) expect(content.length).toBeLessThanOrEqual(bytes.length);
      expect(cursor.pending).toBe(0);
    }),
  );
  const word = fc.constantFrom(0, 2, 9, 4, 8, 16, 24, 8 << 16, 16 << 16, 24 << 16, 0xffff_ffff);
  fc.assert(
    fc.property(fc.array(word, { maxLength: BYTES / 4 }), (words) => {
      const cursor = new PerfCursor([ring(new Uint8Array(Uint32Array.from(words).buffer))], () => 0n);
      read(cursor);
      expect(cursor.pending).toBe(0);
    }),
  );
});
