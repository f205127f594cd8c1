/** A pipeline that runs, as users hold it: its maps, controllers and counters, and hot swap. running-pipeline.ts is what is behind it. */
import type { SkbContext, SocketContext } from '@tailrace/bpf';
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
import type { Observable } from 'rxjs';
import type { CanaryOptions } from './canary.ts';
import type { RunResult } from './chain.ts';
import type { ChainHook, PacketHook } from './chain-hook.ts';
import type { PipelineDescription } from './description.ts';
import type { Injected, InjectOptions, PacketSource } from './injection.ts';
import type { ObserveOptions } from './observation.ts';
import type { Drop } from './observed-packets.ts';
import type { PipelineEvent } from './pipeline-events.ts';
import type { ReplayTotals } from './replay.ts';
import type { Canary } from './running-canary.ts';
import type { Stats } from './stats.ts';
import type { TracedPath } from './trace.ts';
import type { NextPipeline, UpdateOptions } from './update.ts';

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
