/**
 * The helpers that programs may call here, as data: who may call them, what their arguments are and what of the runtime
 * answers. Translated code and the interpreter both make their calls from this table.
 *
 * A call passes, in this order: the start of the worker's area (i32) where `takesWorker`; each argument that is not a
 * `context`; then what `trailing` says (i32 each).
 */
import { Helper, helperName, type MapType, type ProgramType, UnsupportedError } from '@tailrace/bpf';

/** Memory that a helper reads or writes, passed as its address (i32). */
export interface MemoryArgument {
  readonly memory: 'read' | 'write';
  /** Its bytes, or which argument (from 0) gives them: as u32, 0 for none at all. */
  readonly size: number | { readonly argument: number };
  /** May be null: address 0 is passed then. Only where the size is 0 does the helper leave it alone. */
  readonly nullable?: boolean;
}

/**
 * What an argument is. Addresses are passed as i32, after their region was checked; scalars as i64.
 *
 * - `context`: the context itself; nothing is passed
 * - `map`: a map of one of the spec's `maps`: the address of its descriptor
 * - `key`, `value`: memory that is read, as long as the map's keys or values; `outValue`: memory that is written
 * - `text`: text that ends in a zero byte, or with its region: passed whole (i64), tag and all, and not checked before
 * - `function`: a function of the program; only special helpers have it
 * - `record`: what `ringbuf_reserve` gave: the address; it is no record any more after the call
 * - `lock`: a spin lock in a map's value: memory of 4 bytes that is written
 */
export type ArgumentKind =
  | 'context'
  | 'map'
  | 'key'
  | 'value'
  | 'outValue'
  | 'text'
  | 'scalar'
  | 'function'
  | 'record'
  | 'lock'
  | MemoryArgument;

/**
 * What a call leaves in r0, from what the runtime's function returns.
 *
 * - `scalar`: that number (i64)
 * - `void`: 0, and the function returns nothing
 * - `value`: a pointer to a value of the map, from its address (i32; 0: null)
 * - `record`: a pointer to a fresh record of the ring, from its address (i32; 0: null)
 * - `held`: 0, where the function returned 1 (i32); at 0 the program is stopped: it broke the rules of locks
 */
export type ResultKind = 'scalar' | 'void' | 'value' | 'record' | 'held';

/** One helper. */
export interface HelperSpec {
  readonly name: Helper;
  /** The types of programs that may call it, as the kernel has it. */
  readonly programs: readonly ProgramType[];
  /** From r1 on, at most five. */
  readonly args: readonly ArgumentKind[];
  readonly result: ResultKind;
  /** Pointers into the packet are stale after it. */
  readonly movesPacket: boolean;
  /** The runtime's function; undefined where `special`. */
  readonly export: string | undefined;
  readonly takesWorker: boolean;
  /** What is passed behind the arguments: the number of the CPU, or constants. */
  readonly trailing: readonly ('cpu' | number)[];
  /** Kinds that its `map` argument may be; empty where it has none. */
  readonly maps: readonly MapType[];
  /** Changes where the program goes on: no call of the runtime does that. */
  readonly special: boolean;
}

const ALL = ['xdp', 'schedCls', 'socketFilter', 'skSkb', 'skMsg', 'sockOps'] as const;
const PACKETS = ['xdp', 'schedCls'] as const;
const XDP = ['xdp'] as const;
const TC = ['schedCls'] as const;
const FRAMES = ['schedCls', 'socketFilter'] as const;
const SKB = [...FRAMES, 'skSkb'] as const;
const LOCKING = [...PACKETS, 'skSkb', 'skMsg', 'sockOps'] as const;
const SOCKET_DATA = ['skSkb'] as const;
const MESSAGES = ['skMsg'] as const;
const EVENTS = ['sockOps'] as const;
/** Those that store bytes and pull them together. */
const PULLED = ['schedCls', 'skSkb'] as const;

