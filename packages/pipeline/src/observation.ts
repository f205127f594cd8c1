/**
 * What a running pipeline tells of its packets beside its maps: counters, traces, drops. What is not asked for is not compiled in.
 */
import { ArgumentError } from '@tailrace/bpf';
import { CB_BYTES, MAX_HEADER_BYTES, type Placement, recordSchema, type TraceRoot, type WayOutRecord } from '@tailrace/compiler';
import { mapDifferences, type RingBuffer, ringBuffer } from '@tailrace/stage';
import { type ChainHook, isPacketHook, type PacketHook } from './chain-hook.ts';
import type { MapClaim } from './registry.ts';
import { type StateLayout, telling } from './state.ts';

/** What a pipeline is asked to tell. Traces and drops are of chains on packets; those on sockets have counters. */
export interface ObserveOptions {
  /** Counters of every stage; default true. Without them there are no `stats()` and no paths of test packets. */
  readonly counters?: boolean;
  /** The ways of one packet in `every`, for each CPU and chain, in `trace$`. Default false. */
  readonly trace?: false | (TellOptions & { readonly every: number });
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
export interface Told {
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
  readonly #options: ObserveOptions;
  readonly #places: Places;

  /** Throws ArgumentError for what cannot be. What stays of `before`, rings and numbers of stages, is that one's. */
  constructor(options: ObserveOptions = {}, before?: Observation) {
    const { counters = true, trace = false, drops = false } = options;
    this.#options = options;
    this.counters = counters;
    this.trace = trace === false ? undefined : told('trace', trace, before?.trace?.ring);
    this.drops = drops === false ? undefined : told('drops', drops === true ? {} : drops, before?.drops?.ring);
    this.#places = before ? before.#places : new Places();
  }

  /** The same, but for what is asked for; itself where that is as it was. Throws ArgumentError for what cannot be. */
  changed(asked: ObserveOptions): Observation {
    const next = new Observation({ ...this.#options, ...asked }, this);
    const same = ({ counters, trace, drops }: Observation): string =>
      JSON.stringify([counters, ...[trace, drops].map((kind) => kind && [kind.every, kind.headerBytes])]);
    const sameRings = next.trace?.ring === this.trace?.ring && next.drops?.ring === this.drops?.ring;
    return sameRings && same(next) === same(this) ? this : next;
  }

  /** What a stage's program tells, in chains on packets; the same stage with the same outcomes has the same number, for good. */
  placement(hook: ChainHook, { telling: start }: StateLayout, place: string, names: readonly string[]): Pick<Placement, 'observe'> {
    const { trace, drops } = this;
    if (!isPacketHook(hook) || start === undefined || (!trace && !drops)) return {};
    const ring = (kind: 'trace' | 'drops', { headerBytes }: Told) => ({
      map: rings[kind],
      lost: start + telling[`${kind}Lost`],
      headerBytes,
    });
    return {
      observe: {
        place: this.#places.number({ hook, place, names }),
        ...(trace ? { trace: { ...ring('trace', trace), mark: markAt(hook, start) } } : {}),
        ...(drops ? { drops: { ...ring('drops', drops), every: drops.every, countdown: start + telling.dropsCountdown } } : {}),
      },
    };
  }

  /** How packets that are traced are marked, in front of a chain on packets; undefined where none are. */
  marking(hook: ChainHook, { telling: start }: StateLayout): TraceRoot | undefined {
    if (!this.trace || start === undefined || !isPacketHook(hook)) return undefined;
    const [countdown, sequence] = [start + telling.traceCountdown, start + telling.traceSequence];
    return { every: this.trace.every, mark: markAt(hook, start), countdown, sequence };
  }

  /** The rings, by the names that programs refer to them by. */
  get rings(): ReadonlyMap<string, RingBuffer<WayOutRecord>> {
    const { trace, drops } = this;
    return new Map([...(trace ? [[rings.trace, trace.ring] as const] : []), ...(drops ? [[rings.drops, drops.ring] as const] : [])]);
  }

  /** For the registry. What others have told by numbers of their own is no use to the next process. */
  claims(pipeline: string): readonly MapClaim[] {
    return [...this.rings.values()].map((map) => ({ map, scope: `${pipeline}/observe`, user: 'observe', transient: true }));
  }

  /** The stage that a record is of. */
  place(number: number): ToldPlace | undefined {
    return this.#places.at(number);
  }
}

/** Where the mark is: in the state, whose part for this begins at `start`, or in `cb`. */
const markAt = (hook: PacketHook, start: number): number => (hook === 'xdp' ? start + telling.mark : CB_BYTES - 4);

/** Stages and their numbers. */
class Places {
  readonly #numbers = new Map<string, number>();
  readonly #told: ToldPlace[] = [];

  number(told: ToldPlace): number {
    const key = JSON.stringify(told);
    const number = this.#numbers.get(key) ?? this.#told.push(told) - 1;
    this.#numbers.set(key, number);
    return number;
  }

  at(number: number): ToldPlace | undefined {
    return this.#told[number];
  }
}

function told(
  name: 'trace' | 'drops',
  { every = 1, headerBytes = 0, bytes = DEFAULT_BYTES }: TellOptions & { readonly every?: number },
  before: RingBuffer<WayOutRecord> | undefined,
): Told {
  if (!Number.isInteger(every) || every < 1 || every > MAX_EVERY)
    throw new ArgumentError(`observe: ${name}.every is ${every}, expected an integer from 1 on`);
  if (!Number.isInteger(headerBytes) || headerBytes < 0 || headerBytes > MAX_HEADER_BYTES)
    throw new ArgumentError(`observe: ${name}.headerBytes is ${headerBytes}, expected 0..${MAX_HEADER_BYTES}`);
  const ring = ringBuffer({ name, value: recordSchema(headerBytes), bytes });
  return { every, headerBytes, ring: before && mapDifferences(before, ring).length === 0 ? before : ring };
}
