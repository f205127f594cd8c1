/**
 * What runs a pipeline. The kernel and the userspace engine implement this interface; the pipeline package knows only
 * it. Everything here speaks bytes and specs; types and schemas live above.
 */
import type { MapSpec, UpdateFlag } from './map.ts';
import type { ProgramSpec } from './program.ts';
import type { RingReader } from './ring.ts';

/** Blueprint of an engine: what `kernel({...})` returns. Opening it touches the machine. */
export interface Engine {
  readonly kind: 'kernel' | 'userspace';
  /**
   * Checks privileges, features and interfaces and makes an instance.
   * Throws PrivilegeError, UnsupportedError or ArgumentError with a hint, leaving nothing behind.
   */
  open(): Promise<EngineInstance>;
}

/** Where on an interface a program runs. */
export type AttachHook = 'xdp' | 'tcIngress' | 'tcEgress';

/**
 * Where a socket program runs: on what comes in at the sockets of a map (`skSkb`, and `skSkbParser` before it, which cuts the
 * stream into messages), on what is sent at them (`skMsg`), on the events of TCP sockets of the engine's cgroup (`sockOps`).
 */
export type SocketPlace = { readonly hook: 'skSkb' | 'skSkbParser' | 'skMsg'; readonly map: LoadedMap } | { readonly hook: 'sockOps' };

/** One opened engine: everything made through it is closed with it. */
export interface EngineInstance extends AsyncDisposable {
  readonly kind: Engine['kind'];
  /** Values that a per-CPU map holds for each key (possible CPUs). */
  readonly cpus: number;
  createMap(spec: MapSpec): LoadedMap;
  /**
   * Reads a ring buffer of this engine, or what programs put into a perf event array; `onReadable` is called when the reader
   * asks for it. A perf event array has `perfBytes` bytes for each CPU while it is read (rounded up to what the host can share, a
   * power of two; 65,536 unless said otherwise), and takes nothing while it is not. Throws ArgumentError for other maps, and where
   * the map has a reader already; SyscallError where the host refuses, leaving nothing open.
   */
  openRing(map: LoadedMap, onReadable: () => void, perfBytes?: number): RingReader;
  /** Loads off the main thread. `maps` resolves the names in `spec.mapReferences`. Throws VerifierError. */
  loadProgram(spec: ProgramSpec, maps: ReadonlyMap<string, LoadedMap>): Promise<LoadedProgram>;
  /**
   * Attaches to every interface of this engine, or to none. Foreign programs are never displaced. XDP takes programs of
   * type `xdp`, TC those of type `schedCls`; one program may be attached to both TC hooks.
   */
  attach(program: LoadedProgram, hook: AttachHook): Promise<Attachment>;
  /**
   * Attaches a program of that hook's type to sockets. Engines that reach sockets have it. At a map it takes the place of the one
   * that is there; in a cgroup it runs beside those of others. Throws ArgumentError, and what the engine throws.
   */
  attachToSockets?(program: LoadedProgram, place: SocketPlace): Promise<Detachable>;
  /** Returns once no CPU runs a program that was reachable before the call. */
  gracePeriod(): Promise<void>;
  /** Engines that bring packets along: what comes in once a pipeline is attached. */
  readonly traffic?: Traffic;
  /** Detaches and closes everything, links first. Idempotent. */
  close(): Promise<void>;
}

/** Packets that an engine brings along instead of interfaces, e.g. out of a capture. They are read once. */
export interface Traffic {
  /** What comes in, in batches. Ends with an error where the capture is cut or corrupt, behind the packets before. */
  packets(): AsyncIterable<readonly TrafficPacket[]>;
  /** Takes a packet that leaves; a promise where it has to be waited for. */
  deliver(packet: Uint8Array, timestampNs: bigint): Promise<void> | undefined;
  /** Nothing leaves any more. */
  end(): Promise<void>;
}

/** A packet that comes in. */
export interface TrafficPacket {
  /** From its first byte, with an Ethernet header. */
  readonly packet: Uint8Array;
  /** ns since 1970. */
  readonly timestampNs: bigint;
}

/** A program where it runs. */
export interface Detachable {
  /** Takes it off. Where that throws it may be called again; where it succeeded once it does nothing. */
  detach(): Promise<void>;
}

