/** The kernel engine: everything that one pipeline has in the kernel, made through one object and gone with it. */
import {
  ArgumentError,
  type AttachHook,
  DEFAULT_PERF_BYTES,
  type Detachable,
  type Engine,
  type LoadedMap,
  type LoadedProgram,
  type MapSpec,
  type PinningInstance,
  type ProgramSpec,
  type RecordReader,
  type SocketPlace,
} from '@tailrace/bpf';
import { SyscallError } from './errno.ts';
import type { InterfaceInfo } from './interface.ts';
import { type AttachMode, attachXdp, createXdpLink, type KernelAttachment, type MadeLink, requireEthernet } from './link.ts';
import { createMap, KernelMap, type MapContext } from './map.ts';
import { RouteSocket } from './netlink.ts';
import { currentNamespace, NetworkNamespace, openNamespace, poolIsIn } from './netns.ts';
import { openPerfEvents } from './perf.ts';
import { KernelPinStore } from './pin-store.ts';
import { bpffsPath, possibleCpus, requireBpf, requireCapabilities, requireKernel } from './privilege.ts';
import { KernelProgram, loadProgram } from './program.ts';
import { openRingBuffer } from './ring.ts';
import { attachToSockets } from './socket-link.ts';
import { trySyscallAsync } from './syscall.ts';
import { TcAttacher, type TcOptions } from './tc-link.ts';
import { checkOrder } from './tc-order.ts';
import { xdpFeatures } from './xdp-features.ts';

/** MEMBARRIER_CMD_GLOBAL (include/uapi/linux/membarrier.h). */
const MEMBARRIER_CMD_GLOBAL = 1;

/** What `kernel` takes. */
export interface KernelOptions {
  /** Names of the interfaces that programs are attached to; none for sockets, and for loading and test runs only. */
  readonly interfaces?: readonly string[];
  /** Path of the cgroup (v2) whose sockets `sockOps` chains hear of. */
  readonly cgroup?: string;
  /** Their network namespace: a path, a name that `ip netns add` gave, an fd, or one held open; default the own. */
  readonly netns?: string | number | NetworkNamespace;
  /** Default `auto`: native, and generic where a driver has no XDP of its own. */
  readonly mode?: AttachMode;
  /** How programs are attached to TC, and where among the programs that are there; default TCX links, last. */
  readonly tc?: TcOptions;
  /** Where the BPF file system is mounted that pins go to, in a folder `tailrace`; default `/sys/fs/bpf`. */
  readonly bpffs?: string;
}

/** The kernel engine's blueprint. */
export interface KernelEngine extends Engine {
  readonly kind: 'kernel';
  open(): Promise<KernelInstance>;
}

/**
 * Describes a kernel engine; `open` checks the machine and makes it. Throws ArgumentError for interfaces listed twice
 * and for a TC order that names no program id. Opening throws UnsupportedError (no Linux 6.1, no bpf), PrivilegeError
 * (naming the missing capabilities), ArgumentError (no such namespace or interface, or one without Ethernet headers).
 */
export function kernel(options: KernelOptions = {}): KernelEngine {
  const { interfaces = [], mode = 'auto', tc = {}, bpffs = bpffsPath } = options;
  if (tc.order !== undefined) checkOrder(tc.order);
  const twice = interfaces.find((name, index) => interfaces.indexOf(name) !== index);
  if (twice !== undefined) throw new ArgumentError(`interface ${twice} is listed twice`);
  return { kind: 'kernel', open: () => openInstance({ ...options, interfaces: [...interfaces], mode, tc, bpffs }) };
}

type Opening = Required<Omit<KernelOptions, 'netns' | 'cgroup'>> & Pick<KernelOptions, 'netns' | 'cgroup'>;

