/**
 * Where things lie in the engine's linear memory. TypeScript and the runtime (AssemblyScript, in `runtime/`) both import
 * this file, so it holds plain numbers only.
 *
 *     0                     never valid: addresses below mean nothing
 *     REGION_TABLE          what map pointers may touch, REGION_SIZE bytes a tag
 *     WORKERS               one area of WORKER_SIZE bytes for each worker: packet state, context, stacks
 *     MAP_TABLE             where maps are, by tag
 *     HEAP                  maps, packets, whatever the engine allocates; it grows
 *
 * A pointer has 64 bits: the tag of its region in the upper 32, an address in this memory in the lower 32. A scalar has no
 * region, so tag 0 is never valid. Comparing pointers of one region compares addresses, as a program expects.
 */

/** Tags of regions. Those below `TAG_MAPS` belong to a worker, those from there on to maps, by map id. */
export const TAG_CONTEXT = 1;
export const TAG_PACKET = 2;
/** Eight stack frames, each a region of its own. */
export const TAG_STACK = 3;
/** A map itself, as helpers take it: the address is that of its descriptor. Never readable. */
export const TAG_MAP = 11;
/** A function, as callbacks are given: the "address" is the slot where it starts. Never readable. */
export const TAG_FUNCTION = 12;
/** The key of the entry that a callback of for_each_map_elem is given: a copy, read only. */
export const TAG_KEY = 13;
/** Records of ring buffers that are reserved and not yet submitted: up to RECORD_LIMIT at a time. */
export const TAG_RECORD = 16;
export const RECORD_LIMIT = 16;
export const TAG_MAPS = 32;

/** Maps that can exist at one time. */
export const MAP_LIMIT = 65504;

/** A region: base u32, length u32 of one element, stride u32 from element to element (0: one element), elements u32. */
export const REGION_SIZE = 16;
export const REGION_BASE = 0;
export const REGION_LENGTH = 4;
export const REGION_STRIDE = 8;
export const REGION_COUNT = 12;
/** In REGION_COUNT: programs read it only. */
export const REGION_READ_ONLY = 0x40000000;

/** Regions of maps, by tag: entry `tag` at `REGION_TABLE + tag * REGION_SIZE`. */
export const REGION_TABLE = 65536;
/** The engine's own clock and coins, shared by all workers: see CLOCK_*. */
export const SHARED = 1114112;
export const WORKERS = 1179648;
export const WORKER_SIZE = 65536;
export const WORKER_LIMIT = 64;
/** Addresses of maps' descriptors, u32 by tag; 0: there is no such map. What pointers to maps are held to. */
export const MAP_TABLE = 5373952;
export const HEAP = 5636096;

// --- a CPU's ring of a perf event array, from its start on

/** How far programs have come and how far the reader is, u64. */
export const PERF_HEAD = 0;
export const PERF_TAIL = 8;
/** Records that found no place, u64: in all, and those that no record in the ring tells of. */
export const PERF_LOST = 16;
export const PERF_UNTOLD = 24;
/** Bytes of the data, u32, and where they begin. */
export const PERF_BYTES = 32;
export const PERF_DATA = 64;

// --- a worker's area, from its start on

