/** What is behind a `Running`: one turn for each change, streams that end with the pipeline, and its end. */
import { ArgumentError } from '@tailrace/bpf';
import type { AnyFunction, AnyStage, MapDecl, Resource } from '@tailrace/stage';
import { map, type Observable, ReplaySubject, type SchedulerLike, Subject, shareReplay, takeUntil, timer } from 'rxjs';
import { type CanaryOptions, LiveCanary } from './canary.ts';
import type { RunResult } from './chain.ts';
import type { ChainHook } from './chain-hook.ts';
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
import { allDone, tellingBoth } from './rollback.ts';
import type { Running, TestPacket } from './running.ts';
import { type Canary, RunningCanary } from './running-canary.ts';
import { type ChainStats, type Stats, sumOf } from './stats.ts';
import type { TracedPath } from './trace.ts';
import { type NextPipeline, type UpdateOptions, updatePipeline } from './update.ts';

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

  /** Closes everything, behind changes that are under way. */
  async #end(ending: Ending): Promise<void> {
    this.#stopped.next();
    this.#stopped.complete();
    await this.#queue;
    const { live, keeper, resources } = this.#parts;
    await allDone(
      `pipeline '${this.name}'`,
      () => this.#canary?.live.end(),
      () => this.#canary?.end(),
      () => live.idle(),
      () => {
        if (keeper) keeper.ending = ending;
        return resources.disposeAsync();
      },
      () => this.#changed.complete(),
    );
  }

  #checkRunning(): void {
    if (this.#stop !== undefined) throw new ArgumentError(`pipeline '${this.name}' was stopped`);
  }
}
