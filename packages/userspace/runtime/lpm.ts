/**
 * Tries of prefixes, of which the longest one that matches is found. Branches without a choice are one step: a node stands
 * for a prefix that was put in, or is a fork, where two such part. Nodes are numbered from 1: those of entries up to
 * maxEntries, forks from there on.
 *
 *     node: [ child where the next bit is 0: u32 | child where it is 1: u32 | bits of the prefix: u32 | data ]
 *     key:  [ bits of the prefix: u32 | data, the first bit the highest of the first byte ]
 */
import { MAP_COUNT, MAP_KEY_SIZE, MAP_MAX_ENTRIES, MAP_SHARED } from '../src/layout';
import { bit_at, common_bits, common_bits_shared } from './bytes';
import {
  OWN_ELEMENT_STRIDE,
  OWN_ELEMENTS,
  OWN_FREE,
  OWN_FREE_FORK,
  OWN_FRESH,
  OWN_FRESH_FORK,
  OWN_MAX_PREFIX,
  OWN_ROOT,
  OWN_SEQUENCE,
  value_at,
  write_values,
} from './descriptor';
import { EEXIST, EINVAL, ENOENT, ENOSPC } from './errno';
import { begin_change, end_change, lock_map, unlock_map } from './map-lock';
import { EXIST, NOEXIST } from './update-flag';

const LENGTH = 8;
export const NODE_DATA = 12;
const KEY_DATA = 4;
const ATTEMPTS = 16;

function node_at(map: usize, index: u32): usize {
  return load<u32>(map, OWN_ELEMENTS) + index * load<u32>(map, OWN_ELEMENT_STRIDE);
}

function is_fork(map: usize, index: u32): bool {
  return index > load<u32>(map, MAP_MAX_ENTRIES);
}

/** Bits from the first on that a key and a node agree on, at most as many as the shorter prefix has. */
function matching(map: usize, node: usize, key: usize): u32 {
  const limit = min<u32>(load<u32>(node, LENGTH), load<u32>(key));
  return common_bits(node + NODE_DATA, key + KEY_DATA, load<u32>(map, MAP_KEY_SIZE) - KEY_DATA, limit);
}

/** Address of the place that leads on from a node towards a key. */
function child_place(node: usize, data: usize): usize {
  return node + (bit_at(data, load<u32>(node, LENGTH)) << 2);
}

/** Address of the value of the longest prefix that matches, 0 where none does. */
export function lpm_lookup(map: usize, key: usize): usize {
  const index = load<u32>(map, MAP_SHARED) ? longest_shared(map, key) : longest(map, key);
  return index ? value_at(map, index - 1, 0) : 0;
}

function longest(map: usize, key: usize): u32 {
  const most = load<u32>(map, OWN_MAX_PREFIX);
  if (load<u32>(key) > most) return 0;
  let found: u32 = 0;
  let index = load<u32>(map, OWN_ROOT);
  while (index) {
    const node = node_at(map, index);
    const bits = load<u32>(node, LENGTH);
    if (matching(map, node, key) < bits) break;
    if (!is_fork(map, index)) found = index;
    if (bits === most) break;
    index = load<u32>(child_place(node, key + KEY_DATA));
  }
  return found;
}

function longest_shared(map: usize, key: usize): u32 {
  if (load<u32>(key) > load<u32>(map, OWN_MAX_PREFIX)) return 0;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const before = atomic.load<u32>(map, OWN_SEQUENCE);
    if (before & 1) continue;
    const index = descend(map, key);
    if (atomic.load<u32>(map, OWN_SEQUENCE) === before) return index;
  }
  lock_map(map);
  const index = longest(map, key);
  unlock_map(map);
  return index;
}

