/**
 * A chain that runs: its small root program, which is attached once and never changes, the entry slot that the root jumps
 * through, the state, and the generation of programs behind the slot. A change writes one slot, or builds a generation beside
 * the old one and flips the entry; change.ts says which, and live-pipeline.ts when.
 */
import {
  type Attachment,
  type BatchPacket,
  type BatchResult,
  type EngineInstance,
  type LoadedMap,
  type LoadedProgram,
  type SocketResult,
  type TestRunOptions,
  UnsupportedError,
} from '@tailrace/bpf';
import { type AnyMap, decodeFrom } from '@tailrace/stage';
import { type ChainBlueprint, claimsOf, entrySpec } from './chain-blueprint.ts';
import { type ChainHook, type ChainVerdict, hookTitle, isPacketHook, verdictOf } from './chain-hook.ts';
import type { ChainChange } from './change.ts';
import { type CompiledChain, Generation, reference, type Workshop } from './generation.ts';
import { loopPathOf } from './loop-path.ts';
import { type PathStep, pathOf } from './path.ts';
import type { MapClaim, MapHold, MapRegistry } from './registry.ts';
import { attachToSockets, socketMapsOf } from './socket-attachment.ts';
import { type CarriedCounts, ChainCounters, type ChainStats, type Lost } from './stats.ts';
import { flipWay, slotWay, stay, type Way } from './way.ts';

/** What a packet came to. `N` are the names of the stages that it can have met. */
export interface RunResult<N extends string = string> {
  readonly verdict: ChainVerdict;
  /**
   * The stages that it went through, in order, and how it left each: the last step led to the verdict. Read off the chain's
   * counters, so `undefined` where those do not tell it alone: other packets passed meanwhile and took other ways, or a stage
   * was being replaced.
   */
  readonly path: readonly PathStep<N>[] | undefined;
  /** The packet as the chain left it. */
  readonly packet: Uint8Array;
  /** Chains on sockets' data: where a redirect sends them. */
  readonly redirect?: SocketRedirect;
  /** Time that the chain took, in ns, as the engine reports it. */
  readonly durationNs: number;
}

/** A socket that data are sent to. */
export interface SocketRedirect {
  readonly map: AnyMap;
  readonly key: unknown;
  /** To who reads from it, instead of to its peer. */
  readonly ingress: boolean;
}

/** What came of a packet of a batch in one chain. */
export interface ChainBatchResult {
  readonly verdict: ChainVerdict;
  /** As the engine left it: bytes that are good until the next batch, views that are made when they are asked for. */
  readonly result: BatchResult;
  readonly path?: readonly PathStep[];
}

/** What another process left of a chain. `compiled` of its blueprint says as much as is known of it. */
export interface ChainLeft {
  readonly carried: CarriedCounts;
  /** What the root leads to now. */
  head(entry: LoadedMap): LoadedProgram;
}

/** A change of a chain that is loaded and not made yet. Exactly one of `settle` and `abandon` ends it. */
export interface PreparedChange {
  readonly hook: ChainHook;
  /** Has a front: `arrive` comes after `commit`, once no packet of the old XDP chain is under way. */
  readonly hasFront: boolean;
  /** Leads new packets to the new, past the front where there is one. */
  commit(): Promise<void>;
  /** After `commit`: leads packets to the new straight away. */
  arrive(): Promise<void>;
  /** Packets follow the new: after `commit`, and where `revert` failed. */
  readonly leads: boolean;
  /** What the new has counted. */
  stats(): ChainStats;
  /** After `commit`: leads packets back to the old. */
  revert(): Promise<void>;
  /** After the last of these and a grace period: counts go on with the new layout, what is old is closed. */
  settle(): void;
  /** Without a grace period: as `settle`, but what is old stays open until the pipeline stops. */
  settleLate(): void;
  /** Closes what was made for the change; where packets follow it, since `revert` failed, only the pipeline's stop does. */
  abandon(): void;
}

/** How a change is prepared. */
export interface PrepareOptions {
  /** The pipeline's name. */
  readonly pipeline: string;
  /** Counts of places that are not in the new plan are forgotten. */
  readonly forgets: boolean;
}

/** A loaded chain. The engine's instance closes what it has open. */
export class LiveChain {
  readonly hook: ChainHook;
  readonly #workshop: Workshop;
  readonly #entry: LoadedMap;
  readonly #root: LoadedProgram;
  readonly #counters: ChainCounters;
  #compiled: CompiledChain;
  /** What packets that come now follow, as an object of its own after each change; nothing while one is made. */
  #route: { readonly compiled: CompiledChain } | undefined;
  /** The test run that goes on, or the last one. */
  #runs: Promise<unknown> = Promise.resolve();
  #maps: MapHold;
  #generation: Generation;

