/**
 * What stages tell of single packets, in one record for each way out: traces tell all of a packet's stages, drops the last.
 * Records go to a ring buffer of the pipeline's; the reader's side decodes them by the same schema.
 */
import { array, type Layout, type Schema, struct, u8, u16, u32, u64 } from '@tailrace/stage';

/** The most bytes of a packet that a record can hold. */
export const MAX_HEADER_BYTES = 128;

/** What a record has for a verdict where the packet goes on to another stage: no verdict of any hook. */
export const GOES_ON = 0xffff_fffe;

/** A way out of a stage, as one packet took it. */
export interface WayOutRecord {
  /** Nanoseconds since boot (CLOCK_MONOTONIC). */
  readonly time: bigint;
  /** Traces: the packet's number on its CPU and chain in the upper 24 bits, the step on its way, from 1, in the lower 8. Drops: 0. */
  readonly packet: number;
  readonly cpu: number;
  /** Bytes of the whole packet. */
  readonly length: number;
  /** What the program returns, as an unsigned number, or GOES_ON. */
  readonly verdict: number;
  /** The stage's number, `ObservePlacement.place`. */
  readonly place: number;
  /** The outcome's index in `counterNames`; `misses` says that the tail call of the step before came back. */
  readonly outcome: number;
  /** How many of `bytes` are the packet's. */
  readonly captured: number;
  /** Absent where records hold none. */
  readonly bytes?: readonly number[];
}

/** Room for the packet's first bytes: a power of two, by which the verifier sees that a length fits. */
export function headerRoom(headerBytes: number): number {
  return headerBytes === 0 ? 0 : Math.max(8, 2 ** Math.ceil(Math.log2(headerBytes)));
}

const schemas = new Map<number, Schema<WayOutRecord>>();

/** The schema of records with so many bytes of the packet. */
export function recordSchema(headerBytes: number): Schema<WayOutRecord> {
  const room = headerRoom(headerBytes);
  const known = schemas.get(room);
  if (known) return known;
  const head = { time: u64, packet: u32, cpu: u32, length: u32, verdict: u32, place: u32, outcome: u16, captured: u16 };
  const made: Schema<WayOutRecord> = room === 0 ? struct(head) : struct({ ...head, bytes: array(u8, room) });
  schemas.set(room, made);
  return made;
}

/** Where a member of a record lies. */
export function recordField(headerBytes: number, name: keyof WayOutRecord): { readonly layout: Layout; readonly offset: number } {
  const { layout } = recordSchema(headerBytes);
  return (layout as Extract<Layout, { kind: 'struct' }>).fields[name] as { readonly layout: Layout; readonly offset: number };
}