/** As `longest`, in a trie that may change meanwhile. Prefixes get longer from node to node; where they do not, it changed. */
function descend(map: usize, key: usize): u32 {
  const length = load<u32>(key);
  const most = load<u32>(map, OWN_MAX_PREFIX);
  const bytes = load<u32>(map, MAP_KEY_SIZE) - KEY_DATA;
  let found: u32 = 0;
  let index = atomic.load<u32>(map, OWN_ROOT);
  for (let least: u32 = 0; index; ) {
    const node = node_at(map, index);
    const bits = atomic.load<u32>(node, LENGTH);
    if (bits < least || bits > length) break;
    if (common_bits_shared(node + NODE_DATA, key + KEY_DATA, bytes, bits) < bits) break;
    if (!is_fork(map, index)) found = index;
    if (bits >= most) break;
    least = bits + 1;
    index = atomic.load<u32>(node + (bit_at(key + KEY_DATA, bits) << 2));
  }
  return found;
}

export function lpm_update(map: usize, key: usize, value: usize, flags: u64): i64 {
  if (flags > EXIST || load<u32>(key) > load<u32>(map, OWN_MAX_PREFIX)) return EINVAL;
  lock_map(map);
  const result = put(map, key, value, flags);
  unlock_map(map);
  return result;
}

export function lpm_delete(map: usize, key: usize): i64 {
  if (load<u32>(key) > load<u32>(map, OWN_MAX_PREFIX)) return EINVAL;
  lock_map(map);
  const result = remove(map, key);
  unlock_map(map);
  return result;
}

/**
 * The prefix behind `key`, longer ones before those that they lie in, and zeros before ones: the order of the kernel. A key
 * that is not there comes before the first. Under the lock.
 */
export function lpm_next_key(map: usize, key: usize, out: usize): i32 {
  const root = load<u32>(map, OWN_ROOT);
  if (!root) return i32(ENOENT);
  let next: u32 = 0;
  let found = false;
  if (key !== 0 && load<u32>(key) <= load<u32>(map, OWN_MAX_PREFIX)) {
    let index = root;
    while (index) {
      const node = node_at(map, index);
      const bits = load<u32>(node, LENGTH);
      if (matching(map, node, key) !== bits) break;
      if (bits === load<u32>(key)) {
        found = !is_fork(map, index);
        break;
      }
      const place = child_place(node, key + KEY_DATA);
      // What comes once all below `place` is done: the other branch, or this node, or what came behind it.
      if (place === node && load<u32>(node, 4)) next = leftmost(map, load<u32>(node, 4));
      else if (!is_fork(map, index)) next = index;
      index = load<u32>(place);
    }
  }
  if (!found) next = leftmost(map, root);
  if (!next) return i32(ENOENT);
  const node = node_at(map, next);
  store<u32>(out, load<u32>(node, LENGTH));
  memory.copy(out + KEY_DATA, node + NODE_DATA, load<u32>(map, MAP_KEY_SIZE) - KEY_DATA);
  return 0;
}

/** The first entry at or below a node. */
function leftmost(map: usize, from: u32): u32 {
  let index = from;
  let next = from;
  while (next) {
    index = next;
    const node = node_at(map, index);
    next = load<u32>(node) ? load<u32>(node) : load<u32>(node, 4);
  }
  return index;
}

// --- changes, under the lock