  private constructor(blueprint: ChainBlueprint, workshop: Workshop, parts: Parts) {
    this.hook = blueprint.hook;
    this.#workshop = workshop;
    this.#compiled = blueprint.compiled;
    this.#route = { compiled: blueprint.compiled };
    this.#entry = parts.entry;
    this.#root = parts.root;
    this.#maps = parts.maps;
    this.#generation = parts.generation;
    this.#counters = new ChainCounters(blueprint.hook, workshop.state, blueprint.compiled.state, parts.carried);
  }

  /**
   * Loads a chain and makes it ready for packets, without attaching it; with `left`, packets go where they go. What it leaves open
   * on an error is closed with the instance.
   */
  static async load(blueprint: ChainBlueprint, claims: readonly MapClaim[], services: ChainServices, left?: ChainLeft): Promise<LiveChain> {
    const { instance, registry } = services;
    const { name, compiled } = blueprint;
    const maps = registry.hold(claims);
    const state = instance.createMap({
      name: `${name}.state`,
      type: 'perCpuArray',
      keySize: 4,
      valueSize: compiled.state.size,
      maxEntries: 1,
      flags: 0,
    });
    const entry = instance.createMap(entrySpec(name));
    const workshop: Workshop = { instance, registry, state, name };
    const generation = left ? Generation.ofOthers(compiled.plan, left.head(entry)) : await Generation.load(workshop, compiled);
    const references = new Map([[reference.entry, entry] as const, [reference.state, state] as const]);
    const root = await instance.loadProgram(blueprint.root, references);
    if (left === undefined) await entry.setProgram(0, generation.head);
    return new LiveChain(blueprint, workshop, { entry, root, maps, generation, carried: left?.carried });
  }

  /** What packets follow now. */
  get compiled(): CompiledChain {
    return this.#compiled;
  }

  /** The program that the root leads to, by id. */
  get head(): number {
    return this.#generation.head.id;
  }

