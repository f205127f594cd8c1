/**
 * What a running pipeline tells of its packets beside its maps: counters, traces, drops. What is not asked for is not compiled in.
 * It is settled when the pipeline starts: the rings and the state have their sizes from then on.
 */
import { ArgumentError } from '@tailrace/bpf';
import { CB_BYTES, MAX_HEADER_BYTES, type Placement, recordSchema, type TraceRoot, type WayOutRecord } from '@tailrace/compiler';
import { type RingBuffer, ringBuffer } from '@tailrace/stage';
import { type ChainHook, isPacketHook, type PacketHook } from './chain-hook.ts';
import type { MapClaim } from './registry.ts';
import { DROPS_COUNTDOWN, DROPS_LOST, MARK_OFFSET, TRACE_COUNTDOWN, TRACE_LOST, TRACE_SEQUENCE } from './state.ts';

/** What a pipeline is asked to tell. Traces and drops are of chains on packets; those on sockets have counters. */
export interface ObserveOptions {
  /** Counters of every stage; default true. Without them there are no `stats()` and no paths of test packets. */
  readonly counters?: boolean;
  /** The ways of one packet in `every`, for each CPU and chain, in `trace$`. Default none. */
  readonly trace?: TellOptions & { readonly every: number };
  /** Packets that a chain drops or aborts, in `drops$`: `true` for all, without their bytes; or one in `every`. Default false. */
  readonly drops?: boolean | (TellOptions & { readonly every?: number });
}

/** How packets are told of. */
export interface TellOptions {
  /** Bytes of the packet that are copied at each step, from its first on: 0..128, default 0. */
  readonly headerBytes?: number;
  /** Size of the ring as `ringBuffer` takes it; default 262,144. */
  readonly bytes?: number;
}

/** A stage by its number in records. */
export interface ToldPlace {
  readonly hook: PacketHook;
  readonly place: string;
  /** Its outcomes, by their index in records. */
  readonly names: readonly string[];
}

/** One of the two kinds of records. */
interface Told {
  readonly every: number;
  readonly headerBytes: number;
  readonly ring: RingBuffer<WayOutRecord>;
}

/** Map reference names of the rings, which no stage's map can have. */
const rings = { trace: 'chain:trace', drops: 'chain:drops' } as const;
const DEFAULT_BYTES = 256 * 1024;
const MAX_EVERY = 0xffff_ffff;

/** What is told, how it is compiled in, and what records mean. */
export class Observation {
  readonly counters: boolean;
  readonly trace: Told | undefined;
  readonly drops: Told | undefined;
  readonly #numbers = new Map<string, number>();
  readonly #places: ToldPlace[] = [];

  /** Throws ArgumentError for what cannot be. */
  constructor({ counters = true, trace, drops = false }: ObserveOptions = {}) {
    this.counters = counters;
    this.trace = trace && told('trace', trace);
    this.drops = drops === false ? undefined : told('drops', drops === true ? {} : drops);
  }

  /** Counts, and tells of no single packets. */
  get isPlain(): boolean {
    return this.counters && !this.trace && !this.drops;
  }

  /** What a stage's program tells, in chains on packets; the same stage with the same outcomes has the same number, for good. */
  placement(hook: ChainHook, place: string, names: readonly string[]): Pick<Placement, 'observe'> {
    const { trace, drops } = this;
    if (!isPacketHook(hook) || (!trace && !drops)) return {};
    const mark = this.#mark(hook);
    return {
      observe: {
        place: this.#number({ hook, place, names }),
        ...(trace ? { trace: { map: rings.trace, lost: TRACE_LOST, headerBytes: trace.headerBytes, mark } } : {}),
        ...(drops
          ? {
              drops: { map: rings.drops, lost: DROPS_LOST, headerBytes: drops.headerBytes, every: drops.every, countdown: DROPS_COUNTDOWN },
            }
          : {}),
      },
    };
  }

  /** What a chain's root marks. */
  root(hook: PacketHook): { readonly trace?: TraceRoot } {
    if (!this.trace) return {};
    return { trace: { every: this.trace.every, mark: this.#mark(hook), countdown: TRACE_COUNTDOWN, sequence: TRACE_SEQUENCE } };
  }

  /** The rings, by the names that programs refer to them by. */
  get rings(): ReadonlyMap<string, RingBuffer<WayOutRecord>> {
    const { trace, drops } = this;
    return new Map([...(trace ? [[rings.trace, trace.ring] as const] : []), ...(drops ? [[rings.drops, drops.ring] as const] : [])]);
  }

  claims(pipeline: string): readonly MapClaim[] {
    return [...this.rings.values()].map((map) => ({ map, scope: pipeline, user: 'observe' }));
  }

  /** The stage that a record is of. */
  place(number: number): ToldPlace | undefined {
    return this.#places[number];
  }

  #number(told: ToldPlace): number {
    const key = JSON.stringify(told);
    const number = this.#numbers.get(key) ?? this.#places.push(told) - 1;
    this.#numbers.set(key, number);
    return number;
  }

  #mark(hook: PacketHook): number {
    return hook === 'xdp' ? MARK_OFFSET : CB_BYTES - 4;
  }
}

function told(
  name: 'trace' | 'drops',
  { every = 1, headerBytes = 0, bytes = DEFAULT_BYTES }: TellOptions & { readonly every?: number },
): Told {
  if (!Number.isInteger(every) || every < 1 || every > MAX_EVERY)
    throw new ArgumentError(`observe: ${name}.every is ${every}, expected an integer from 1 on`);
  if (!Number.isInteger(headerBytes) || headerBytes < 0 || headerBytes > MAX_HEADER_BYTES)
    throw new ArgumentError(`observe: ${name}.headerBytes is ${headerBytes}, expected 0..${MAX_HEADER_BYTES}`);
  return { every, headerBytes, ring: ringBuffer({ name, value: recordSchema(headerBytes), bytes }) };
}
