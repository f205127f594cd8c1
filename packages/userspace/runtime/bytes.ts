/** Comparing, hashing and matching keys of any length. Keys of programs may lie at any address. */

// Odd numbers whose bits are spread evenly: multiples of them differ in their upper half wherever the factors differ.
const M1: u64 = (0x9e3779b9 << 32) | 0x7f4a7c15;
const M2: u64 = (0xd6e8feb8 << 32) | 0x6659fd93;
const M3: u64 = (0xc2b2ae3d << 32) | 0x27d4eb4f;

/** Hash of a 4-byte key; its upper bits are the best. */
export function hash4(key: u32, seed: u64): u32 {
  return u32(((u64(key) ^ seed) * M1) >> 32);
}

/** Hash of an 8-byte key. */
export function hash8(key: u64, seed: u64): u32 {
  let x = (key ^ seed) * M1;
  x ^= x >> 32;
  return u32((x * M2) >> 32);
}

/** Hash of a 16-byte key, by halves. */
export function hash16(low: u64, high: u64, seed: u64): u32 {
  let x = (low ^ seed) * M1;
  x ^= rotl<u64>((high ^ seed) * M2, 32);
  x ^= x >> 32;
  return u32((x * M3) >> 32);
}

/** Hash of a key of any size: equal to the ones above for theirs. */
export function hash_any(key: usize, size: u32, seed: u64): u32 {
  if (size === 4) return hash4(load<u32>(key), seed);
  if (size === 8) return hash8(load<u64>(key), seed);
  if (size === 16) return hash16(load<u64>(key), load<u64>(key, 8), seed);
  let x = seed ^ u64(size);
  let at: u32 = 0;
  for (; at + 8 <= size; at += 8) {
    x = (x ^ load<u64>(key + at)) * M1;
    x ^= x >> 32;
  }
  if (at + 4 <= size) {
    x = (x ^ u64(load<u32>(key + at))) * M2;
    x ^= x >> 32;
    at += 4;
  }
  for (; at < size; at++) {
    x = (x ^ u64(load<u8>(key + at))) * M2;
    x ^= x >> 32;
  }
  return u32((x * M3) >> 32);
}

/** Whether so many bytes are the same in both places. */
export function equal_bytes(a: usize, b: usize, size: u32): bool {
  let at: u32 = 0;
  for (; at + 8 <= size; at += 8) if (load<u64>(a + at) !== load<u64>(b + at)) return false;
  if (at + 4 <= size) {
    if (load<u32>(a + at) !== load<u32>(b + at)) return false;
    at += 4;
  }
  for (; at < size; at++) if (load<u8>(a + at) !== load<u8>(b + at)) return false;
  return true;
}

/**
 * As `equal_bytes`, of a key that another worker may be writing, at an address that 8 divides: atomic loads keep their order
 * before the one of the sequence number that follows.
 */
export function equal_shared(shared: usize, own: usize, size: u32): bool {
  let at: u32 = 0;
  for (; at + 8 <= size; at += 8) if (atomic.load<u64>(shared + at) !== load<u64>(own + at)) return false;
  if (at + 4 <= size) {
    if (atomic.load<u32>(shared + at) !== load<u32>(own + at)) return false;
    at += 4;
  }
  for (; at < size; at++) if (atomic.load<u8>(shared + at) !== load<u8>(own + at)) return false;
  return true;
}

/** How many bits two strings of so many bytes have in common from the first on, at most `limit`. */
export function common_bits(a: usize, b: usize, bytes: u32, limit: u32): u32 {
  let at: u32 = 0;
  for (; at + 8 <= bytes; at += 8) {
    if (at * 8 >= limit) return limit;
    const difference = load<u64>(a + at) ^ load<u64>(b + at);
    if (difference !== 0) return min<u32>(limit, at * 8 + u32(clz<u64>(bswap<u64>(difference))));
  }
  if (at + 4 <= bytes) {
    const difference = load<u32>(a + at) ^ load<u32>(b + at);
    if (difference !== 0) return min<u32>(limit, at * 8 + clz<u32>(bswap<u32>(difference)));
    at += 4;
  }
  for (; at < bytes; at++) {
    const difference = u32(load<u8>(a + at) ^ load<u8>(b + at));
    if (difference !== 0) return min<u32>(limit, at * 8 + clz<u32>(difference) - 24);
  }
  return min<u32>(limit, bytes * 8);
}

/** As `common_bits`, with a string that another worker may be writing, at an address that 4 divides: see `equal_shared`. */
export function common_bits_shared(shared: usize, own: usize, bytes: u32, limit: u32): u32 {
  let at: u32 = 0;
  for (; at + 4 <= bytes; at += 4) {
    if (at * 8 >= limit) return limit;
    const difference = atomic.load<u32>(shared + at) ^ load<u32>(own + at);
    if (difference !== 0) return min<u32>(limit, at * 8 + clz<u32>(bswap<u32>(difference)));
  }
  for (; at < bytes; at++) {
    const difference = u32(atomic.load<u8>(shared + at) ^ load<u8>(own + at));
    if (difference !== 0) return min<u32>(limit, at * 8 + clz<u32>(difference) - 24);
  }
  return min<u32>(limit, bytes * 8);
}

/** A bit of a string, counted from the highest of its first byte. */
export function bit_at(data: usize, bit: u32): u32 {
  return (u32(load<u8>(data + (bit >> 3))) >> (7 - (bit & 7))) & 1;
}