/** Regions of tags below TAG_MAPS, by tag: 32 times REGION_SIZE bytes. */
export const WORKER_REGIONS = 0;
/** The packet that is being run: PACKET_*. */
export const WORKER_PACKET = 512;
/** The context, laid out as the kernel's struct xdp_md or struct __sk_buff; pointers in it are made on loading. */
export const WORKER_CONTEXT = 768;
export const CONTEXT_SIZE = 256;
/** struct __sk_buff, xdp_md, sk_msg_md and bpf_sock_ops. */
export const CONTEXT_SKB = 0;
export const CONTEXT_XDP = 1;
export const CONTEXT_MESSAGE = 2;
export const CONTEXT_EVENT = 3;
/** Where a trap leaves what it knows: TRAP_*. */
export const WORKER_TRAP = 1024;
/** Redirect target and other answers of helpers to the engine: ANSWER_*. */
export const WORKER_ANSWER = 1152;
/** The worker's number, u32: what get_smp_processor_id answers. */
export const WORKER_CPU = 1280;
/** State of the worker's random numbers, u64; never 0. */
export const WORKER_RANDOM = 1288;
/** Tail calls made so far in this run, u32. */
export const WORKER_TAIL_CALLS = 1296;
/** Tunnel key of the packet (struct bpf_tunnel_key, 44 bytes, from the sender's side) and its state, u32: TUNNEL_*. */
export const WORKER_TUNNEL_KEY = 1312;
/** The kernel's tunnel flags (IP_TUNNEL_*_BIT as TUNNEL_* once were, in network order), u16. */
export const WORKER_TUNNEL_FLAGS = 1356;
export const WORKER_TUNNEL_KEY_SET = 1376;
/** Address of the spin lock that the running program holds, u32; 0: none. */
export const WORKER_HELD_LOCK = 1380;
/** What a worker thread is told to do, and how far it is: CONTROL_*. */
export const WORKER_CONTROL = 1536;
/** Eight frames of 512 bytes, the first one lowest. */
export const WORKER_STACK = 4096;
export const FRAME_SIZE = 512;
export const FRAME_LIMIT = 8;
/** What programs on sockets are told beside the context, and what they ask for: SOCKET_*. */
export const WORKER_SOCKET = 8192;
/** Free for helpers: what they need while they run. */
export const WORKER_SCRATCH = 16384;
export const WORKER_SCRATCH_SIZE = 49152;
/** Where that key lies, and how long it can be at most: as long as keys of programs are. */
export const WORKER_EACH_KEY = 32768;
export const EACH_KEY_LIMIT = 8192;
/** The last lines that programs printed, the second half of the scratch: lines so far (u32), then slots from TRACE_SLOTS on. */
export const WORKER_TRACE = 49152;
export const TRACE_SLOTS = 1024;
/** A slot: the line's bytes (u32), then the text. Line `n` is in slot `n % TRACE_LINES`. */
export const TRACE_SLOT_SIZE = 1024;
export const TRACE_LINES = 15;

// --- control of a worker thread, from WORKER_CONTROL on: u32 each

/** CONTROL_IDLE and what follows it. */
export const CONTROL_STATE = 0;
/** The number of the chain that is to be run, and its batch. */
export const CONTROL_CHAIN = 4;
export const CONTROL_DESCRIPTORS = 8;
export const CONTROL_COUNT = 12;
export const CONTROL_IDLE = 0;
export const CONTROL_RUN = 1;
/** A message waits: a module, or a chain to forget. */
export const CONTROL_MESSAGE = 2;
export const CONTROL_STOP = 3;
/** It trapped; what it knows lies at WORKER_TRAP. */
export const CONTROL_TRAPPED = 4;
/** It broke otherwise; a message says how. */
export const CONTROL_BROKE = 5;

// --- packet state, from WORKER_PACKET on: addresses are u32

/** First byte that the packet may ever start at. */
export const PACKET_FLOOR = 0;
/** Where metadata start; `PACKET_DATA` where there are none. */
export const PACKET_META = 4;
export const PACKET_DATA = 8;
export const PACKET_END = 12;
/** Byte behind the last that the packet may ever end at. */
export const PACKET_CEILING = 16;
/** Which struct the context is: CONTEXT_*. */
export const PACKET_CONTEXT = 20;
/** skb: bytes from the packet's first to where the network header starts. */
export const PACKET_NETWORK = 24;
/** skb: 1 once skb_adjust_room has put an outer header around it. */
export const PACKET_ENCAPSULATED = 28;
/** skb: what is known of its checksums: SUM_*. */
export const PACKET_SUM_STATE = 32;
/** skb: with SUM_COMPLETE, the sum of all bytes from the network header on (u32, not folded). */
export const PACKET_SUM = 36;
/** skb: with SUM_UNNECESSARY, how many sums behind the first one were found right. */
export const PACKET_SUM_LEVEL = 40;
/** skb: 1: the context's hash holds what it says, 0: it is taken when somebody asks. */
export const PACKET_HASHED = 44;
/** skb: 1 where it is data of a socket, without headers. */
export const PACKET_OF_SOCKET = 48;

/** Nothing is known, somebody found the sums right, somebody took the sum over all bytes (CHECKSUM_* of the kernel). */
export const SUM_NONE = 0;
export const SUM_UNNECESSARY = 1;
export const SUM_COMPLETE = 2;

/** Room in front of a packet (XDP_PACKET_HEADROOM) and behind it. */
export const PACKET_HEADROOM = 256;
export const PACKET_TAILROOM = 320;

// --- trap, from WORKER_TRAP on

