/**
 * The userspace engine: pipelines run here without privileges, on packets that are handed in or read from captures. What is
 * attached to a hook is remembered; packets meet it when they are injected.
 */
import { setImmediate } from 'node:timers/promises';
import {
  ArgumentError,
  type AttachHook,
  type Attachment,
  DEFAULT_PERF_BYTES,
  type Detachable,
  type Engine,
  type EngineInstance,
  type LoadedMap,
  type LoadedProgram,
  type MapSpec,
  type ProgramSpec,
  type ProgramType,
  type SocketPlace,
  TailraceError,
  UnsupportedError,
} from '@tailrace/bpf';
import type { CaptureSource } from './capture/byte-source.ts';
import { listenToEvents } from './event-listener.ts';
import { WORKER_LIMIT, WORKERS } from './layout.ts';
import { Linker } from './linker.ts';
import { UserspaceMap } from './map.ts';
import { EngineMemory } from './memory.ts';
import { type Network, networkBytes, writeNetwork } from './network.ts';
import { openPerfEvents } from './perf.ts';
import { UserspaceProgram } from './program.ts';
import { openRingBuffer, type UserspaceReader } from './ring.ts';
import type { SocketGroup } from './socket-group.ts';
import { type CaptureTraffic, openTraffic } from './traffic.ts';
import { initializeWorker } from './worker-area.ts';
import type { Effort, ExecutionMode, WorkerContext } from './worker-context.ts';
import { WorkerPool } from './worker-pool.ts';

/** What `userspace` takes. */
export interface UserspaceOptions {
  /** Default `wasm`; `interpreter` is the reference, about a hundred times slower. */
  readonly mode?: ExecutionMode;
  /**
   * Threads that run batches of packets, spread by flow; default 1, this thread alone. Packets of one flow keep their
   * order, and maps are shared.
   */
  readonly workers?: number;
  /** Values of per-CPU maps; default and at least one for each worker. */
  readonly cpus?: number;
  /** Turns of loops that one run may take; default 1,048,576. */
  readonly turnLimit?: number;
  /** Default `well`; `quickly` links chains in a tenth of the time, and they are fast only after some thousand packets. */
  readonly compile?: Effort;
  /** ns since boot that programs see; default the machine's clock. */
  readonly now?: () => bigint;
  /** Where random numbers start; default another one each time. */
  readonly seed?: bigint;
  /** Links and routes that `fib_lookup` and `check_mtu` know; without it they know no device. */
  readonly network?: Network;
  /** Sockets whose connections `sockOps` chains hear of. */
  readonly sockets?: SocketGroup;
  /** A capture (pcap or pcapng: a path, bytes, a stream) that is played through the pipeline once it runs. */
  readonly pcap?: CaptureSource;
  /** With `pcap`: where packets are written that leave, as pcap. */
  readonly out?: string;
}

/** The userspace engine's blueprint. */
export interface UserspaceEngine extends Engine {
  readonly kind: 'userspace';
  open(): Promise<UserspaceInstance>;
}

const DEFAULT_TURN_LIMIT = 1 << 20;
/** How long runs may go on without a turn of the event loop. */
const TURN_MS = 10;
const socketProgramType: Readonly<Record<SocketPlace['hook'], ProgramType>> = {
  skSkb: 'skSkb',
  skSkbParser: 'skSkb',
  skMsg: 'skMsg',
  sockOps: 'sockOps',
};
/** The name of the one interface that it has. */
const INTERFACE = 'userspace';

