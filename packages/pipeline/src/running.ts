/** A pipeline that runs: its maps, controllers and counters, and hot swap. */
import { ArgumentError, type SkbContext, type SocketContext } from '@tailrace/bpf';
import type {
  AnyFunction,
  AnyStage,
  Checked,
  CheckKnown,
  CheckPlaced,
  CheckReplace,
  ControllerOf,
  MapDecl,
  Resource,
} from '@tailrace/stage';
import { map, type Observable, ReplaySubject, type SchedulerLike, Subject, shareReplay, takeUntil, timer } from 'rxjs';
import { type CanaryOptions, LiveCanary } from './canary.ts';
import type { RunResult } from './chain.ts';
import type { ChainHook, PacketHook } from './chain-hook.ts';
import type { Composition } from './composition.ts';
import { describePipeline, type PipelineDescription } from './description.ts';
import { type Injected, type InjectOptions, inject, injectOne, type PacketSource } from './injection.ts';
import type { Ending, Keeper } from './keeper.ts';
import type { LivePipeline } from './live-pipeline.ts';
import type { ObserveOptions } from './observation.ts';
import { type Drop, observedPackets } from './observed-packets.ts';
import { type PipelineEvent, pipelineEvents } from './pipeline-events.ts';
import type { MapRegistry } from './registry.ts';
import { nothingToReplay, type Replay, type ReplayTotals } from './replay.ts';
import { tellingBoth } from './rollback.ts';
import { type Canary, RunningCanary } from './running-canary.ts';
import { type ChainStats, type Stats, sumOf } from './stats.ts';
import type { TracedPath } from './trace.ts';
import { type NextPipeline, type UpdateOptions, updatePipeline } from './update.ts';