function put(map: usize, key: usize, value: usize, flags: u64): i64 {
  const length = load<u32>(key);
  const data = key + KEY_DATA;
  let place = map + OWN_ROOT;
  let matched: u32 = 0;
  let index = load<u32>(place);
  while (index) {
    const node = node_at(map, index);
    matched = matching(map, node, key);
    if (matched !== load<u32>(node, LENGTH) || matched === length) break;
    place = child_place(node, data);
    index = load<u32>(place);
  }
  const isSame = index !== 0 && matched === length && load<u32>(node_at(map, index), LENGTH) === length;
  if (isSame && !is_fork(map, index)) {
    if (flags === NOEXIST) return EEXIST;
    memory.copy(node_at(map, index) + NODE_DATA, data, load<u32>(map, MAP_KEY_SIZE) - KEY_DATA);
    write_values(map, value_at(map, index - 1, 0), value, 0, false);
    return 0;
  }
  if (flags === EXIST) return ENOENT;
  const count = load<u32>(map, MAP_COUNT);
  if (count === load<u32>(map, MAP_MAX_ENTRIES)) return ENOSPC;
  begin_change(map);
  const entry = take(map, OWN_FREE, OWN_FRESH);
  const node = fill(map, entry, length, data);
  write_values(map, value_at(map, entry - 1, 0), value, 0, true);
  if (isSame) {
    // A fork becomes an entry.
    const fork = node_at(map, index);
    store<u64>(node, load<u64>(fork));
    give(map, index, OWN_FREE_FORK);
    store<u32>(place, entry);
  } else if (index === 0) {
    store<u32>(place, entry);
  } else if (matched === length) {
    store<u32>(node + (bit_at(node_at(map, index) + NODE_DATA, matched) << 2), index);
    store<u32>(place, entry);
  } else {
    const parting = take(map, OWN_FREE_FORK, OWN_FRESH_FORK);
    const fork = fill(map, parting, matched, data);
    const bit = bit_at(data, matched);
    store<u32>(fork + (bit << 2), entry);
    store<u32>(fork + ((1 - bit) << 2), index);
    store<u32>(place, parting);
  }
  store<u32>(map, count + 1, MAP_COUNT);
  end_change(map);
  return 0;
}

function remove(map: usize, key: usize): i64 {
  let above: usize = 0;
  let parent: u32 = 0;
  let place = map + OWN_ROOT;
  let index = load<u32>(place);
  while (index) {
    const node = node_at(map, index);
    const matched = matching(map, node, key);
    if (matched !== load<u32>(node, LENGTH)) return ENOENT;
    if (matched === load<u32>(key)) break;
    above = place;
    parent = index;
    place = child_place(node, key + KEY_DATA);
    index = load<u32>(place);
  }
  if (!index || is_fork(map, index)) return ENOENT;
  const node = node_at(map, index);
  const zero = load<u32>(node);
  const one = load<u32>(node, 4);
  begin_change(map);
  if (zero && one) {
    const parting = take(map, OWN_FREE_FORK, OWN_FRESH_FORK);
    const fork = fill(map, parting, load<u32>(node, LENGTH), node + NODE_DATA);
    store<u64>(fork, load<u64>(node));
    store<u32>(place, parting);
  } else if (!zero && !one && parent && is_fork(map, parent)) {
    // A fork with one branch left is none: that branch takes its place.
    const fork = node_at(map, parent);
    store<u32>(above, load<u32>(place === fork ? fork + 4 : fork));
    give(map, parent, OWN_FREE_FORK);
  } else {
    store<u32>(place, zero | one);
  }
  give(map, index, OWN_FREE);
  store<u32>(map, load<u32>(map, MAP_COUNT) - 1, MAP_COUNT);
  end_change(map);
  return 0;
}

/** There are always enough: as many entries as were promised, and one fork less. */
function take(map: usize, first: usize, highest: usize): u32 {
  const free = load<u32>(map + first);
  if (free) {
    store<u32>(map + first, load<u32>(node_at(map, free)));
    return free;
  }
  const fresh = load<u32>(map + highest) + 1;
  store<u32>(map + highest, fresh);
  return fresh;
}

function give(map: usize, index: u32, first: usize): void {
  store<u32>(node_at(map, index), load<u32>(map + first));
  store<u32>(map + first, index);
}

/** Writes a node without children; returns its address. */
function fill(map: usize, index: u32, bits: u32, data: usize): usize {
  const node = node_at(map, index);
  store<u64>(node, 0);
  store<u32>(node, bits, LENGTH);
  memory.copy(node + NODE_DATA, data, load<u32>(map, MAP_KEY_SIZE) - KEY_DATA);
  return node;
}