async function openInstance({ interfaces: names, cgroup, netns, mode, tc, bpffs }: Opening): Promise<KernelInstance> {
  requireKernel();
  requireCapabilities(netns !== undefined);
  requireBpf();
  const namespace = netns === undefined ? currentNamespace() : openNamespace(netns instanceof NetworkNamespace ? netns.fd : netns);
  let socket: RouteSocket | undefined;
  try {
    const poolInside = await poolIsIn(namespace);
    const threadInside = isCurrent(namespace);
    socket = new RouteSocket(threadInside ? undefined : namespace);
    const route = socket;
    const interfaces = names.map((name) => requireEthernet(route, name));
    const lacksXdp = ({ index }: InterfaceInfo) => xdpFeatures(index, threadInside ? undefined : namespace)?.basic === false;
    const generic = mode === 'generic' || (mode === 'auto' && interfaces.some(lacksXdp));
    return new KernelInstance({
      interfaces,
      cgroup,
      mode,
      generic,
      tc,
      bpffs,
      namespace,
      poolInside,
      threadInside,
      socket,
      cpus: possibleCpus(),
    });
  } catch (error) {
    socket?.close();
    namespace.close();
    throw error;
  }
}

interface Parts {
  readonly interfaces: readonly InterfaceInfo[];
  readonly cgroup: string | undefined;
  readonly mode: AttachMode;
  /** Whether XDP is going to run behind the driver of one of them. */
  readonly generic: boolean;
  readonly tc: TcOptions;
  readonly bpffs: string;
  readonly namespace: NetworkNamespace;
  readonly poolInside: boolean;
  readonly threadInside: boolean;
  readonly socket: RouteSocket;
  readonly cpus: number;
}

/** An opened kernel engine. Made by `kernel(...).open()`. Using it after `close` throws ArgumentError. */
export class KernelInstance implements PinningInstance {
  readonly kind = 'kernel';
  readonly cpus: number;
  /** The interfaces as they were when the engine was opened. */
  readonly interfaces: readonly InterfaceInfo[];
  /** What is pinned stays when the engine is closed. */
  readonly pins: KernelPinStore;
  readonly #parts: Parts;
  readonly #mapContext: MapContext;
  readonly #tc: TcAttacher;
  readonly #maps = new Set<KernelMap | KernelProgram>();
  readonly #programs = new Set<KernelMap | KernelProgram>();
  /** Readers by the map that they read. */
  readonly #rings = new Map<LoadedMap, RecordReader>();
  readonly #attachments = new Set<Detachable>();
  readonly #pending = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.cpus = parts.cpus;
    this.interfaces = parts.interfaces;
    this.#mapContext = { cpus: parts.cpus, namespace: parts.threadInside ? undefined : parts.namespace };
    this.#tc = new TcAttacher({ socket: parts.socket, namespace: this.#asyncNamespace() }, parts.tc);
    this.pins = new KernelPinStore(parts.bpffs, {
      map: this.#mapContext,
      interfaces: parts.interfaces,
      place: `net:[${parts.namespace.inode}]`,
      createLink: (program, hook, name) => this.#track(() => this.#createLink(program, hook, name)),
      keep: (object) => this.#keepOpen(object),
      program: (spec, fd, id) => new KernelProgram(spec, fd, id, this.#asyncNamespace()),
    });
  }

  createMap(spec: MapSpec): KernelMap {
    this.#checkOpen();
    return this.#keepOpen(createMap(spec, this.#mapContext));
  }

  openRing(map: LoadedMap, onReadable: () => void, perfBytes = DEFAULT_PERF_BYTES): RecordReader {
    this.#checkOpen();
    const { name, type } = map.spec;
    if (!(map instanceof KernelMap) || (type !== 'ringBuffer' && type !== 'perfEventArray'))
      throw new ArgumentError(`map ${name} is neither a ring buffer nor a perf event array of the kernel engine`);
    if (this.#rings.get(map)?.closed === false) throw new ArgumentError(`map ${name} has a reader, expected none`);
    const ring = type === 'ringBuffer' ? openRingBuffer(map, onReadable) : openPerfEvents(map, this.cpus, perfBytes, onReadable);
    for (const [other, { closed }] of this.#rings) if (closed) this.#rings.delete(other);
    this.#rings.set(map, ring);
    return ring;
  }

  loadProgram(spec: ProgramSpec, maps: ReadonlyMap<string, LoadedMap>): Promise<KernelProgram> {
    return this.#track(async () => {
      // Behind the driver, a packet that is copied for a program with frags forgets where its Ethernet header ends
      // (net/core/skbuff.c, skb_pp_cow_data: mac_len), and TC ingress sees it from its IP header on.
      const asLoaded = spec.frags && this.#parts.generic ? { ...spec, frags: false } : spec;
      return this.#keepOpen(await loadProgram(asLoaded, kernelMaps(maps), this.#asyncNamespace()));
    });
  }

