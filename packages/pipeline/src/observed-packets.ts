/** What a running pipeline tells of single packets, as streams that share one reader each. */
import { ArgumentError } from '@tailrace/bpf';
import type { WayOutRecord } from '@tailrace/compiler';
import { EMPTY, map, mergeMap, type Observable, of, share, throwError } from 'rxjs';
import type { PacketHook } from './chain-hook.ts';
import type { Observation } from './observation.ts';
import type { PathStep } from './path.ts';
import type { MapRegistry } from './registry.ts';
import type { Lost } from './stats.ts';
import { PathAssembler, type TracedPath } from './trace.ts';
import { type SeenPacket, wayOutOf } from './way-out.ts';

/** A packet that a chain dropped or aborted. */
export interface Drop<K extends PacketHook = PacketHook, N extends string = string> extends SeenPacket {
  readonly hook: K;
  /** The stage that it left last. */
  readonly stage: N;
  /** What became of it: `drop`, or `abort` at XDP. */
  readonly verdict: 'abort' | 'drop';
  /** How it left the stage: by that verdict, by `next` or an exit that leads there, or by its `onMiss`. */
  readonly by: PathStep['verdict'] | 'miss';
  /** The exit's label, where it left by one. */
  readonly exit?: string;
  /** Why, where the stage says so. */
  readonly reason?: string;
  readonly cpu: number;
  /** Drops that found the ring full so far, and are not told. */
  readonly lost: bigint;
}

/** The streams. */
export interface ObservedPackets {
  readonly trace$: Observable<TracedPath>;
  readonly drops$: Observable<Drop>;
}

/** Makes the streams; nothing is read until somebody listens. `lost` reads the counters of records that were lost. */
export function observedPackets(observation: Observation, registry: MapRegistry, lost: () => Lost): ObservedPackets {
  const { trace, drops } = observation;
  const count = oncePerTurn(lost);
  return {
    trace$: trace
      ? pathsOf(observation, registry.handle(trace.ring).events$, () => count().trace)
      : notAsked('traces', 'trace: { every: 1000 }'),
    drops$: drops ? dropsOf(observation, registry.handle(drops.ring).events$, () => count().drops) : notAsked('drops', 'drops: true'),
  };
}

/** An assembler for each time that reading begins: what came before belongs to nobody's way. */
function pathsOf(observation: Observation, records: Observable<WayOutRecord>, lost: () => bigint): Observable<TracedPath> {
  return of(undefined).pipe(
    mergeMap(() => {
      const assembler = new PathAssembler(observation);
      return records.pipe(
        mergeMap((record) => {
          const path = assembler.take(record);
          return path ? of({ ...path, lost: lost() }) : EMPTY;
        }),
      );
    }),
    share(),
  );
}

function dropsOf(observation: Observation, records: Observable<WayOutRecord>, lost: () => bigint): Observable<Drop> {
  const hasHeader = (observation.drops?.headerBytes ?? 0) > 0;
  return records.pipe(
    map((record): Drop => {
      const { hook, cpu, step, verdict, seen } = wayOutOf(observation, record, hasHeader);
      const { stage, missed: _, verdict: by = 'miss', ...why } = { verdict: undefined, ...step };
      return { hook, stage, verdict: verdict as Drop['verdict'], by, ...why, ...seen, cpu, lost: lost() };
    }),
    share(),
  );
}

function notAsked(what: string, option: string): Observable<never> {
  return throwError(() => new ArgumentError(`the pipeline tells of no ${what}`, { hint: `run it with observe: { ${option} }` }));
}

/** A slice of records is read in one go: their counter is read once for all of them. */
function oncePerTurn<T>(read: () => T): () => T {
  let known: { readonly value: T } | undefined;
  return () => {
    if (known) return known.value;
    known = { value: read() };
    queueMicrotask(() => {
      known = undefined;
    });
    return known.value;
  };
}
