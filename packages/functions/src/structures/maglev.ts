/**
 * Maglev hashing: a lookup table that gives every real its share and changes little when reals come and go
 * (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4).
 * This is the table alone; maglev-ring.ts has the maps and what programs do with it.
 */
import { ArgumentError, hashBytes } from '@tailrace/stage';

/** The usual number of slots: a prime, large enough for some hundreds of reals to differ by less than one per cent. */
export const MAGLEV_SIZE = 65_537;
/** The largest weight of a member; weights are relative. */
export const MAX_WEIGHT = 1_000;
/** The largest value that a slot holds; 0 stands for nobody. */
export const MAX_RING_VALUE = 0xffff;

/** One real on a ring. */
export interface RingMember {
  /** Decides the order in which the member prefers slots: the same on every host that uses the same names. */
  readonly name: string;
  /** 0..MAX_WEIGHT, an integer; 0 takes no slots. */
  readonly weight: number;
  /** What its slots hold, 1..MAX_RING_VALUE. */
  readonly value: number;
}

/**
 * Fills a table of `size` slots, a prime, with the members' values. Members of weight `w` take `w` of `w1 + w2 + …`
 * slots, to within a few; without members every slot is 0. The result depends on the set of members and not on their
 * order. Throws ArgumentError for a size, name, weight or value that no table can have.
 */
export function maglevTable(members: Iterable<RingMember>, size: number = MAGLEV_SIZE): Uint16Array {
  if (!isPrime(size)) throw new ArgumentError(`maglevTable: size is ${size}, expected a prime`);
  const turns = checkMembers(members);
  const table = new Uint16Array(size);
  const heaviest = Math.max(0, ...turns.map(({ weight }) => weight));
  if (heaviest === 0) return table;
  const count = turns.length;
  const next = new Uint32Array(count);
  const skip = new Uint32Array(count);
  const values = Uint16Array.from(turns, ({ value }) => value);
  const weights = Uint16Array.from(turns, ({ weight }) => weight);
  // a member's turn comes whenever its weights have added up to the heaviest; from one half, so that rounding cancels
  const credit = new Uint32Array(count).fill(heaviest >> 1);
  for (const [i, { name }] of turns.entries()) {
    next[i] = permute(name, 'offset') % size;
    skip[i] = (permute(name, 'skip') % (size - 1)) + 1;
  }
  for (let left = size; ; ) {
    for (let i = 0; i < count; i++) {
      const saved = at(credit, i) + at(weights, i);
      if (saved < heaviest) {
        credit[i] = saved;
        continue;
      }
      credit[i] = saved - heaviest;
      const step = at(skip, i);
      let slot = at(next, i);
      while (at(table, slot) !== 0) slot = slot + step >= size ? slot + step - size : slot + step;
      table[slot] = at(values, i);
      next[i] = slot;
      if (--left === 0) return table;
    }
  }
}

/** How many slots each value has. */
export function slotsByValue(table: Uint16Array): Map<number, number> {
  const slots = new Map<number, number>();
  for (const value of table) slots.set(value, (slots.get(value) ?? 0) + 1);
  return slots;
}

/** Those that take slots, ordered by name. */
function checkMembers(members: Iterable<RingMember>): readonly RingMember[] {
  const seen = new Set<string>();
  const list = [...members];
  for (const { name, weight, value } of list) {
    const owner = `maglevTable: member '${name}'`;
    if (seen.has(name)) throw new ArgumentError(`${owner} is there twice, expected different names`);
    if (!isWithin(weight, 0, MAX_WEIGHT)) throw new ArgumentError(`${owner}: weight is ${weight}, expected 0..${MAX_WEIGHT}`);
    if (!isWithin(value, 1, MAX_RING_VALUE)) throw new ArgumentError(`${owner}: value is ${value}, expected 1..${MAX_RING_VALUE}`);
    seen.add(name);
  }
  return list.filter(({ weight }) => weight > 0).sort((a, b) => (a.name < b.name ? -1 : 1));
}

const text = new TextEncoder();

/** The two hashes that a member's permutation is made of. */
function permute(name: string, which: 'offset' | 'skip'): number {
  return hashBytes(text.encode(`${which} ${name}`));
}

function isPrime(size: number): boolean {
  if (!Number.isSafeInteger(size) || size < 2 || size > 0xffff_ffff) return false;
  for (let divisor = 2; divisor * divisor <= size; divisor++) if (size % divisor === 0) return false;
  return true;
}

function isWithin(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}

/** An element that is there: the type checker does not know typed arrays' lengths. */
function at(array: Uint16Array | Uint32Array, index: number): number {
  return array[index] as number;
}
