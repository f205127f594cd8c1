/** What a running pipeline tells of single packets, as streams that share one reader each. */
import { ArgumentError } from '@tailrace/bpf';
import type { WayOutRecord } from '@tailrace/compiler';
import { concatMap, distinctUntilChanged, EMPTY, map, mergeMap, type Observable, of, share, take, takeWhile, throwError } from 'rxjs';
import type { PacketHook } from './chain-hook.ts';
import type { Observation, Told } from './observation.ts';
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

/** Makes the streams; nothing is read until somebody listens. */
export function observedPackets({ observation$, registry, lost }: ObservedParts): ObservedPackets {
  const count = oncePerTurn(lost);
  return {
    trace$: told(observation$, 'trace', '{ trace: { every: 1000 } }', (observation, { ring }) =>
      pathsOf(observation, registry.handle(ring).events$, () => count().trace),
    ),
    drops$: told(observation$, 'drops', '{ drops: true }', (observation, { ring }) =>
      dropsOf(observation, registry.handle(ring).events$, () => count().drops),
    ),
  };
}

/** What streams are made of. */
export interface ObservedParts {
  /** At once, and after each change: rings of one are open until the next is told. Completes with the pipeline. */
  readonly observation$: Observable<Observation>;
  readonly registry: MapRegistry;
  /** Reads the counters of records that were lost. */
  lost(): Lost;
}

/**
 * One kind of records, whatever ring they come by: a ring that is given up is read to its end, then the next one is. It ends where
 * they are asked for no more.
 */
function told<T>(
  observation$: Observable<Observation>,
  kind: 'trace' | 'drops',
  option: string,
  read: (observation: Observation, told: Told) => Observable<T>,
): Observable<T> {
  const asked = observation$.pipe(
    map((observation) => ({ observation, told: observation[kind] })),
    takeWhile((one): one is { readonly observation: Observation; readonly told: Told } => one.told !== undefined),
    distinctUntilChanged((one, other) => one.told.ring === other.told.ring),
    concatMap((one) => read(one.observation, one.told)),
    share(),
  );
  return observation$.pipe(
    take(1),
    mergeMap((observation) => (observation[kind] ? asked : throwError(() => notAsked(kind, option)))),
  );
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
  );
}

function notAsked(kind: 'trace' | 'drops', option: string): ArgumentError {
  return new ArgumentError(`the pipeline tells of no ${kind === 'trace' ? 'traces' : 'drops'}`, {
    hint: `run it with observe: ${option}, or ask for it now: running.observe(${option})`,
  });
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