const HASHES = ['hash', 'lruHash', 'perCpuHash', 'lruPerCpuHash'] as const satisfies readonly MapType[];
const ARRAYS = ['array', 'perCpuArray'] as const satisfies readonly MapType[];
const KEYED = [...HASHES, ...ARRAYS, 'lpmTrie'] as const satisfies readonly MapType[];
const TARGETS = ['devmap', 'devmapHash', 'cpumap', 'xskmap'] as const satisfies readonly MapType[];
const QUEUES = ['queue', 'stack'] as const satisfies readonly MapType[];
const SOCKMAP = ['sockmap'] as const satisfies readonly MapType[];
const SOCKHASH = ['sockhash'] as const satisfies readonly MapType[];
const RING = ['ringBuffer'] as const satisfies readonly MapType[];

/** A helper whose runtime function bears its name, takes the worker and answers with a number, unless `rest` says otherwise. */
function on(programs: readonly ProgramType[], args: readonly ArgumentKind[], rest: Partial<HelperSpec> = {}): Partial<HelperSpec> {
  return { programs, args, takesWorker: true, ...rest };
}

/** A helper of maps: the worker is none of their business. */
function ofMap(
  maps: readonly MapType[],
  args: readonly ArgumentKind[],
  runtime: string,
  rest: Partial<HelperSpec> = {},
): Partial<HelperSpec> {
  return { programs: ALL, args, maps, export: runtime, takesWorker: false, ...rest };
}

/** A helper that translated code and the interpreter make themselves. */
function special(args: readonly ArgumentKind[], maps: readonly MapType[] = []): Partial<HelperSpec> {
  return { programs: ALL, args, maps, takesWorker: false, special: true };
}

const sized = (memory: 'read' | 'write', argument: number): MemoryArgument => ({ memory, size: { argument } });
const perhaps = (memory: 'read' | 'write', argument: number): MemoryArgument => ({ memory, size: { argument }, nullable: true });
const fixed = (memory: 'read' | 'write', size: number): MemoryArgument => ({ memory, size });

const MOVES: Partial<HelperSpec> = { movesPacket: true };
const NO_WORKER: Partial<HelperSpec> = { takesWorker: false };