/** A pipeline that runs. `L` holds the names of its stages by chain. */
export interface Running<L> extends AsyncDisposable {
  /** The pipeline's name. */
  readonly name: string;
  /** Interfaces that it is attached to. */
  readonly interfaces: readonly string[];
  /** The typed handle of a map of this pipeline. Throws ChainError for a map that none of its stages uses. */
  map<H>(map: MapDecl<unknown, H>): H;
  /** The typed handle of a structure (or a map). Throws ChainError as `map` does. */
  handle<H>(resource: Resource<unknown, H>): H;
  /** The controller of a network function. */
  controller<F extends AnyFunction>(of: Checked<F, CheckPlaced<F, L>>): ControllerOf<F>;
  /** Counters of every stage, now. Throws ArgumentError where the pipeline runs without counters. */
  stats(): Stats<L>;
  /** The same, at once and then every interval; shared, ends with the pipeline. */
  readonly stats$: Observable<Stats<L>>;
  /**
   * The ways of packets through chains, as many as `observe.trace` asks for; whole ways only. Shared: the first subscriber starts
   * reading, the last one ends it, and what nobody reads stays in the ring until that is full. Ends with the pipeline, or where
   * `observe` switches traces off. An ArgumentError where the pipeline tells of none.
   */
  readonly trace$: Observable<TracedPathOf<L>>;
  /** Packets that chains drop or abort, as `observe.drops` asks for; otherwise as `trace$`. */
  readonly drops$: Observable<DropOf<L>>;
  /**
   * All events that stages send, of each `events()` that they use, with its name. Shared as `trace$`; what has its one reader
   * already, by `consume()` or a loop, is an ArgumentError here, as this stream is there.
   */
  readonly events$: Observable<PipelineEvent>;
  /**
   * Hot swap: same hook, no exit that the old one did not have, and the metadata that others rely on. The place keeps its
   * name. No packet is lost; returns once nothing runs the old stage. Replacements happen one after the other.
   * Throws ChainError, CompileError, or what the engine throws, and then the old chain stays as it was; but where the engine
   * fails to wait for the old stage's last packets, the new one runs and the old one stays open until the pipeline stops.
   */
  replace<A extends AnyStage, B extends AnyStage>(old: Checked<A, CheckKnown<A, L>>, by: Checked<B, CheckReplace<A, B, L>>): Promise<void>;
  /**
   * Goes over to another pipeline of the same name at the same hooks, in one step: stages, edges, maps and functions may all
   * differ. Every packet meets the old chain of a hook or the new one; none is lost. Hooks change from the stack outwards: TC
   * egress, TC ingress, XDP; where metadata cross, a packet is in the old chains at both XDP and TC ingress, or in the new ones.
   * Maps that both declare stay, stages of the same name count on, functions of the same name and stages keep their controller.
   * Entries of maps that the next pipeline has in another form come along with `migrate`, while the old chains run.
   * Returns this pipeline under its new types, once nothing of the old one runs any more; waits for its turn with `replace`.
   * Throws ChainError, ConflictError, CompileError, MigrationError, or what the engine and controllers throw, and then all is as it
   * was; but for an error behind the change, as with `replace`, of a controller that is stopped, or of the last entries of a map,
   * which find no room (`problem` is `room`).
   */
  update<L2>(next: Pipeline<string, L2> & SameHooks<L, L2>, options?: UpdateOptions): Promise<Running<L2>>;
  /**
   * Tells of packets otherwise from now on: what is left out stays as it is, `false` switches off. Programs are compiled anew and
   * packets led over in one step, as with `update`; counts, rings and streams go on, a stream that is switched off completes.
   * Throws ArgumentError for what cannot be, and what `update` does; then all is as it was.
   */
  observe(asked: ObserveOptions): Promise<void>;
  /**
   * Leads some packets through another pipeline's chains, as `update` would all of them: a share of flows, or those that a stage
   * lets out through its exit `canary`. The other packets stay. A program in front of both chains sorts packets at every hook
   * where they differ; where metadata cross, TC ingress goes by what XDP did. Maps that both declare are shared, counters are apart.
   * Meanwhile `replace`, `update` and another canary are refused, test runs have no path, and `stop` rolls it back.
   * Of a persistent pipeline both sides go on where the process dies, until the next process leads packets to what it declares.
   * Throws what `update` does, and ArgumentError for a share that is none.
   */
  canary<L2>(next: Pipeline<string, L2> & SameHooks<L, L2>, options: CanaryOptions): Promise<Canary<Running<L2>, Stats<L>, Stats<L2>>>;
  /**
   * Sends one packet through one chain, off the wire: the one that packets meet first, unless said otherwise. Counters and
   * maps change as for any packet. Packets of one chain go in one after the other.
   */
  run<K extends HooksOf<L> = HooksOf<L>>(packet: Uint8Array, options?: TestPacket<L, K>): Promise<RunResult<L[K] & string>>;
  /**
   * Sends a packet its whole way through the pipeline, from hook to hook as long as it passes. Engines that run packets
   * themselves have it (`userspace`); throws UnsupportedError on others, and what programs throw.
   */
  inject(packet: Uint8Array, options?: InjectOptions): Promise<Injected>;
  /** The same for many packets, in their order. Packets are taken as results are asked for. */
  inject(packets: PacketSource, options?: InjectOptions): AsyncIterable<Injected>;
  /**
   * Resolves once the packets that the engine brought along are through (`userspace({ pcap, out })`); rejects with what reading,
   * running or writing them throws. Throws ArgumentError where the engine brought none.
   */
  replayed(): Promise<ReplayTotals>;
  /** Stages and edges as they are now. */
  describe(): PipelineDescription<L>;
  /**
   * Maps of an earlier run of a persistent pipeline that nothing uses now, by name: they keep what they hold until they are
   * forgotten.
   */
  readonly orphans: readonly string[];
  /** Deletes such a map with all that it holds. Throws ArgumentError for one that is used or not there. */
  forget(map: string): void;
  /**
   * Detaches the chains, stops controllers last first, and closes everything; of a persistent pipeline it deletes all that is
   * pinned. Idempotent.
   */
  stop(): Promise<void>;
  /**
   * Lets go of a persistent pipeline, which goes on: controllers stop, and another process can run it. Disposing of it does the
   * same. Throws ArgumentError for a pipeline that is not persistent.
   */
  leave(): Promise<void>;
}

type HooksOf<L> = keyof L & ChainHook;

/** What `trace$` of a pipeline gives, by its chains and their stages. */
export type TracedPathOf<L> = { [K in keyof L & PacketHook]: TracedPath<K, L[K] & string> }[keyof L & PacketHook];
/** What `drops$` of a pipeline gives. */
export type DropOf<L> = { [K in keyof L & PacketHook]: Drop<K, L[K] & string> }[keyof L & PacketHook];

/** A pipeline, for what takes another one: `Pipeline` of pipeline.ts, as far as it matters here. */
interface Pipeline<N extends string, L> extends NextPipeline {
  readonly name: N;
  describe(): PipelineDescription<L>;
}
/** For the parameter of `update`: the same hooks, or a message. */
export type SameHooks<L, L2> = [keyof L, keyof L2] extends [keyof L2, keyof L]
  ? unknown
  : `it runs at ${keyof L & string}, and cannot be changed to ${keyof L2 & string}`;

