/**
 * How far a packet moves at each hook, as the kernel lets it (net/core/filter.c, net/core/skbuff.c at Linux 6.18): at XDP
 * within one page of the driver's, at TC as far as an skb goes.
 */
import type { Encapsulation, RoomAt } from '@tailrace/stage';
import { SimulationError } from './live-view.ts';
import { type OffloadedVlan, tagInFrame } from './simulated-headers.ts';
import type { SimulatedPacket } from './simulated-packet.ts';

/** What programs do to the packet's ends and tags; each answers whether it did it. */
export interface Moves {
  adjustHead(delta: number): boolean;
  adjustTail(delta: number): boolean;
  pushVlan(tci: number): boolean;
  popVlan(): boolean;
}

const ETHERNET_BYTES = 14;
/** The two addresses in front of the EtherType, which stay in front of a tag. */
const ADDRESS_BYTES = 12;
const TAG_BYTES = 4;
const TPID = 0x8100;

/** Bytes that a program can put in front of a packet in a test run: XDP_PACKET_HEADROOM less `struct xdp_frame`. */
const XDP_HEADROOM = 256 - 40;
/** Up to where data may grow in a page: what `struct skb_shared_info` leaves. */
const XDP_END = 4096 - 256 - 320;

/** bpf_xdp_adjust_head and bpf_xdp_adjust_tail. */
export class XdpMoves implements Moves {
  readonly #packet: SimulatedPacket;
  /** The first byte's place, and the end's, in bytes from where the packet started. */
  #start = 0;
  #end: number;

  constructor(packet: SimulatedPacket) {
    this.#packet = packet;
    this.#end = packet.length;
  }

