/** The hash that `hashOf` stands for, in plain JavaScript: compiled code computes the same, bit for bit. */

const SEED = 0x9e37_79b9;
const ROUND = 0x85eb_ca6b;
const FINAL = 0xc2b2_ae35;

/**
 * A u32 over the bytes of an encoded key. Starts from the golden ratio and the length, takes one little-endian 32-bit
 * word after the other (the last padded with zeros) as `h = (h ^ word) * 0x85ebca6b; h ^= h >>> 15`, and ends with
 * `h *= 0xc2b2ae35; h ^= h >>> 16`; the constants are MurmurHash3's finaliser's. All arithmetic is modulo 2^32. It
 * spreads keys over buckets and withstands no attacker who chooses them.
 */
export function hashBytes(bytes: Uint8Array): number {
  let h = SEED ^ bytes.length;
  for (let at = 0; at < bytes.length; at += 4) {
    const word = byteAt(bytes, at) | (byteAt(bytes, at + 1) << 8) | (byteAt(bytes, at + 2) << 16) | (byteAt(bytes, at + 3) << 24);
    h = Math.imul(h ^ word, ROUND);
    h ^= h >>> 15;
  }
  h = Math.imul(h, FINAL);
  h ^= h >>> 16;
  return h >>> 0;
}

function byteAt(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? 0;
}