  /** For who keeps it beyond this process. */
  get kept(): { readonly hook: ChainHook; readonly carried: CarriedCounts; readonly array: LoadedMap } {
    return { hook: this.hook, carried: this.#counters.carried, array: this.#generation.array };
  }

  /**
   * Attaches the root: to every interface of the engine, to every map of sockets that its stages use, or to the engine's cgroup.
   * Throws UnsupportedError where the engine reaches no sockets, and what it throws.
   */
  async attach(): Promise<Attachment> {
    const { instance, registry } = this.#workshop;
    const { hook } = this;
    if (isPacketHook(hook)) return instance.attach(this.#root, hook);
    // a stage that names one of them may go, and the chain is still at its sockets
    const maps = socketMapsOf(this.#compiled.plan);
    const held = registry.hold(maps.map((map) => ({ map, scope: this.#workshop.name, user: hook })));
    try {
      const attached = await attachToSockets(
        instance,
        this.#root,
        hook,
        maps.map((map) => registry.loaded(map)),
      );
      const detach = (): Promise<void> => attached.detach().finally(() => held[Symbol.dispose]());
      return { ...attached, detach };
    } catch (error) {
      held[Symbol.dispose]();
      throw error;
    }
  }

  /** Sends one packet through the chain, off the wire. Runs go one after the other: what they count is told apart. */
  run(options: TestRunOptions): Promise<RunResult> {
    const mine = { ...options, packet: Uint8Array.from(options.packet) };
    const run = this.#runs.then(() => this.#run(mine));
    this.#runs = run.catch(() => undefined);
    return run;
  }

  /**
   * Sends packets through the chain, where the engine runs packets itself; `wantsPath` runs them one by one. Bytes are good until
   * the next batch. Throws UnsupportedError where packets come by interfaces only.
   */
  runBatch(packets: readonly BatchPacket[], wantsPath: boolean): readonly ChainBatchResult[] {
    const root = this.#root;
    const runBatch = root.runBatch?.bind(root);
    if (runBatch === undefined)
      throw new UnsupportedError(`the ${this.#workshop.instance.kind} engine takes packets from its interfaces, none can be injected`, {
        hint: 'run the pipeline with userspace(), or use run() for single packets',
      });
    if (!wantsPath) return runBatch(packets).map((result) => ({ verdict: this.#verdict(result.returnValue), result }));
    return packets.map((packet) => {
      const [route, before] = [this.#route, this.#counters.snapshot()];
      const [result] = runBatch([packet]) as readonly [BatchResult];
      const { returnValue, packet: bytes, metadata, redirect } = result;
      const verdict = this.#verdict(returnValue);
      const path = route && this.#pathOf(route.compiled, verdict, before, this.#counters.snapshot());
      // the next packet takes this one's place
      const kept = { returnValue, redirect, packet: bytes.slice(), metadata: metadata?.slice() };
      return { verdict, result: kept, ...(path ? { path } : {}) };
    });
  }

  /** Returns once the runs that were asked for so far have ended. */
  async idle(): Promise<void> {
    await this.#runs;
  }

  stats(): ChainStats {
    return this.#counters.read();
  }

  lost(): Lost {
    return this.#counters.lost();
  }

  /**
   * Loads what a change needs: one program where a slot will do, otherwise a generation. Leaves nothing behind on errors.
   * Changes must not overlap.
   */
  async prepare(planned: ChainChange, { pipeline, forgets }: PrepareOptions): Promise<PreparedChange> {
    const { change, compiled: next, front } = planned;
    using undo = new DisposableStack();
    const ofFront = [...(front?.maps.values() ?? [])].map((map): MapClaim => ({ map, scope: pipeline, user: 'canary' }));
    const maps = undo.use(this.#workshop.registry.hold([...claimsOf(next.plan, pipeline), ...ofFront]));
    const baseline = this.#counters.baseline(next.state);
    const way = await this.#wayTo(planned);
    undo.move();
    let committed = false;
    const settle = (): DisposableStack => {
      const retired = new DisposableStack();
      retired.use(way.finish());
      retired.use(this.#maps);
      this.#maps = maps;
      this.#compiled = next;
      this.#route = { compiled: next };
      this.#counters.move(next.state, baseline, forgets);
      return retired;
    };
    return {
      hook: this.hook,
      hasFront: front !== undefined,
      get leads() {
        return committed;
      },
      stats: () => (change.kind === 'none' ? this.stats() : this.#counters.besides(next.state, baseline).read()),
      commit: async () => {
        this.#route = undefined;
        await way.commit();
        committed = true;
      },
      arrive: () => way.arrive(),
      revert: async () => {
        await way.revert();
        committed = false;
      },
      settle: () => settle().dispose(),
      settleLate: () => void settle(),
      abandon: () => {
        if (committed) return;
        this.#route ??= { compiled: this.#compiled };
        way.abandon();
        maps[Symbol.dispose]();
      },
    };
  }

  async #run(options: TestRunOptions): Promise<RunResult> {
    const [route, before] = [this.#route, this.#counters.snapshot()];
    const { returnValue, packet, durationNs, socket } = await this.#root.testRun(options);
    // of data a redirect is a pass with a target
    const redirect = this.#verdict(returnValue) === 'pass' && socket?.target ? this.#redirectOf(socket.target) : undefined;
    const verdict = redirect ? 'redirect' : this.#verdict(returnValue);
    const after = this.#counters.snapshot();
    const path = route && ((await this.#hasSettled(route, after)) ? this.#pathOf(route.compiled, verdict, before, after) : undefined);
    return { verdict, path: route === this.#route ? path : undefined, packet, durationNs, ...(redirect ? { redirect } : {}) };
  }

  #redirectOf({ map: loaded, key, ingress }: NonNullable<SocketResult['target']>): SocketRedirect | undefined {
    const map = socketMapsOf(this.#compiled.plan).find((one) => this.#workshop.registry.loaded(one) === loaded);
    return map && { map, key: decodeFrom((map.key ?? map.value).layout, new DataView(key.buffer, key.byteOffset), 0), ingress };
  }

  /**
   * Whether what was counted is all of some packets. Paths with loops need that, and then a reading that is the same behind a grace
   * period shows that no packet was under way.
   */
  async #hasSettled({ compiled }: { readonly compiled: CompiledChain }, after: Uint8Array): Promise<boolean> {
    if (!compiled.plan.loops) return true;
    await this.#workshop.instance.gracePeriod();
    return Buffer.compare(after, this.#counters.snapshot()) === 0;
  }

  #pathOf(compiled: CompiledChain, verdict: ChainVerdict, before: Uint8Array, after: Uint8Array): readonly PathStep[] | undefined {
    const path = pathOf(compiled, verdict, before, after);
    return path ?? (compiled.plan.loops ? loopPathOf(compiled, verdict, before, after) : undefined);
  }

  #verdict(returnValue: number): ChainVerdict {
    const verdict = verdictOf(this.hook, returnValue);
    if (verdict !== undefined) return verdict;
    throw new UnsupportedError(`the chain returned ${returnValue}, which is no verdict of ${hookTitle[this.hook]}`);
  }

  #wayTo({ change, compiled, front }: ChainChange): Promise<Way> | Way {
    if (change.kind === 'none') return stay;
    const from = { workshop: this.#workshop, entry: this.#entry, generation: this.#generation };
    if (change.kind === 'slot') return slotWay(from, change.place, change.slot, compiled);
    return flipWay(from, compiled, front, (generation) => {
      this.#generation = generation;
    });
  }
}

/** What a chain is loaded with. */
export interface ChainServices {
  readonly instance: EngineInstance;
  readonly registry: MapRegistry;
}

interface Parts {
  readonly entry: LoadedMap;
  readonly root: LoadedProgram;
  readonly maps: MapHold;
  readonly generation: Generation;
  readonly carried: CarriedCounts | undefined;
}