/** A live attachment of one program at all interfaces of its engine. */
export interface Attachment extends Detachable {
  readonly interfaces: readonly string[];
}

/** A live program. */
export interface LoadedProgram {
  readonly spec: ProgramSpec;
  /** Kernel object id, or a number of the engine's own. */
  readonly id: number;
  testRun(options: TestRunOptions): Promise<TestRunResult>;
  /**
   * Runs packets one after the other, each from its own bytes, as they would come in. Engines that run packets themselves have
   * it; to the kernel packets come by interfaces. Throws what `testRun` throws.
   */
  runBatch?(packets: readonly BatchPacket[]): readonly BatchResult[];
  close(): void;
}

/** A packet of a batch. */
export interface BatchPacket {
  /** From its first byte, at least 14 of them. */
  readonly packet: Uint8Array;
  /** What lies in front of it: metadata that XDP left, at TC too. */
  readonly metadata?: Uint8Array | undefined;
  /** Programs of TC: what is known of the packet besides its bytes. */
  readonly skb?: SkbContext;
}

/** What came of a packet of a batch. */
export interface BatchResult {
  /** The program's return value as an unsigned 32-bit number. */
  readonly returnValue: number;
  /** The packet as the program left it: bytes that are good until the next batch. */
  readonly packet: Uint8Array;
  /** What lies in front of it, as `packet`; undefined where nothing does. */
  readonly metadata?: Uint8Array | undefined;
  /** Where a redirect helper sent it. */
  readonly redirect?: Redirect | undefined;
}

/** A redirect's target: an interface, or an entry of a map. */
export type Redirect =
  | { readonly ifindex: number; readonly kind: 'redirect' | 'peer' | 'neighbour' }
  | { readonly map: LoadedMap; readonly key: number };

/** What a test run starts from. */
export interface TestRunOptions {
  /** The packet, from its first byte (at least 14 bytes for the kernel). */
  readonly packet: Uint8Array;
  /** Runs in a row over the same packet memory; default 1. */
  readonly repeat?: number;
  /** Programs of TC: what is known of the packet besides its bytes. Throws ArgumentError naming a field that is refused. */
  readonly skb?: SkbContext;
  /**
   * Programs of TC: the packet arrives with its sum taken by the card (CHECKSUM_COMPLETE), and the run fails with EBADMSG
   * where the program leaves that sum wrong. Throws UnsupportedError where the kernel cannot do it (6.11 can).
   */
  readonly checksumComplete?: boolean;
  /** Programs of XDP: where the packet came in, and what lies in front of it. */
  readonly xdp?: XdpContext;
  /** Programs on sockets, of which `packet` is the data: whose they are. The kernel has no test runs of these. */
  readonly socket?: SocketContext;
}

/** The connection whose data or event a program on sockets is run on. Addresses are text, of IPv4 or IPv6. */
export interface SocketContext {
  readonly localAddress?: string;
  readonly localPort?: number;
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  /** Data that have come in: TCP's number of their first byte, u32; default 0. */
  readonly sequence?: number;
  /** Events: which (BPF_SOCK_OPS_*); default 4, that the socket has connected. */
  readonly operation?: number;
}

/** What a TC program sees of a packet besides its bytes (struct __sk_buff). All but `cb` are u32. */
export interface SkbContext {
  readonly mark?: number;
  readonly priority?: number;
  /** `queue_mapping`; the kernel's test runs refuse all but 0. */
  readonly queue?: number;
  /** The device; 1 (loopback) unless given, and 0 is 1. */
  readonly ifindex?: number;
  readonly ingressIfindex?: number;
  /** `gso_segs`, at most 65,535. */
  readonly gsoSegments?: number;
  /** `gso_size`: bytes of payload in each segment, u16. */
  readonly gsoSize?: number;
  /** The 20 bytes of control block that TC programs share. */
  readonly cb?: Uint8Array;
}

/** Where a test run's XDP packet came in, and what lies in front of it (struct xdp_md). */
export interface XdpContext {
  /** An interface of the engine's namespace. */
  readonly ingressIfindex?: number;
  /** A receive queue of that interface; needs `ingressIfindex`. */
  readonly rxQueue?: number;
  /** Bytes between `data_meta` and `data`: a multiple of 4, at most 32 on older kernels. */
  readonly metadata?: Uint8Array;
}