/** Why, u32: see `TrapReason` in trap.ts. */
export const TRAP_REASON = 0;
/** Slot of the instruction, u32. */
export const TRAP_PC = 4;
/** The program's number in its chain, u32. */
export const TRAP_PROGRAM = 8;
/** The pointer, u64, and the bytes that were to be touched there, u32. */
export const TRAP_POINTER = 16;
export const TRAP_BYTES = 24;

// --- answers of helpers, from WORKER_ANSWER on

/** What a redirect helper chose: 0 nothing, 1 ifindex, 2 map, 3 socket. */
export const ANSWER_REDIRECT = 0;
/** The ifindex, or the address of the map's descriptor. */
export const ANSWER_TARGET = 4;
/** The key within that map, u64; the number of a socket. */
export const ANSWER_KEY = 8;
/** Flags given to the helper, u64. */
export const ANSWER_FLAGS = 16;
/** How an ifindex was meant: 0 redirect, 1 peer, 2 neighbour. */
export const ANSWER_KIND = 24;
/** Copies made by clone_redirect: their bytes are not kept, only how many there were, u32. */
export const ANSWER_CLONES = 28;
/** With kind 2: bytes of the next hop that was given (u32, 0: by the route), and struct bpf_redir_neigh (20 bytes). */
export const ANSWER_NEXT_HOP_SIZE = 32;
export const ANSWER_NEXT_HOP = 36;
/** Where the first copies went: an ifindex and flags, u32 each, for up to ANSWER_CLONE_LIMIT of them. */
export const ANSWER_CLONE_TARGETS = 56;
export const ANSWER_CLONE_LIMIT = 8;
export const ANSWER_SIZE = 128;

/** ANSWER_REDIRECT. */
export const REDIRECT_NONE = 0;
export const REDIRECT_INTERFACE = 1;
export const REDIRECT_MAP = 2;
export const REDIRECT_SOCKET = 3;
/** ANSWER_KIND. */
export const KIND_REDIRECT = 0;
export const KIND_PEER = 1;
export const KIND_NEIGHBOUR = 2;

/** WORKER_TUNNEL_KEY_SET: no metadata, those of the tunnel that the packet came out of, those that a program set. */
export const TUNNEL_NONE = 0;
export const TUNNEL_IPV4 = 4;
export const TUNNEL_IPV6 = 6;

// --- sockets, from WORKER_SOCKET on: u32 each

/** The socket of an event, by its number. */
export const SOCKET_NUMBER = 0;
/** Which programs a socket has, or a map has for its sockets: a bit for each hook. */
export const SOCKET_PROGRAMS = 4;
export const PROGRAM_DATA = 1;
export const PROGRAM_MESSAGE = 2;
/** Bytes that the verdict on a message is to hold for, and that have to come together before there is one. */
export const SOCKET_APPLY = 8;
export const SOCKET_CORK = 12;
/** The key that a redirect found its target under. */
export const SOCKET_KEY = 32;
export const SOCKET_KEY_LIMIT = 512;
/** How often a program put an event's socket into a map, and for each time the map's descriptor and the key. */
export const SOCKET_ADDED = 544;
export const ADDED_LIST = 560;
export const ADDED_SIZE = 528;
export const ADDED_KEY = 16;
export const ADDED_LIMIT = 14;

// --- the clock, from SHARED on

/** ns since boot (u64) that the clock helpers answer; set by the engine before each batch unless it is fixed. */
export const CLOCK_NOW = 0;
/** ns from boot to the start of TAI's epoch (u64): what ktime_get_tai_ns adds. */
export const CLOCK_TAI_OFFSET = 8;

// --- the network as fib_lookup and check_mtu see it, from SHARED on; network.ts writes it

/** Links, routes of IPv4 and of IPv6, each a u32 address and a u32 count; 0 and 0: not known. */
export const NETWORK_LINKS = 64;
export const NETWORK_ROUTES4 = 72;
export const NETWORK_ROUTES6 = 80;

/** A link: ifindex u32, MTU u32, bytes of its link header u32, 1 where packets are forwarded from it u32. */
export const LINK_SIZE = 16;
export const LINK_INDEX = 0;
export const LINK_MTU = 4;
export const LINK_HEADER = 8;
export const LINK_FORWARDS = 12;