/** Describes a userspace engine. Throws ArgumentError for options out of range. */
export function userspace(options: UserspaceOptions = {}): UserspaceEngine {
  const { mode = 'wasm', workers = 1, cpus = workers, turnLimit = DEFAULT_TURN_LIMIT, compile = 'well' } = options;
  if (!Number.isInteger(workers) || workers < 1 || workers > WORKER_LIMIT)
    throw new ArgumentError(`workers is ${workers}, expected 1 to ${WORKER_LIMIT}`);
  if (workers > 1 && mode === 'interpreter') throw new ArgumentError('the interpreter runs with one worker', { hint: "use mode 'wasm'" });
  if (!Number.isInteger(cpus) || cpus < workers || cpus > WORKER_LIMIT)
    throw new ArgumentError(`cpus is ${cpus}, expected ${workers} to ${WORKER_LIMIT}`);
  if (!Number.isInteger(turnLimit) || turnLimit < 1 || turnLimit > 0x7fff_ffff)
    throw new ArgumentError(`turnLimit is ${turnLimit}, expected 1 to ${0x7fff_ffff}`);
  const now = options.now ?? (() => process.hrtime.bigint());
  const { pcap, out } = options;
  if (out !== undefined && pcap === undefined) throw new ArgumentError(`out is ${out}, but there is no pcap whose packets could go there`);
  return {
    kind: 'userspace',
    async open() {
      const traffic = pcap === undefined ? undefined : await openTraffic(pcap, out);
      return new UserspaceInstance({
        mode,
        workers,
        cpus,
        turnLimit,
        compile,
        now,
        seed: options.seed ?? randomSeed(),
        network: options.network,
        sockets: options.sockets,
        traffic,
      });
    },
  };
}

function randomSeed(): bigint {
  return crypto.getRandomValues(new BigUint64Array(1))[0] || 1n;
}

interface InstanceOptions extends Required<Omit<UserspaceOptions, 'pcap' | 'out' | 'network' | 'sockets'>> {
  readonly network: Network | undefined;
  readonly sockets: SocketGroup | undefined;
  readonly traffic: CaptureTraffic | undefined;
}

/** An opened userspace engine. Using it after `close` throws ArgumentError. */
export class UserspaceInstance implements EngineInstance {
  readonly kind = 'userspace';
  readonly cpus: number;
  /** The capture that it was opened with. */
  readonly traffic?: CaptureTraffic;
  readonly #memory = new EngineMemory();
  readonly #linker = new Linker();
  readonly #context: WorkerContext;
  readonly #maps = new Set<UserspaceMap>();
  readonly #programs = new Set<UserspaceProgram>();
  readonly #rings = new Map<LoadedMap, UserspaceReader>();
  readonly #attached = new Map<AttachHook, UserspaceProgram>();
  /** Ends what listens to events of sockets. */
  readonly #events = new Set<() => void>();
  readonly #sockets: SocketGroup | undefined;
  #ids = 0;
  /** When the event loop last had its turn. */
  #turned = performance.now();
  #isClosed = false;

