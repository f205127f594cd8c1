import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hashBytes } from './hash.ts';

/** The definition once more, in 64-bit arithmetic. */
function reference(bytes: Uint8Array): number {
  const mask = 0xffff_ffffn;
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  const view = new DataView(padded.buffer);
  let h = 0x9e37_79b9n ^ BigInt(bytes.length);
  for (let at = 0; at < padded.length; at += 4) {
    h = ((h ^ BigInt(view.getUint32(at, true))) * 0x85eb_ca6bn) & mask;
    h ^= h >> 15n;
  }
  h = (h * 0xc2b2_ae35n) & mask;
  return Number(h ^ (h >> 16n));
}

test('hashes as defined', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => hashBytes(bytes) === reference(bytes)));
  const of = (...bytes: number[]): string => hashBytes(Uint8Array.from(bytes)).toString(16);
  expect([of(), of(0), of(0, 0), of(1, 2, 3, 4), of(1, 2, 3, 4, 5)]).toMatchInlineSnapshot(`
    [
      "4ad9bb94",
      "d208a70e",
      "4b0f8866",
      "c0f9e141",
      "bb0d271e",
    ]
  `);
});

test('spreads counted keys over buckets', () => {
  const buckets = new Uint32Array(256);
  const key = new Uint32Array(4);
  const bytes = new Uint8Array(key.buffer);
  for (let i = 0; i < 25_600; i++) {
    key[1] = i;
    const bucket = hashBytes(bytes) & 255;
    buckets[bucket] = (buckets[bucket] ?? 0) + 1;
  }
  // a fair spread has a mean of 100 and a standard deviation of 10
  expect(Math.max(...buckets)).toBeLessThan(150);
  expect(Math.min(...buckets)).toBeGreaterThan(50);
});