  adjustHead(delta: number): boolean {
    begin(this.#packet, 'adjustHead', delta);
    return this.#moveStart(delta);
  }

  adjustTail(delta: number): boolean {
    begin(this.#packet, 'adjustTail', delta);
    const end = this.#end + delta;
    if (end > XDP_END || end < this.#start + ETHERNET_BYTES) return false;
    this.#end = end;
    this.#packet.moveEnd(delta);
    return true;
  }

  pushVlan(tci: number): boolean {
    beginPush(this.#packet, tci);
    const front = this.#packet.slice(0, ADDRESS_BYTES);
    if (front.length < ADDRESS_BYTES || !this.#moveStart(-TAG_BYTES)) return false;
    this.#packet.moveStart(TAG_BYTES);
    this.#packet.insert(ADDRESS_BYTES, tag({ tci }));
    return true;
  }

  popVlan(): boolean {
    begin(this.#packet, 'popVlan');
    if (tagInFrame(this.#packet) === undefined) return false;
    this.#start += TAG_BYTES;
    this.#packet.remove(ADDRESS_BYTES, TAG_BYTES);
    return true;
  }

  #moveStart(delta: number): boolean {
    const start = this.#start + delta;
    if (start < -XDP_HEADROOM || start > this.#end - ETHERNET_BYTES) return false;
    this.#start = start;
    this.#packet.moveStart(delta);
    return true;
  }
}

/** SKB_MAX_ALLOC: 4 pages less `struct skb_shared_info`. */
const SKB_MAX = 4 * 4096 - 320;
const ROOM_MAX = 0xfff;
const baseLengths: ReadonlyMap<number, number> = new Map([
  [0x0800, 20],
  [0x86dd, 40],
]);

/** bpf_skb_change_head, _change_tail, _adjust_room, _vlan_push and _vlan_pop. */
export class TcMoves implements Moves {
  readonly #packet: SimulatedPacket;
  /** skb->protocol: the EtherType as it was found when the packet came in. */
  #protocol: number;
  /** Where skb->network_header points, from the packet's first byte. */
  #network = ETHERNET_BYTES;
  #isEncapsulated = false;

  constructor(packet: SimulatedPacket) {
    this.#packet = packet;
    this.#protocol = packet.length >= ETHERNET_BYTES ? packet.word(ADDRESS_BYTES) : 0;
  }

  adjustHead(delta: number): boolean {
    begin(this.#packet, 'adjustHead', delta);
    const length = this.#packet.length - delta;
    if (delta > 0 ? length < ETHERNET_BYTES : length > SKB_MAX) return false;
    this.#network -= delta;
    if (delta > 0) this.#packet.moveStart(delta);
    else this.#packet.insert(0, new Uint8Array(-delta));
    return true;
  }

  adjustTail(delta: number): boolean {
    begin(this.#packet, 'adjustTail', delta);
    const length = this.#packet.length + delta;
    if (length > SKB_MAX || length < this.#network || this.#isEncapsulated) return false;
    this.#packet.moveEnd(delta);
    return true;
  }

  adjustRoom(delta: number, at: RoomAt, encapsulation?: Encapsulation): boolean {
    begin(this.#packet, 'adjustRoom', delta);
    const base = baseLengths.get(this.#protocol);
    if (Math.abs(delta) > ROOM_MAX || base === undefined) return false;
    const behind = this.#packet.length - this.#network;
    const offset = this.#network + (at === 'network' ? base : 0);
    if (delta < 0) {
      if (encapsulation !== undefined || -delta >= behind || behind + delta < base) return false;
      this.#packet.remove(offset, -delta);
      return true;
    }
    if (this.#packet.length + delta > SKB_MAX || (encapsulation !== undefined && this.#isEncapsulated)) return false;
    this.#packet.insert(offset, new Uint8Array(delta));
    if (encapsulation !== undefined) this.#isEncapsulated = true;
    if (encapsulation === 'ipv4') this.#protocol = 0x0800;
    if (encapsulation === 'ipv6') this.#protocol = 0x86dd;
    return true;
  }

  /** The tag goes where the card takes it from; one that was there goes into the frame. */
  pushVlan(tci: number): boolean {
    beginPush(this.#packet, tci);
    const before = this.#packet.offloadedVlan;
    if (before !== undefined) {
      this.#packet.insert(ADDRESS_BYTES, tag(before));
      this.#protocol = before.tpid ?? TPID;
    }
    this.#packet.offloadedVlan = { tci };
    return true;
  }

  /** The tag behind the one that goes comes out of the frame. */
  popVlan(): boolean {
    begin(this.#packet, 'popVlan');
    if (this.#packet.offloadedVlan !== undefined) this.#packet.offloadedVlan = undefined;
    else if (this.#takeTag() === undefined) return false;
    this.#packet.offloadedVlan = this.#takeTag();
    return true;
  }

  #takeTag(): OffloadedVlan | undefined {
    const at = tagInFrame(this.#packet);
    if (at === undefined) return undefined;
    const taken = { tpid: this.#packet.word(ADDRESS_BYTES), tci: this.#packet.word(at) };
    this.#packet.remove(ADDRESS_BYTES, TAG_BYTES);
    this.#protocol = this.#packet.word(ADDRESS_BYTES);
    return taken;
  }
}

/** A tag as it lies in a frame, with what announces it. */
export function tag({ tci, tpid = TPID }: OffloadedVlan): Uint8Array {
  return Uint8Array.of(tpid >>> 8, tpid & 0xff, tci >>> 8, tci & 0xff);
}

function begin(packet: SimulatedPacket, call: string, delta = 0): void {
  if (!Number.isInteger(delta) || delta !== (delta | 0)) throw new SimulationError(`ctx.${call}() by ${delta}, expected 32 signed bits`);
  packet.move(`ctx.${call}()`);
}

function beginPush(packet: SimulatedPacket, tci: number): void {
  if (!Number.isInteger(tci) || tci < 0 || tci > 0xffff) throw new SimulationError(`ctx.pushVlan() of ${tci}, expected 16 unsigned bits`);
  packet.move('ctx.pushVlan()');
}