  constructor({ mode, workers, cpus, turnLimit, compile, now, seed, network, sockets, traffic }: InstanceOptions) {
    this.cpus = cpus;
    this.#sockets = sockets;
    if (traffic) this.traffic = traffic;
    const pool = workers > 1 ? new WorkerPool(this.#memory, workers - 1, seed) : undefined;
    this.#context = { memory: this.#memory, worker: WORKERS, linker: this.#linker, mode, cpus, turnLimit, compile, now, pool };
    initializeWorker(this.#memory, WORKERS, { cpu: 0, seed });
    if (network) writeNetwork(this.#memory, this.#memory.allocate(networkBytes(network), 64, 'links and routes'), network);
  }

  /** Bytes of its memory that maps and packets take. */
  get memoryUsed(): number {
    return this.#memory.used;
  }

  createMap(spec: MapSpec): UserspaceMap {
    this.#checkOpen();
    const map = new UserspaceMap(this.#memory, spec, ++this.#ids, this.cpus, this.#context.pool !== undefined, this.#linker);
    for (const known of this.#maps) if (known.closed) this.#maps.delete(known);
    this.#maps.add(map);
    return map;
  }

  openRing(map: LoadedMap, onReadable: () => void, perfBytes = DEFAULT_PERF_BYTES): UserspaceReader {
    this.#checkOpen();
    const { name, type } = map.spec;
    if (!(map instanceof UserspaceMap) || (type !== 'ringBuffer' && type !== 'perfEventArray'))
      throw new ArgumentError(`map ${name} is neither a ring buffer nor a perf event array of the userspace engine`);
    if (this.#rings.get(map)?.closed === false) throw new ArgumentError(`map ${name} has a reader, expected none`);
    const ring =
      type === 'ringBuffer'
        ? openRingBuffer(this.#memory, map, onReadable)
        : openPerfEvents(this.#memory, map, this.cpus, perfBytes, onReadable);
    this.#rings.set(map, ring);
    return ring;
  }

  async loadProgram(spec: ProgramSpec, maps: ReadonlyMap<string, LoadedMap>): Promise<UserspaceProgram> {
    this.#checkOpen();
    const program = new UserspaceProgram(spec, ++this.#ids, maps, this.#context, {
      onRun: () => this.#notifyRings(),
      turn: () => this.#turn(),
      mapAt: (address) => this.#maps.values().find((map) => map.address === address),
    });
    for (const known of this.#programs) if (known.closed) this.#programs.delete(known);
    this.#programs.add(program);
    return program;
  }

  async attach(program: LoadedProgram, hook: AttachHook): Promise<Attachment> {
    this.#checkOpen();
    if (!(program instanceof UserspaceProgram))
      throw new ArgumentError(`program ${program.spec.name} was not loaded by the userspace engine`);
    if (program.spec.type !== (hook === 'xdp' ? 'xdp' : 'schedCls'))
      throw new ArgumentError(`program ${program.spec.name} is of type ${program.spec.type}, the hook is ${hook}`);
    const there = this.#attached.get(hook);
    if (there !== undefined)
      throw new TailraceError('conflict', `${hook} has program ${there.spec.name} already`, {
        hint: 'stop the other pipeline, or open a second engine',
      });
    this.#attached.set(hook, program);
    const detach = async (): Promise<void> => {
      if (this.#attached.get(hook) === program) this.#attached.delete(hook);
    };
    try {
      await program.chain.link();
      this.#checkOpen();
    } catch (error) {
      await detach();
      throw error;
    }
    return { interfaces: [INTERFACE], detach };
  }

  async attachToSockets(program: LoadedProgram, place: SocketPlace): Promise<Detachable> {
    this.#checkOpen();
    if (!(program instanceof UserspaceProgram))
      throw new ArgumentError(`program ${program.spec.name} was not loaded by the userspace engine`);
    const { name, type } = program.spec;
    if (type !== socketProgramType[place.hook]) throw new ArgumentError(`program ${name} is of type ${type}, the hook is ${place.hook}`);
    if (place.hook === 'skSkbParser')
      throw new UnsupportedError(`program ${name} cuts a stream into messages, which the userspace engine does not`, {
        hint: 'run it with kernel()',
      });
    if (place.hook === 'sockOps') return this.#attachToGroup(program);
    const { map } = place;
    if (!(map instanceof UserspaceMap)) throw new ArgumentError(`map ${map.spec.name} is no map of sockets of the userspace engine`);
    await program.chain.link();
    this.#checkOpen();
    return map.attachToSockets(place.hook, program);
  }

  async #attachToGroup(program: UserspaceProgram): Promise<Detachable> {
    const { name } = program.spec;
    if (this.#sockets === undefined)
      throw new ArgumentError(`program ${name} wants the events of sockets, and the engine has no group of them`, {
        hint: 'give it one: userspace({ sockets: new SocketGroup(server) })',
      });
    await program.chain.link();
    this.#checkOpen();
    const leave = listenToEvents(program, this.#sockets);
    const detach = (): void => {
      if (!this.#events.delete(detach)) return;
      leave();
    };
    this.#events.add(detach);
    return { detach: async () => detach() };
  }

  /** Runs are never under way between two turns of the event loop. */
  async gracePeriod(): Promise<void> {
    this.#checkOpen();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#attached.clear();
    await this.traffic?.end();
    for (const detach of [...this.#events]) detach();
    for (const ring of this.#rings.values()) ring.close();
    for (const program of this.#programs) program.close();
    for (const map of this.#maps) map.close();
    await this.#linker.idle();
    await this.#context.pool?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Runs settle at once: who awaits them in a loop would keep timers and sockets waiting. */
  #turn(): Promise<void> | undefined {
    if (performance.now() - this.#turned < TURN_MS) return undefined;
    return setImmediate().then(() => {
      this.#turned = performance.now();
    });
  }

  #notifyRings(): void {
    for (const [map, ring] of this.#rings)
      if (ring.closed) this.#rings.delete(map);
      else ring.notify();
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new ArgumentError('the userspace engine is closed');
  }
}
