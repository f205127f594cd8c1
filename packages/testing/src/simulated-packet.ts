/**
 * A packet in a buffer with room on both sides: bytes, places in them that go stale when the packet moves, and the
 * primitive moves. How far each hook lets a packet move is simulated-moves.ts's matter. All of the packet is linear.
 */
import type { Layout } from '@tailrace/stage';
import { type Place, placeOf, readPlace, SimulationError } from './live-view.ts';
import type { FrameBytes, OffloadedVlan } from './simulated-headers.ts';

/** More than any hook lets a program put in front of a packet, or behind it. */
const ROOM = 16_384;

/** A packet under simulation. */
export class SimulatedPacket implements FrameBytes {
  readonly #memory: DataView;
  #start = ROOM;
  #end: number;
  #epoch = 0;
  #mover = '';
  /** The outer tag, where it is not in the bytes. */
  offloadedVlan: OffloadedVlan | undefined;

  constructor(bytes: Uint8Array, offloadedVlan?: OffloadedVlan) {
    this.#end = ROOM + bytes.length;
    this.offloadedVlan = offloadedVlan;
    const buffer = new Uint8Array(this.#end + ROOM);
    buffer.set(bytes, ROOM);
    this.#memory = new DataView(buffer.buffer);
  }

  get length(): number {
    return this.#end - this.#start;
  }

  byte(offset: number): number {
    return this.#memory.getUint8(this.#start + offset);
  }

  word(offset: number): number {
    return this.#memory.getUint16(this.#start + offset);
  }

  /** A copy of the packet as it is now. */
  bytes(): Uint8Array {
    return new Uint8Array(this.#memory.buffer, this.#start, this.length).slice();
  }

  /** What lies `offset` bytes behind the first; undefined where the packet ends before. */
  at(layout: Layout, offset: number): unknown {
    if (!Number.isInteger(offset) || offset < 0 || offset > 0x7fff) throw new SimulationError(`the offset is ${offset}, expected 0..32767`);
    if (offset + layout.size > this.length) return undefined;
    return readPlace(layout, this.#place(offset));
  }

  /** Where a header starts. Throws SimulationError for what is none, or from before the packet moved. */
  offsetOf(header: unknown): number {
    const found = placeOf(header);
    if (found?.place.memory !== this.#memory) throw new SimulationError('what ctx was given is no header of the packet');
    found.place.check?.();
    return found.place.offset - this.#start;
  }

  /** The size of a header's schema. */
  sizeOf(header: unknown): number {
    return placeOf(header)?.layout.size ?? 0;
  }

  /** Bytes from `offset` on, as many of them as the packet has. */
  slice(offset: number, length: number): Uint8Array {
    return this.bytes().subarray(offset, Math.min(offset + length, this.length));
  }

  /** Writes a big-endian word. */
  setWord(offset: number, value: number): void {
    this.#memory.setUint16(this.#start + offset, value);
  }

  /** From here on every header that was got before is stale; `call` is what moved the packet, or failed to. */
  move(call: string): void {
    this.#epoch++;
    this.#mover = call;
  }

  /** Moves the first byte: forward, or backward, where the bytes come in that were there before. */
  moveStart(delta: number): void {
    this.#start += delta;
  }

  /** Moves the end: forward, where zeros come in, or backward. */
  moveEnd(delta: number): void {
    this.#end += delta;
    if (delta > 0) this.#bytesAt(this.length - delta, delta).fill(0);
  }

  /** Puts bytes in behind the first `offset`, which move forward. */
  insert(offset: number, bytes: Uint8Array): void {
    const front = this.slice(0, offset);
    this.moveStart(-bytes.length);
    this.#bytesAt(0, offset).set(front);
    this.#bytesAt(offset, bytes.length).set(bytes);
  }

  /** Takes bytes out behind the first `offset`, which move back. */
  remove(offset: number, length: number): void {
    const front = this.slice(0, offset);
    this.moveStart(length);
    this.#bytesAt(0, offset).set(front);
  }

  #bytesAt(offset: number, length: number): Uint8Array {
    return new Uint8Array(this.#memory.buffer, this.#start + offset, length);
  }

  #place(offset: number): Place {
    const epoch = this.#epoch;
    const check = (): void => {
      if (epoch !== this.#epoch)
        throw new SimulationError(`a header from before ${this.#mover}, which moved the packet`, { hint: 'ask ctx for the header again' });
    };
    return { memory: this.#memory, offset: this.#start + offset, check };
  }
}
