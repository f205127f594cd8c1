/** Bloom filters: each value sets some bits; where one of a value's bits is not set, it was never added. */
import { MAP_MAX_ENTRIES, MAP_SHARED, MAP_VALUE_SIZE } from '../src/layout';
import { hash_any } from './bytes';
import { OWN_BIT_MASK, OWN_BITS, OWN_HASHES, OWN_SEED } from './descriptor';
import { EINVAL, ENOENT } from './errno';

/** Bits for so many values, a power of two of at least 64: entries times hashes divided by the logarithm of 2, as in the kernel. */
export function bloom_bits(map: usize, hashes: u32): f64 {
  const wanted = (u64(load<u32>(map, MAP_MAX_ENTRIES)) * u64(hashes) * 7) / 5;
  let bits: u64 = 64;
  while (bits < wanted && bits < 0x100000000) bits <<= 1;
  return f64(bits);
}

/** How far it is from one bit of a value to the next: odd, and unlike the hash in nothing that a multiplication shows. */
function step_of(hash: u32): u32 {
  let x = hash;
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15)) * 0x846ca68b;
  return (x ^ (x >> 16)) | 1;
}

export function bloom_push(map: usize, value: usize, flags: u64): i64 {
  if (flags !== 0) return EINVAL;
  const size = load<u32>(map, MAP_VALUE_SIZE);
  const seed = load<u64>(map, OWN_SEED);
  const bits = load<u32>(map, OWN_BITS);
  let hash = hash_any(value, size, seed);
  const step = step_of(hash);
  for (let left = load<u32>(map, OWN_HASHES); left > 0; left--) {
    const bit = hash & load<u32>(map, OWN_BIT_MASK);
    const word = bits + ((bit >> 5) << 2);
    const one: u32 = 1 << (bit & 31);
    if (load<u32>(map, MAP_SHARED)) atomic.or<u32>(word, one);
    else store<u32>(word, load<u32>(word) | one);
    hash += step;
  }
  return 0;
}

/** 0 where the value may have been added, ENOENT where it surely was not. */
export function bloom_peek(map: usize, value: usize): i64 {
  const size = load<u32>(map, MAP_VALUE_SIZE);
  const seed = load<u64>(map, OWN_SEED);
  const bits = load<u32>(map, OWN_BITS);
  let hash = hash_any(value, size, seed);
  const step = step_of(hash);
  for (let left = load<u32>(map, OWN_HASHES); left > 0; left--) {
    const bit = hash & load<u32>(map, OWN_BIT_MASK);
    if (!(load<u32>(bits + ((bit >> 5) << 2)) & (1 << (bit & 31)))) return ENOENT;
    hash += step;
  }
  return 0;
}