  attach(program: LoadedProgram, hook: AttachHook): Promise<KernelAttachment> {
    return this.#track(async () => {
      checkOwn(program);
      if (program.spec.type !== (hook === 'xdp' ? 'xdp' : 'schedCls')) {
        throw new ArgumentError(`program ${program.spec.name} is of type ${program.spec.type}, the hook is ${hook}`);
      }
      const names = this.interfaces.map(({ name }) => name);
      const { mode, socket } = this.#parts;
      const made =
        hook === 'xdp'
          ? await attachXdp(program, names, mode, { socket, namespace: this.#asyncNamespace() })
          : await this.#tc.attach(program, hook, names);
      return this.#keep(made);
    });
  }

  attachToSockets(program: LoadedProgram, place: SocketPlace): Promise<Detachable> {
    return this.#track(async () => {
      checkOwn(program);
      return this.#keep(await attachToSockets(program, place, this.#parts.cgroup));
    });
  }

  /** Takes 13 to 18 ms, on a pool thread. Throws SyscallError (EINVAL under nohz_full, which has no such barrier). */
  gracePeriod(): Promise<void> {
    return this.#track(async () => {
      const result = await trySyscallAsync('membarrier', [MEMBARRIER_CMD_GLOBAL]);
      if (result < 0) throw new SyscallError('membarrier(MEMBARRIER_CMD_GLOBAL)', -result);
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    // What is under way may still make something that is to be closed.
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending);
    const outcomes = await Promise.allSettled([...this.#attachments].map((attachment) => attachment.detach()));
    for (const ring of this.#rings.values()) ring.close();
    for (const program of this.#programs) program.close();
    for (const map of this.#maps) map.close();
    this.pins.release();
    this.#parts.socket.close();
    this.#parts.namespace.close();
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  /** Closing the engine takes it off, unless it is taken off before. */
  #keep<A extends Detachable>(made: A): A {
    const attachment: A = {
      ...made,
      detach: async () => {
        await made.detach();
        this.#attachments.delete(attachment);
      },
    };
    this.#attachments.add(attachment);
    return attachment;
  }

  /** Closing the engine closes it. */
  #keepOpen<T extends KernelMap | KernelProgram>(object: T): T {
    const objects: Set<KernelMap | KernelProgram> = object instanceof KernelMap ? this.#maps : this.#programs;
    for (const other of objects) if (other.closed) objects.delete(other);
    objects.add(object);
    return object;
  }

  #createLink(program: KernelProgram, hook: AttachHook, name: string): Promise<MadeLink> {
    const { mode, socket } = this.#parts;
    if (hook !== 'xdp') return this.#tc.createTcxLink(program, hook, name);
    return createXdpLink(program, name, mode, { socket, namespace: this.#asyncNamespace() });
  }

  /** Where calls that depend on the namespace are made on this thread: undefined where the pool's threads can. */
  #asyncNamespace(): NetworkNamespace | undefined {
    return this.#parts.poolInside ? undefined : this.#parts.namespace;
  }

  #checkOpen(): void {
    if (this.#closing) throw new ArgumentError('the kernel engine is closed');
  }

  async #track<T>(work: () => Promise<T>): Promise<T> {
    this.#checkOpen();
    const promise = work();
    this.#pending.add(promise);
    try {
      return await promise;
    } finally {
      this.#pending.delete(promise);
    }
  }
}

function isCurrent(namespace: NetworkNamespace): boolean {
  using current = currentNamespace();
  return current.inode === namespace.inode;
}

function checkOwn(program: LoadedProgram): asserts program is KernelProgram {
  if (!(program instanceof KernelProgram)) throw new ArgumentError(`program ${program.spec.name} was not loaded by the kernel engine`);
}

function kernelMaps(maps: ReadonlyMap<string, LoadedMap>): Map<string, KernelMap> {
  const result = new Map<string, KernelMap>();
  for (const [name, map] of maps) {
    if (!(map instanceof KernelMap)) throw new ArgumentError(`map ${name} was not made by the kernel engine`);
    result.set(name, map);
  }
  return result;
}
