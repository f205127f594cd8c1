/** What programs may do with each kind of map, and what to write instead. */
import type { MapType } from '@tailrace/bpf';

interface Kind {
  readonly methods: readonly string[];
  /** For a method that another kind has. */
  readonly hint?: string;
}

const KEYED: Kind = {
  methods: ['lookup', 'update', 'delete'],
  hint: 'a map of this kind has keys: lookup(key), update(key, value), delete(key)',
};
const ARRAY: Kind = { methods: ['lookup'], hint: 'assign to the reference that lookup() gives' };
const MAPS: Kind = { methods: ['lookup'], hint: 'lookup(key) gives a map, which has methods of its own; the handle puts maps in' };
const VALUES: Kind = { methods: ['push', 'pop', 'peek'], hint: 'it has no keys: push(value), pop(), peek()' };
const TARGETS: Kind = { methods: [], hint: 'pass it to ctx.redirect(map, key)' };
const SOCKETS: Kind = { methods: ['add'], hint: 'sockOps stages add(key) to it, skSkb and skMsg stages pass it to ctx.redirect(map, key)' };

const KINDS: Readonly<Partial<Record<MapType, Kind>>> = {
  array: ARRAY,
  perCpuArray: ARRAY,
  arrayOfMaps: MAPS,
  hashOfMaps: MAPS,
  queue: VALUES,
  stack: VALUES,
  ringBuffer: { methods: ['output'], hint: 'programs only write to it: output(value)' },
  perfEventArray: { methods: [], hint: 'it is for programs of objects; stages in TypeScript have events()' },
  bloomFilter: { methods: ['add', 'has'], hint: 'it has no keys, and values stay: add(value), has(value)' },
  devmap: TARGETS,
  devmapHash: TARGETS,
  cpumap: TARGETS,
  xskmap: TARGETS,
  sockmap: SOCKETS,
  sockhash: SOCKETS,
  programArray: { methods: [] },
};

/** What a kind offers to programs. */
export function kindOf(type: MapType): Kind {
  return KINDS[type] ?? KEYED;
}

/** True for kinds that `ctx.redirect` takes with a key. */
export function isRedirectKind(type: MapType): boolean {
  return KINDS[type] === TARGETS;
}

/** The methods of all kinds. */
export const MAP_METHODS: ReadonlySet<string> = new Set([KEYED, ...Object.values(KINDS)].flatMap(({ methods }) => methods));