const TABLE: Readonly<Partial<Record<Helper, Partial<HelperSpec>>>> = {
  // maps
  map_lookup_elem: ofMap([...KEYED, ...TARGETS, 'arrayOfMaps', 'hashOfMaps'], ['map', 'key'], 'map_lookup', {
    result: 'value',
    trailing: ['cpu'],
  }),
  map_lookup_percpu_elem: ofMap(['perCpuHash', 'lruPerCpuHash', 'perCpuArray'], ['map', 'key', 'scalar'], 'map_lookup_percpu_elem', {
    result: 'value',
  }),
  map_update_elem: ofMap(KEYED, ['map', 'key', 'value', 'scalar'], 'map_update', { trailing: ['cpu'] }),
  map_delete_elem: ofMap(KEYED, ['map', 'key'], 'map_delete'),
  map_push_elem: ofMap([...QUEUES, 'bloomFilter'], ['map', 'value', 'scalar'], 'map_push'),
  map_pop_elem: ofMap(QUEUES, ['map', 'outValue'], 'map_pop'),
  // a bloom filter is asked for the value that lies there
  map_peek_elem: ofMap([...QUEUES, 'bloomFilter'], ['map', 'outValue'], 'map_peek'),
  ringbuf_output: ofMap(RING, ['map', sized('read', 2), 'scalar', 'scalar'], 'ring_output'),
  ringbuf_reserve: ofMap(RING, ['map', 'scalar', 'scalar'], 'ring_reserve', { result: 'record' }),
  ringbuf_submit: ofMap([], ['record', 'scalar'], 'ring_commit', { result: 'void', trailing: [0] }),
  ringbuf_discard: ofMap([], ['record', 'scalar'], 'ring_commit', { result: 'void', trailing: [1] }),
  perf_event_output: on(ALL, ['context', 'map', 'scalar', sized('read', 4), 'scalar'], { maps: ['perfEventArray'] }),
  ringbuf_query: ofMap(RING, ['map', 'scalar'], 'ring_query'),
  spin_lock: on(LOCKING, ['lock'], { result: 'held' }),
  spin_unlock: on(LOCKING, ['lock'], { result: 'held' }),

  // control
  tail_call: special(['context', 'map', 'scalar'], ['programArray']),
  loop: special(['scalar', 'function', 'scalar', 'scalar']),
  for_each_map_elem: special(['map', 'function', 'scalar', 'scalar'], [...HASHES, ...ARRAYS]),

  // time, chance, place
  ktime_get_ns: on(ALL, [], NO_WORKER),
  ktime_get_boot_ns: on(ALL, [], { export: 'ktime_get_ns', takesWorker: false }),
  ktime_get_coarse_ns: on(ALL, [], { export: 'ktime_get_ns', takesWorker: false }),
  ktime_get_tai_ns: on(ALL, [], NO_WORKER),
  jiffies64: on(ALL, [], NO_WORKER),
  get_prandom_u32: on(ALL, []),
  get_smp_processor_id: on(ALL, []),
  get_numa_node_id: on(ALL, [], NO_WORKER),

  // text
  trace_printk: on(ALL, [sized('read', 1), 'scalar', 'scalar', 'scalar', 'scalar']),
  trace_vprintk: on(ALL, [sized('read', 1), 'scalar', perhaps('read', 3), 'scalar']),
  snprintf: on(ALL, [perhaps('write', 1), 'scalar', 'text', perhaps('read', 4), 'scalar']),
  strncmp: on(ALL, [sized('read', 1), 'scalar', 'text']),
  strtol: on(ALL, [sized('read', 1), 'scalar', 'scalar', fixed('write', 8)], NO_WORKER),
  strtoul: on(ALL, [sized('read', 1), 'scalar', 'scalar', fixed('write', 8)], NO_WORKER),

  // XDP
  xdp_adjust_head: on(XDP, ['context', 'scalar'], MOVES),
  xdp_adjust_meta: on(XDP, ['context', 'scalar'], MOVES),
  xdp_adjust_tail: on(XDP, ['context', 'scalar'], MOVES),
  xdp_get_buff_len: on(XDP, ['context']),
  xdp_load_bytes: on(XDP, ['context', 'scalar', sized('write', 3), 'scalar']),
  xdp_store_bytes: on(XDP, ['context', 'scalar', sized('read', 3), 'scalar']),

  // where packets go
  redirect: on(PACKETS, ['scalar', 'scalar']),
  redirect_map: on(XDP, ['map', 'scalar', 'scalar'], { maps: TARGETS }),
  redirect_peer: on(TC, ['scalar', 'scalar']),
  redirect_neigh: on(TC, ['scalar', perhaps('read', 2), 'scalar', 'scalar']),
  clone_redirect: on(TC, ['context', 'scalar', 'scalar'], MOVES),
  fib_lookup: on(PACKETS, ['context', sized('write', 2), 'scalar', 'scalar']),
  check_mtu: on(PACKETS, ['context', 'scalar', fixed('write', 4), 'scalar', 'scalar']),

  // sums
  csum_diff: on(PACKETS, [perhaps('read', 1), 'scalar', perhaps('read', 3), 'scalar', 'scalar'], NO_WORKER),
  csum_update: on(TC, ['context', 'scalar']),
  csum_level: on(TC, ['context', 'scalar']),
  l3_csum_replace: on(TC, ['context', 'scalar', 'scalar', 'scalar', 'scalar'], MOVES),
  l4_csum_replace: on(TC, ['context', 'scalar', 'scalar', 'scalar', 'scalar'], MOVES),

  // TC
  skb_load_bytes: on(SKB, ['context', 'scalar', sized('write', 3), 'scalar']),
  skb_load_bytes_relative: on(FRAMES, ['context', 'scalar', sized('write', 3), 'scalar', 'scalar']),
  skb_store_bytes: on(PULLED, ['context', 'scalar', sized('read', 3), 'scalar', 'scalar'], MOVES),
  skb_pull_data: on(PULLED, ['context', 'scalar'], MOVES),
  skb_change_head: on(TC, ['context', 'scalar', 'scalar'], MOVES),
  skb_change_tail: on(TC, ['context', 'scalar', 'scalar'], MOVES),
  skb_change_proto: on(TC, ['context', 'scalar', 'scalar'], MOVES),
  skb_change_type: on(TC, ['context', 'scalar']),
  skb_adjust_room: on(PULLED, ['context', 'scalar', 'scalar', 'scalar'], MOVES),
  skb_vlan_push: on(TC, ['context', 'scalar', 'scalar'], MOVES),
  skb_vlan_pop: on(TC, ['context'], MOVES),
  get_hash_recalc: on(TC, ['context']),
  set_hash: on(TC, ['context', 'scalar']),
  set_hash_invalid: on(TC, ['context']),
  skb_set_tstamp: on(TC, ['context', 'scalar', 'scalar']),
  skb_ecn_set_ce: on(TC, ['context']),
  skb_get_tunnel_key: on(TC, ['context', sized('write', 2), 'scalar', 'scalar']),
  skb_set_tunnel_key: on(TC, ['context', sized('read', 2), 'scalar', 'scalar']),

  // sockets
  sk_redirect_map: on(SOCKET_DATA, ['context', 'map', 'scalar', 'scalar'], { maps: SOCKMAP }),
  sk_redirect_hash: on(SOCKET_DATA, ['context', 'map', 'key', 'scalar'], { maps: SOCKHASH }),
  msg_redirect_map: on(MESSAGES, ['context', 'map', 'scalar', 'scalar'], { maps: SOCKMAP, export: 'sk_redirect_map' }),
  msg_redirect_hash: on(MESSAGES, ['context', 'map', 'key', 'scalar'], { maps: SOCKHASH, export: 'sk_redirect_hash' }),
  get_netns_cookie: on([...FRAMES, ...MESSAGES, ...EVENTS], ['context']),
  msg_apply_bytes: on(MESSAGES, ['context', 'scalar']),
  msg_cork_bytes: on(MESSAGES, ['context', 'scalar']),
  msg_pull_data: on(MESSAGES, ['context', 'scalar', 'scalar', 'scalar'], MOVES),
  sock_map_update: on(EVENTS, ['context', 'map', 'key', 'scalar'], { maps: SOCKMAP }),
  sock_hash_update: on(EVENTS, ['context', 'map', 'key', 'scalar'], { maps: SOCKHASH, export: 'sock_map_update' }),
};

