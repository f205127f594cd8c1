/**
 * Perf event arrays: what many programs in C tell their control plane by (`bpf_perf_event_output`). Stages in TypeScript have
 * `events`, one ring for all CPUs, in order.
 */
import { ArgumentError } from '@tailrace/bpf';
import { declareMap, type MapDecl } from './map-decl.ts';
import type { phantom } from './resource.ts';
import type { RingBufferHandle } from './ring-buffer.ts';
import { type Schema, u32 } from './schema.ts';

/** What programs in TypeScript see of a perf event array: nothing, it is bound to the map of an object. */
export interface PerfSlots {
  readonly [phantom]: 'perfEvents';
}

/**
 * What the control plane does with perf events: as with those of a ring buffer, but that each CPU has a ring of its own, so that
 * only events of one CPU are in order, and that the rings are there while somebody reads only: what programs write in between is
 * refused (-ENOENT), and what was not read when the last reader goes is gone.
 */
export interface PerfEventsHandle<T> extends RingBufferHandle<T> {
  /** Events that found a ring full, on all CPUs, since the pipeline runs. */
  readonly lost: bigint;
}

/** A perf event array. */
export interface PerfEvents<T> extends MapDecl<PerfSlots, PerfEventsHandle<T>> {
  readonly type: 'perfEventArray';
}

/** An event and what the program appended of its packet. */
export interface PerfPacket<T> {
  readonly value: T;
  /**
   * Bytes behind the value, the packet's first ones. Up to 7 bytes at the end may be no part of it: records are rounded up, and
   * only the program knows how many it asked for.
   */
  readonly packet: Uint8Array;
}

/** Options of perf events. */
export interface PerfEventOptions<T> {
  /** See `MapOptions`. */
  readonly name: string;
  /** What an event begins with. */
  readonly value: Schema<T>;
  /** Slots, where the object says a number; default one for each CPU. */
  readonly maxEntries?: number;
  /** Bytes of each CPU's ring, rounded up to a power of two of whole pages; default 65,536. */
  readonly bytes?: number;
  /** See `MapDecl.global`. */
  readonly global?: boolean;
}

/** Declares perf events; with `packet: true`, events come with what programs appended of their packet. Throws ArgumentError. */
export function perfEvents<T>(options: PerfEventOptions<T> & { readonly packet: true }): PerfEvents<PerfPacket<T>>;
export function perfEvents<T>(options: PerfEventOptions<T> & { readonly packet?: false }): PerfEvents<T>;
export function perfEvents(options: PerfEventOptions<unknown> & { readonly packet?: boolean }): PerfEvents<unknown> {
  const { name, value, maxEntries = 0, bytes, packet = false, global } = options;
  if (bytes !== undefined && !(Number.isInteger(bytes) && bytes >= 1 && bytes <= MAX_BYTES))
    throw new ArgumentError(`perfEventArray '${name}': bytes is ${bytes}, expected 1 to ${MAX_BYTES}`);
  return declareMap(
    'perfEventArray',
    { name, maxEntries, ...(global === undefined ? {} : { global }) },
    { key: u32, value, perf: { bytes, packet } },
  );
}

/** Where JavaScript's buffers end. */
const MAX_BYTES = 2 ** 30;
