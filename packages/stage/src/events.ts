/** Events: a ring buffer that knows how much it lost. */
import type { Observable, ObservableInput } from 'rxjs';
import { fn } from './fn.ts';
import { perCpuArray } from './map.ts';
import { type RingBufferHandle, ringBuffer } from './ring-buffer.ts';
import { bool, type Schema, u64 } from './schema.ts';
import { defineStructure, type Structure } from './structure.ts';

/** What programs do with events. */
export interface EventOps<T> {
  /** Tells the control plane. False where the ring is full: the event is lost then, and counted. */
  send(event: T): boolean;
}

/** What the control plane does with events: `received + lost` is how many were sent, once none is pending. */
export interface EventHandle<T> extends RingBufferHandle<T> {
  /** Events that found the ring full, on all CPUs. */
  readonly lost: bigint;
}

/** Typed events, see `events`. */
export interface Events<T> extends Structure<EventOps<T>, EventHandle<T>> {}

/** Options of events. */
export interface EventOptions<T> {
  readonly name: string;
  readonly value: Schema<T>;
  /** Size of the ring as `ringBuffer` takes it; default 262,144: 6,553 events of 32 bytes. */
  readonly bytes?: number;
}

const DEFAULT_BYTES = 256 * 1024;

/** Declares events. Throws ArgumentError as `ringBuffer` does. */
export function events<T>({ name, value, bytes = DEFAULT_BYTES }: EventOptions<T>): Events<T> {
  const ring = ringBuffer({ name, value, bytes });
  const losses = perCpuArray({ name: `${name}.losses`, value: u64, maxEntries: 1 });
  const structure = defineStructure({
    name,
    maps: { ring, losses },
    fns: {
      send: fn([value], bool, { ring, losses }, (event, { ring, losses }) => {
        if (ring.output(event)) return true;
        const lost = losses.lookup(0);
        if (lost) lost.value += 1n;
        return false;
      }),
    },
    handle: ({ ring, losses }) => eventHandle(ring, () => losses.sum(0) ?? 0n),
  });
  declared.add(structure);
  return structure as Events<T>;
}

/** True for what `events` declared. */
export function isEvents(value: unknown): value is Events<unknown> {
  return typeof value === 'object' && value !== null && declared.has(value);
}

const declared = new WeakSet<object>();

function eventHandle<T>(ring: RingBufferHandle<T>, lost: () => bigint): EventHandle<T> {
  return {
    get events$(): Observable<T> {
      return ring.events$;
    },
    // biome-ignore lint/suspicious/noConfusingVoidType: as in RingBufferHandle
    consume: <R>(project: (event: T) => ObservableInput<R> | void) => ring.consume(project),
    [Symbol.asyncIterator]: () => ring[Symbol.asyncIterator](),
    get received() {
      return ring.received;
    },
    get pending() {
      return ring.pending;
    },
    get lost() {
      return lost();
    },
  };
}