/** A route; those of one family lie in a row, longer prefixes first, so the first that fits is the one. */
export const ROUTE_SIZE = 80;
export const ROUTE_PREFIX_LENGTH = 0; // u8, bits
export const ROUTE_KIND = 1; // u8: ROUTE_TO_*
export const ROUTE_GATEWAY_FAMILY = 2; // u8: 0 the destination itself is the neighbour, 2 or 10
export const ROUTE_HAS_NEIGHBOUR = 3; // u8: 1 where both MAC addresses are known
export const ROUTE_INDEX = 4; // u32, the interface
export const ROUTE_PREFIX = 8; // 16 bytes, IPv4 in the first 4
export const ROUTE_GATEWAY = 24; // 16 bytes
export const ROUTE_SOURCE = 40; // 16 bytes: the address to send from
export const ROUTE_SMAC = 56; // 6 bytes
export const ROUTE_DMAC = 62; // 6 bytes
export const ROUTE_MTU = 68; // u32; 0: the link's
export const ROUTE_METRIC = 72; // u32
export const ROUTE_TABLE = 76; // u32

export const ROUTE_TO_LINK = 0;
export const ROUTE_TO_HERE = 1;
export const ROUTE_BLACKHOLE = 2;
export const ROUTE_UNREACHABLE = 3;
export const ROUTE_PROHIBIT = 4;

// --- a map's descriptor: fields that everybody reads. From MAP_OWN on it belongs to the runtime.

export const MAP_KIND = 0; // enum bpf_map_type
export const MAP_KEY_SIZE = 4;
export const MAP_VALUE_SIZE = 8;
export const MAP_MAX_ENTRIES = 12;
export const MAP_FLAGS = 16;
/** The tag of pointers to its values. */
export const MAP_TAG = 20;
/** Address of the first value. */
export const MAP_VALUES = 24;
/** Bytes from one CPU's value to the next; the value size rounded up to 8, where one CPU is all. */
export const MAP_VALUE_STRIDE = 28;
/** Values that an entry has: CPUs for per-CPU kinds, 1 for others. */
export const MAP_CPUS = 32;
/** Bytes from entry to entry: stride times CPUs. */
export const MAP_ENTRY_STRIDE = 36;
/** Entries that are in use, u32. */
export const MAP_COUNT = 40;
/** 1: other workers may change it meanwhile. */
export const MAP_SHARED = 44;
/** u32, 0 free: held while the map changes. */
export const MAP_LOCK = 48;
/** Maps of sockets: which programs are attached to them, as SOCKET_PROGRAMS has it. */
export const MAP_PROGRAMS = 52;
export const MAP_OWN = 64;
export const MAP_DESCRIPTOR_SIZE = 192;

// --- the contexts: offsets of fields that helpers keep right or look at (struct xdp_md and struct __sk_buff)

export const XDP_INGRESS_INDEX = 12;
export const XDP_RX_QUEUE = 16;
export const SKB_LEN = 0;
export const SKB_PACKET_TYPE = 4;
export const SKB_MARK = 8;
export const SKB_QUEUE = 12;
export const SKB_PROTOCOL = 16; // in network order
export const SKB_VLAN_PRESENT = 20;
export const SKB_VLAN_TCI = 24;
export const SKB_VLAN_PROTOCOL = 28; // in network order
export const SKB_PRIORITY = 32;
export const SKB_INGRESS_INDEX = 36;
export const SKB_INDEX = 40;
export const SKB_CB = 48;
export const SKB_HASH = 68;
export const SKB_TIMESTAMP = 152;
export const SKB_WIRE_LENGTH = 160;
export const SKB_GSO_SEGMENTS = 164;
export const SKB_GSO_SIZE = 176;
export const SKB_TIMESTAMP_TYPE = 180;

// --- where the contexts have the ends of a socket's connection (struct __sk_buff, sk_msg_md, bpf_sock_ops)

export const SKB_FAMILY = 88;
export const MESSAGE_FAMILY = 16;
export const MESSAGE_BYTES = 68; // sk_msg_md: how many there are, also those beyond a pull
export const EVENT_OPERATION = 0;
export const EVENT_FAMILY = 20;

// --- what is known of an skb besides its bytes, as its packet comes in: u32 each, then the control block

export const INCOMING_MARK = 0;
export const INCOMING_PRIORITY = 4;
export const INCOMING_QUEUE = 8;
export const INCOMING_INDEX = 12;
export const INCOMING_INGRESS_INDEX = 16;
export const INCOMING_GSO_SEGMENTS = 20;
export const INCOMING_GSO_SIZE = 24;
/** 20 bytes. */
export const INCOMING_CB = 28;
export const INCOMING_SIZE = 48;