/** Where a packet of `run` goes in, and with what. */
export interface TestPacket<L, K extends HooksOf<L> = HooksOf<L>> {
  readonly hook?: K;
  /** Runs in a row over the same bytes, as the last one left them; `durationNs` is that of one. Default 1. */
  readonly repeat?: number;
  /** TC: fields of the packet beside its bytes. */
  readonly skb?: SkbContext;
  /** Chains on sockets: the connection whose data the bytes are, or which event it is. `userspace()` has it. */
  readonly socket?: SocketContext;
}

/** What a running pipeline is made of. */
export interface RunningParts {
  readonly name: string;
  readonly interfaces: readonly string[];
  readonly live: LivePipeline;
  readonly composition: Composition;
  readonly registry: MapRegistry;
  readonly clock: SchedulerLike;
  readonly statsIntervalMs: number;
  /** Set where the engine brought packets along. */
  readonly replay: Replay | undefined;
  /** Set where the pipeline outlives its process. */
  readonly keeper: Keeper | undefined;
  /** Undoes the run. */
  readonly resources: AsyncDisposableStack;
}

/** Puts a running pipeline's parts behind its types. */
export function runningOf<L>(parts: RunningParts): Running<L> {
  // The types of `replace` and `controller` only check; what they let through is plain.
  return new RunningPipeline(parts) as unknown as Running<L>;
}

/** A layout that the types know nothing about. */
type PlainLayout = Readonly<Record<ChainHook, string>>;
type PlainStats = Readonly<Record<string, unknown>> & Pick<Stats<PlainLayout>, 'roots' | 'lost'>;

/** Counters as users see them. */
function plainStats(all: ReadonlyMap<ChainHook, ChainStats>): PlainStats {
  const chains = [...all];
  const [stages, roots] = [
    chains.map(([hook, chain]) => [hook, chain.stages] as const),
    chains.map(([hook, chain]) => [hook, chain.root] as const),
  ];
  return {
    ...Object.fromEntries(stages),
    roots: Object.fromEntries(roots) as PlainStats['roots'],
    lost: sumOf(chains.map(([, { lost }]) => lost)),
  };
}

class RunningPipeline implements AsyncDisposable {
  readonly name: string;
  readonly interfaces: readonly string[];
  readonly stats$: Observable<PlainStats>;
  readonly trace$: Observable<TracedPath>;
  readonly drops$: Observable<Drop>;
  readonly events$: Observable<PipelineEvent>;
  readonly #parts: RunningParts;
  /** Tells those too that come later. */
  readonly #stopped = new ReplaySubject<void>(1);
  readonly #changed = new Subject<void>();
  /** The change that goes on, or the last one. */
  #queue: Promise<unknown> = Promise.resolve();
  #stop: Promise<void> | undefined;
  #canary: { readonly live: LiveCanary; end(): void } | undefined;