/** What a test run left. */
export interface TestRunResult {
  /**
   * The program's return value as an unsigned 32-bit number: 2 for XDP_PASS, 0xffffffff for TC_ACT_UNSPEC and TCX_NEXT.
   */
  readonly returnValue: number;
  /** The packet as the program left it. */
  readonly packet: Uint8Array;
  /** Mean duration of a run in ns, as the engine reports it. */
  readonly durationNs: number;
  /** Programs of TC: the packet's fields as the program left them. */
  readonly skb?: SkbResult;
  /** Programs of XDP: set where metadata lies in front of the packet after the run. */
  readonly xdp?: { readonly metadata: Uint8Array };
  /** Programs on sockets: what they ask for besides their return value. */
  readonly socket?: SocketResult;
}

/** What a program on sockets asks for. */
export interface SocketResult {
  /** Where the data go, if not on: to the socket under a key, out of it or in at it. */
  readonly target?: { readonly map: LoadedMap; readonly key: Uint8Array; readonly ingress: boolean };
  /** Messages: bytes that the verdict holds for, and that have to come together before there is one; 0: not said. */
  readonly applyBytes: number;
  readonly corkBytes: number;
}

/** A packet's fields after a run. Writes to other fields of struct __sk_buff are not told by the kernel. */
export type SkbResult = Required<Omit<SkbContext, 'queue' | 'gsoSize'>>;

/** Keys and values of a batch, concatenated: `count` keys of keySize, `count` values of `valueStride`. */
export interface Batch {
  readonly count: number;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

/**
 * A live map. Keys and values are raw bytes in the map's own layout. For per-CPU kinds a value is
 * `cpus` copies of `valueStride / cpus` bytes each (the value size rounded up to 8). Kinds without keys take an empty one:
 * for queues and stacks `update` puts a value in (flag `exist`: in the place of the oldest where it is full) and `lookup`
 * looks at the next one; for bloom filters `update` adds one.
 */
export interface LoadedMap {
  readonly spec: MapSpec;
  readonly id: number;
  /** Bytes that a value takes in lookup, update and batches. */
  readonly valueStride: number;
  lookup(key: Uint8Array): Uint8Array | undefined;
  /** Throws SyscallError (E2BIG when full, EEXIST or ENOENT by flag). */
  update(key: Uint8Array, value: Uint8Array, flag?: UpdateFlag): void;
  /** False where there was no such key. */
  delete(key: Uint8Array): boolean;
  /** The key after `key`, or the first. */
  nextKey(key?: Uint8Array): Uint8Array | undefined;
  /**
   * All entries, by batches where the engine has them for this kind, each key once. Entries that stay are there; those that
   * come, go or change meanwhile may be missed or seen in either state. Throws TailraceError (`conflict`) where a map
   * without batches changes faster than it can be read, ArgumentError for kinds that cannot be read without taking out.
   */
  readAll(): Batch;
  /**
   * The same in parts of some megabytes, each read when it is asked for: a large map need not be in memory whole, and what is
   * read late is as it is then. Tries, and kinds without batches, have the keys that were met in memory.
   */
  readParts(): Iterable<Batch>;
  updateBatch(batch: Batch): void;
  /** Returns how many of the keys were there. */
  deleteBatch(keys: Uint8Array, count: number): number;
  /** Queues and stacks: takes the next value out; undefined where there is none. */
  pop(): Uint8Array | undefined;
  /** Bloom filters: false where the value was surely never added. */
  has(value: Uint8Array): boolean;
  /** Maps of maps: puts a map under a key. Off the main thread: the kernel waits for its readers, about 10 ms. */
  setMap(key: Uint8Array, map: LoadedMap): Promise<void>;
  /** Maps of maps: takes the map away from a key, and waits as `setMap` does. False where there was none. */
  clearMap(key: Uint8Array): Promise<boolean>;
  /** Program arrays: points a slot at a program. Off the main thread: patching jumps takes up to a millisecond. */
  setProgram(slot: number, program: LoadedProgram): Promise<void>;
  /** Program arrays: empties a slot (about 8 ms). */
  clearProgram(slot: number): Promise<void>;
  /** Ends writing from here. Engines that verify programs have it: they then know the values of a map that programs only read. */
  freeze?(): void;
  close(): void;
}