/** Every helper that this engine has, by id. */
export const HELPERS: ReadonlyMap<number, HelperSpec> = new Map(
  Object.entries(TABLE).map(([key, spec]) => {
    const name = key as Helper;
    const defaults = { args: [], programs: ALL, result: 'scalar', movesPacket: false, trailing: [], maps: [], special: false } as const;
    const runtime = spec.special === true ? undefined : name;
    return [Helper[name], { ...defaults, takesWorker: true, export: runtime, ...spec, name }];
  }),
);

/** A helper by its id. Throws UnsupportedError where this engine has none of it for programs of that type. */
export function helperFor(id: number, programType: ProgramType): HelperSpec {
  const spec = HELPERS.get(id);
  if (spec?.programs.includes(programType)) return spec;
  const name = helperName(id);
  if (name === undefined) throw new UnsupportedError(`there is no helper ${id}, called by a program of type ${programType}`);
  const hint = spec ? `programs of type ${spec.programs.join(' and ')} have it` : hintFor(name);
  throw new UnsupportedError(`the userspace engine has no bpf_${name} for programs of type ${programType}`, { hint });
}

/** What can be said of helpers that are not here, by how their names begin or end. */
const HINTS: readonly (readonly [pattern: RegExp, hint: string])[] = [
  [/^perf_/, 'there are no counters of a processor here'],
  [/^skb_output|^xdp_output/, 'perf_event_output writes bytes of the packet too'],
  [/dynptr|^user_ringbuf/, 'read and write packets, values and records by pointers'],
  [/^timer_/, 'there are no timers: compare ktime_get_ns with a time that was kept'],
  [/^probe_|^copy_from_user|^kptr|_cpu_ptr$|^d_path/, 'there is no memory but packets, maps and the stack'],
  [/^sk_|^skc_|^tcp_|^sock|socket|sockopt|^get_netns|^get_listener/, 'these are sockets of the kernel: run the pipeline there'],
  [/current|^send_signal|task|cgroup|uid|^get_stack|^find_vma/, 'programs run in no process here: run the pipeline in the kernel'],
];

function hintFor(name: Helper): string {
  return HINTS.find(([pattern]) => pattern.test(name))?.[1] ?? 'run the pipeline in the kernel';
}