  constructor(parts: RunningParts) {
    this.#parts = parts;
    this.name = parts.name;
    this.interfaces = parts.interfaces;
    const { live, registry } = parts;
    const { trace$, drops$ } = observedPackets({
      observation$: live.observation$.pipe(takeUntil(this.#stopped)),
      registry,
      lost: () => live.lost(),
    });
    [this.trace$, this.drops$] = [trace$, drops$];
    this.events$ = pipelineEvents({ registry, plan: () => (this.#stop === undefined ? live.plan : undefined), changed$: this.#changed });
    this.stats$ = timer(0, parts.statsIntervalMs, parts.clock).pipe(
      map(() => this.stats()),
      takeUntil(this.#stopped),
      shareReplay({ bufferSize: 1, refCount: true }),
    );
  }

  map(declaration: MapDecl<unknown, unknown>): unknown {
    return this.handle(declaration);
  }

  handle(resource: Resource<unknown, unknown>): unknown {
    this.#checkRunning();
    return this.#parts.registry.handle(resource);
  }

  controller(of: AnyFunction): unknown {
    this.#checkRunning();
    return this.#parts.composition.controller(of);
  }

  stats(): PlainStats {
    this.#checkRunning();
    const { live } = this.#parts;
    if (!live.observation.counters)
      throw new ArgumentError(`pipeline '${this.name}' counts nothing`, { hint: 'run it without observe: { counters: false }' });
    return plainStats(live.stats());
  }

  async replace(old: AnyStage, by: AnyStage): Promise<void> {
    await this.#change('replace a stage', () => this.#parts.live.replace(old.name, by));
  }

  async update(next: NextPipeline, options: UpdateOptions = {}): Promise<this> {
    await this.#change('be updated', () => updatePipeline(this.#parts, next, options));
    return this;
  }

  async observe(asked: ObserveOptions): Promise<void> {
    await this.#change('tell of packets otherwise', () => this.#parts.live.observe(asked));
  }

  async canary(next: NextPipeline, options: CanaryOptions): Promise<Canary<this, PlainStats, PlainStats>> {
    const { clock, statsIntervalMs } = this.#parts;
    return this.#change('begin another', async () => {
      const live = await LiveCanary.start(this.#parts, next, options);
      const ended = (): void => {
        this.#canary = undefined;
      };
      const canary = new RunningCanary<this, PlainStats, PlainStats>({
        description: live.describe(),
        stats: () => ({ present: this.stats(), canary: plainStats(live.stats()) }),
        promote: () => this.#inTurn(() => live.promote().then(ended)).then(() => this),
        rollBack: () => this.#inTurn(() => live.rollBack().then(ended)),
        clock,
        statsIntervalMs,
      });
      this.#canary = { live, end: () => canary.end('rolled back') };
      return canary;
    });
  }

  /** Changes happen one after the other, and none while there is a canary. */
  #change<T>(what: string, make: () => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      if (this.#canary)
        throw new ArgumentError(`pipeline '${this.name}' has a canary, and cannot ${what} meanwhile`, {
          hint: 'promote it or roll it back first',
        });
      return tellingBoth(make);
    });
  }

  async #inTurn<T>(make: () => Promise<T>): Promise<T> {
    this.#checkRunning();
    const done = this.#queue.then(make).finally(() => this.#changed.next());
    this.#queue = done.catch(() => undefined);
    return done;
  }

  async run(packet: Uint8Array, { hook, repeat, skb, socket }: TestPacket<PlainLayout> = {}): Promise<RunResult> {
    this.#checkRunning();
    const { live } = this.#parts;
    return live.run(hook ?? (live.hooks[0] as ChainHook), {
      packet,
      ...(repeat === undefined ? {} : { repeat }),
      ...(skb ? { skb } : {}),
      ...(socket ? { socket } : {}),
    });
  }

  inject(packets: Uint8Array | PacketSource, options: InjectOptions = {}): Promise<Injected> | AsyncIterable<Injected> {
    this.#checkRunning();
    const { live } = this.#parts;
    return packets instanceof Uint8Array ? Promise.try(() => injectOne(live, packets, options)) : inject(live, packets, options);
  }

  async replayed(): Promise<ReplayTotals> {
    const { replay } = this.#parts;
    if (replay === undefined) throw nothingToReplay(this.name);
    return replay.done;
  }

  describe(): PipelineDescription<PlainLayout> {
    return describePipeline(this.name, this.#parts.live.plan);
  }

  get orphans(): readonly string[] {
    return this.#parts.keeper?.orphans ?? [];
  }

  forget(map: string): void {
    this.#checkRunning();
    this.#requireKeeper('there is no map to forget').forget(map);
  }

  stop(): Promise<void> {
    this.#stop ??= this.#end('stop');
    return this.#stop;
  }

  async leave(): Promise<void> {
    this.#requireKeeper('it ends with its process');
    this.#stop ??= this.#end('leave');
    await this.#stop;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#parts.keeper ? this.leave() : this.stop();
  }

  #requireKeeper(otherwise: string): Keeper {
    const { keeper } = this.#parts;
    if (keeper) return keeper;
    throw new ArgumentError(`pipeline '${this.name}' is not persistent: ${otherwise}`, { hint: 'run(engine, { persist: true })' });
  }

  /** Makes a change in its turn. Also one that failed may have been made. */
  async #end(ending: Ending): Promise<void> {
    this.#stopped.next();
    this.#stopped.complete();
    await this.#queue;
    await this.#canary?.live.end();
    this.#canary?.end();
    await this.#parts.live.idle();
    if (this.#parts.keeper) this.#parts.keeper.ending = ending;
    await this.#parts.resources.disposeAsync();
    this.#changed.complete();
  }

  #checkRunning(): void {
    if (this.#stop !== undefined) throw new ArgumentError(`pipeline '${this.name}' was stopped`);
  }
}
