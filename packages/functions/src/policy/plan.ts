/**
 * From rules to the entries of longest-prefix maps. For each prefix that a rule names, the rules that apply to it are those
 * of all prefixes around it: a set. Prefixes with the same set share its number, and a set's rules become ports: those that
 * any of its rules names, cut into blocks of a power of two, each with the first rule that lets it in.
 *
 * A prefix gives one entry, and a set at most 30 for each interval between the ends of its rules' port ranges, mostly one
 * or two.
 */
import type { Infer } from '@tailrace/stage';
import type { Prefix } from '../acl/prefix.ts';
import type { ParsedEndpoint, ParsedRule } from './rule.ts';
import type { Peer4, Peer6, PortRange } from './tables.ts';

/** A key of `peers4` with its value, and so on. */
export type Entry<K> = readonly [key: Infer<K>, value: number];

/** What the maps get for one scope of one endpoint. */
export interface ScopeEntries {
  readonly peers4: readonly Entry<typeof Peer4>[];
  readonly peers6: readonly Entry<typeof Peer6>[];
  readonly ports: readonly Entry<typeof PortRange>[];
}

/** An endpoint as it lies in the maps. */
export interface WrittenEndpoint {
  readonly endpoint: ParsedEndpoint;
  readonly index: number;
  /** Places of its rules' counters, by their text. */
  readonly places: ReadonlyMap<string, number>;
  readonly entries: ScopeEntries;
}

/** Where a scope's rules lie, and how its sets are numbered. */
export interface ScopeContext {
  /** As programs look it up: the endpoint's scope and the direction. */
  readonly scope: number;
  /** The place of a rule's counters. */
  readonly placeOf: (rule: ParsedRule) => number;
  /** A number that no other set has. */
  readonly nextSet: () => number;
}

/** The entries for the rules of one direction, the first one first. */
export function planScope(rules: readonly ParsedRule[], { scope, placeOf, nextSet }: ScopeContext): ScopeEntries {
  const families = { 4: new PeerIndex(32), 6: new PeerIndex(128) };
  for (const [index, { peers }] of rules.entries()) for (const peer of peers) families[peer.family].add(peer, index);
  const sets = new Map<string, number>();
  const ports: Entry<typeof PortRange>[] = [];
  const setOf = (indexes: readonly number[]): number => {
    const name = indexes.join();
    const known = sets.get(name);
    if (known !== undefined) return known;
    const set = nextSet();
    sets.set(name, set);
    const applied = indexes.flatMap((index) => rules[index] ?? []);
    ports.push(...portEntries(set, applied, placeOf));
    return set;
  };
  const peers4 = families[4].all().map(({ length, bits, rules }): Entry<typeof Peer4> => {
    return [{ prefixLen: 32 + length, scope, addr: Number(bits) }, setOf(rules)];
  });
  const peers6 = families[6].all().map(({ length, bits, rules }): Entry<typeof Peer6> => {
    const [hiHigh = 0, hiLow = 0, loHigh = 0, loLow = 0] = [96n, 64n, 32n, 0n].map((shift) => Number((bits >> shift) & 0xffff_ffffn));
    return [{ prefixLen: 32 + length, scope, hiHigh, hiLow, loHigh, loLow }, setOf(rules)];
  });
  return { peers4, peers6, ports };
}

/** Which rules name a prefix of one family, and which apply to it. */
class PeerIndex {
  readonly #width: number;
  readonly #byLength = new Map<number, Map<bigint, number[]>>();

  constructor(width: number) {
    this.#width = width;
  }

  add({ family, key }: Prefix, rule: number): void {
    const bits = family === 4 ? BigInt(key.addr) : (key.addr.hi << 64n) | key.addr.lo;
    const level = this.#byLength.get(key.prefixLen) ?? new Map<bigint, number[]>();
    this.#byLength.set(key.prefixLen, level);
    const rules = level.get(bits) ?? [];
    level.set(bits, rules);
    if (rules.at(-1) !== rule) rules.push(rule);
  }

  /** Every prefix with the rules of all prefixes that hold it, in the order of the rules. */
  all(): { readonly length: number; readonly bits: bigint; readonly rules: readonly number[] }[] {
    const lengths = [...this.#byLength.keys()].sort((a, b) => a - b);
    return lengths.flatMap((length) =>
      [...(this.#byLength.get(length)?.keys() ?? [])].map((bits) => {
        const around = lengths.filter((shorter) => shorter <= length);
        const rules = around.flatMap((shorter) => {
          const behind = BigInt(this.#width - shorter);
          return this.#byLength.get(shorter)?.get((bits >> behind) << behind) ?? [];
        });
        return { length, bits, rules: [...new Set(rules)].sort((a, b) => a - b) };
      }),
    );
  }
}

/** Bits of a set's number, and of a protocol's, in a key of `ports`. */
const SET_BITS = 32;
const PROTOCOL_BITS = 16;

function portEntries(set: number, rules: readonly ParsedRule[], placeOf: (rule: ParsedRule) => number): Entry<typeof PortRange>[] {
  const entries: Entry<typeof PortRange>[] = [];
  const add = (prefixLen: number, protocol: number, port: number, rule: ParsedRule): void => {
    entries.push([{ prefixLen, peers: set, protocol, port }, placeOf(rule)]);
  };
  const any = rules.find(({ protocols }) => protocols === undefined);
  if (any) add(SET_BITS, 0, 0, any);
  for (const protocol of new Set(rules.flatMap(({ protocols = [] }) => protocols))) {
    const applied = rules.filter(({ protocols }) => protocols === undefined || protocols.includes(protocol));
    for (const { from, to, rule } of intervals(applied))
      for (const { port, bits } of blocks(from, to)) add(SET_BITS + PROTOCOL_BITS + bits, protocol, port, rule);
  }
  return entries;
}

/** Ports in rising order with the first rule that lets them in; neighbours differ in that. */
function intervals(rules: readonly ParsedRule[]): { from: number; to: number; readonly rule: ParsedRule }[] {
  const whole = [[0, 65_535]] as const;
  const starts = new Set([0, ...rules.flatMap(({ ports = whole }) => ports.flatMap(([from, to]) => [from, to + 1]))]);
  const found: { from: number; to: number; readonly rule: ParsedRule }[] = [];
  const points = [...starts].filter((port) => port <= 65_535).sort((a, b) => a - b);
  for (const [index, from] of points.entries()) {
    const to = (points[index + 1] ?? 65_536) - 1;
    const rule = rules.find(({ ports = whole }) => ports.some(([first, last]) => first <= from && to <= last));
    const last = found.at(-1);
    if (rule === undefined) continue;
    if (last?.rule === rule && last.to === from - 1) last.to = to;
    else found.push({ from, to, rule });
  }
  return found;
}

/** The fewest blocks of a power of two that make up a range; `bits` is how many of 16 they have in common. */
export function blocks(from: number, to: number): { readonly port: number; readonly bits: number }[] {
  const found: { readonly port: number; readonly bits: number }[] = [];
  for (let port = from; port <= to; ) {
    let size = 1;
    while (port % (2 * size) === 0 && port + 2 * size - 1 <= to) size *= 2;
    found.push({ port, bits: 16 - Math.log2(size) });
    port += size;
  }
  return found;
}
