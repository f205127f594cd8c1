/**
 * Captures for tests, made byte by byte from the format's drafts and not from what the reader and writer know: a second
 * opinion. Everything is an array of bytes until a file is made of it.
 */
import type { CaptureSource } from './byte-source.ts';
import { type ReadCaptureOptions, readCapture } from './capture-reader.ts';
import type { CapturedPacket } from './link-layer.ts';

/** The byte order of the machine that wrote a capture. */
export type Order = 'little' | 'big';

/** `value` as an unsigned integer of `size` bytes. */
export function uint(order: Order, size: number, value: number | bigint): number[] {
  const bytes = Array.from({ length: size }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
  return order === 'little' ? bytes : bytes.reverse();
}

/** Four bytes. */
export const word = (order: Order, value: number | bigint): number[] => uint(order, 4, value);
/** Two bytes. */
export const half = (order: Order, value: number | bigint): number[] => uint(order, 2, value);

/** A pcap file's header; `magic` as the machine of that order would write it. */
export function pcapHeader(order: Order, magic: number, network = 1, snapLength = 65_535): number[] {
  return [...word(order, magic), ...half(order, 2), ...half(order, 4), ...word(order, 0), ...word(order, 0)].concat(
    word(order, snapLength),
    word(order, network),
  );
}

/** A pcap record. */
export function pcapRecord(order: Order, second: number, fraction: number, data: readonly number[], onWire = data.length): number[] {
  return [...word(order, second), ...word(order, fraction), ...word(order, data.length), ...word(order, onWire), ...data];
}

/** A pcapng block around a body, which is padded. */
export function block(order: Order, type: number, body: readonly number[]): number[] {
  const padded = pad(body);
  const length = word(order, padded.length + 12);
  return [...word(order, type), ...length, ...padded, ...length];
}

/** An option of a pcapng block. */
export function option(order: Order, code: number, value: readonly number[]): number[] {
  return [...half(order, code), ...half(order, value.length), ...pad(value)];
}

/** Text as bytes. */
export function text(words: string): number[] {
  return [...Buffer.from(words)];
}

/** A section header block; its length is unknown unless said. */
export function section(order: Order, options: readonly number[] = [], length = 0xffff_ffff_ffff_ffffn): number[] {
  const head = [...word(order, 0x1a2b3c4d), ...half(order, 1), ...half(order, 0), ...uint(order, 8, length)];
  return block(order, 0x0a0d0d0a, [...head, ...options]);
}

/** An interface description block. */
export function description(order: Order, linkType = 1, options: readonly number[] = [], snapLength = 0): number[] {
  return block(order, 1, [...half(order, linkType), ...half(order, 0), ...word(order, snapLength), ...options]);
}

/** What packet blocks tell of a packet. */
export interface BlockPacket {
  readonly interface?: number;
  readonly timestamp?: bigint;
  readonly data: readonly number[];
  readonly onWire?: number;
  readonly options?: readonly number[];
}

/** An enhanced packet block. */
export function enhanced(order: Order, packet: BlockPacket): number[] {
  return block(order, 6, [...word(order, packet.interface ?? 0), ...packetBody(order, packet)]);
}

/** An obsolete packet block, with a count of drops. */
export function obsolete(order: Order, packet: BlockPacket, drops = 0xffff): number[] {
  return block(order, 2, [...half(order, packet.interface ?? 0), ...half(order, drops), ...packetBody(order, packet)]);
}

/** A simple packet block. */
export function simple(order: Order, data: readonly number[], onWire = data.length): number[] {
  return block(order, 3, [...word(order, onWire), ...data]);
}

/** What came out of a capture before it ended or failed. */
export interface Reading {
  readonly packets: readonly CapturedPacket[];
  readonly error: unknown;
}

/** Reads to the end or the first error. */
export async function readAll(source: CaptureSource, options?: ReadCaptureOptions): Promise<Reading> {
  const packets: CapturedPacket[] = [];
  try {
    for await (const batch of readCapture(source, options)) packets.push(...batch);
    return { packets, error: undefined };
  } catch (error) {
    return { packets, error };
  }
}

/** A source that gives chunks of the lengths said, over and over. */
export async function* chunked(bytes: Uint8Array, lengths: readonly number[]): AsyncGenerator<Uint8Array, void> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const next = at + (lengths[i % lengths.length] ?? 1);
    yield bytes.slice(at, next);
    at = next;
  }
}

function packetBody(order: Order, packet: BlockPacket): number[] {
  const { timestamp = 0n, data, onWire = data.length, options = [] } = packet;
  return [
    ...word(order, timestamp >> 32n),
    ...word(order, timestamp & 0xffff_ffffn),
    ...word(order, data.length),
    ...word(order, onWire),
    ...pad(data),
    ...options,
  ];
}

function pad(bytes: readonly number[]): number[] {
  return [...bytes, ...Array.from({ length: -bytes.length & 3 }, () => 0)];
}
