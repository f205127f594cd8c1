/**
 * A packet in a driver's buffer: headroom, data, tailroom. Finds headers exactly as compiled programs do, and moves the
 * packet's ends as the kernel does (net/core/filter.c, bpf_xdp_adjust_head and _tail). All of the packet is linear.
 */
import { Ethernet, Icmp, Icmpv6, Ipv4, Ipv6, type Layout, Ports, Tcp, Udp } from '@tailrace/stage';
import { type Place, placeOf, readPlace, SimulationError } from './live-view.ts';

const ethernetBytes = 14;
const etherTypes = { ipv4: 0x0800, ipv6: 0x86dd } as const;

/** Bytes that a program can put in front of a packet in a test run: XDP_PACKET_HEADROOM less `struct xdp_frame`. */
const headroom = 256 - 40;
/** Up to where data may grow in a page: what `struct skb_shared_info` leaves. */
const pageEnd = 4096 - 256 - 320;

/** The headers of layer 4, with the protocols that they serve. */
const transports = {
  tcp: { layout: Tcp.layout, ipv4: [6], ipv6: [6] },
  udp: { layout: Udp.layout, ipv4: [17], ipv6: [17] },
  icmp: { layout: Icmp.layout, ipv4: [1], ipv6: [] },
  icmpv6: { layout: Icmpv6.layout, ipv4: [], ipv6: [58] },
  ports: { layout: Ports.layout, ipv4: [6, 17], ipv6: [6, 17] },
} as const satisfies Readonly<Record<string, { layout: Layout; ipv4: readonly number[]; ipv6: readonly number[] }>>;

/** A packet under simulation. */
export class SimulatedPacket {
  readonly #memory: DataView;
  #start = headroom;
  #end: number;
  #epoch = 0;
  #mover = '';

  constructor(bytes: Uint8Array) {
    this.#end = headroom + bytes.length;
    const buffer = new Uint8Array(headroom + Math.max(pageEnd, bytes.length));
    buffer.set(bytes, headroom);
    this.#memory = new DataView(buffer.buffer);
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** A copy of the packet as it is now. */
  bytes(): Uint8Array {
    return new Uint8Array(this.#memory.buffer, this.#start, this.length).slice();
  }

  ethernet(): unknown {
    return this.at(Ethernet.layout, 0);
  }

  /** At least 34 bytes, EtherType 0x0800, version 4, at least 5 words of header. */
  ipv4(): unknown {
    if (this.length < ethernetBytes + Ipv4.layout.size || this.#word(12) !== etherTypes.ipv4) return undefined;
    const first = this.#byte(ethernetBytes);
    return first >>> 4 === 4 && (first & 15) >= 5 ? this.at(Ipv4.layout, ethernetBytes) : undefined;
  }

  /** At least 54 bytes, EtherType 0x86dd, version 6. */
  ipv6(): unknown {
    if (this.length < ethernetBytes + Ipv6.layout.size || this.#word(12) !== etherTypes.ipv6) return undefined;
    return this.#byte(ethernetBytes) >>> 4 === 6 ? this.at(Ipv6.layout, ethernetBytes) : undefined;
  }

  /**
   * Over IPv4: the protocol, fragment offset 0, a total length that holds both headers, and the bytes. Over IPv6: the
   * next header directly, a payload length that holds it, and the bytes.
   */
  transport(name: keyof typeof transports): unknown {
    const { layout, ipv4, ipv6 } = transports[name];
    if (this.ipv4() !== undefined) {
      const headerLength = (this.#byte(ethernetBytes) & 15) * 4;
      const isFirst = (this.#word(20) & 0x1fff) === 0;
      const wanted: readonly number[] = ipv4;
      if (!wanted.includes(this.#byte(23)) || !isFirst || this.#word(16) < headerLength + layout.size) return undefined;
      return this.at(layout, ethernetBytes + headerLength);
    }
    const wanted: readonly number[] = ipv6;
    if (this.ipv6() === undefined || !wanted.includes(this.#byte(20)) || this.#word(18) < layout.size) return undefined;
    return this.at(layout, ethernetBytes + Ipv6.layout.size);
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

  /** Moves the start; every header got before is stale, also where it fails. */
  adjustHead(delta: number): boolean {
    this.#move('ctx.adjustHead()', delta);
    const start = this.#start + delta;
    if (start < 0 || start > this.#end - ethernetBytes) return false;
    this.#start = start;
    return true;
  }

  /** Moves the end; new bytes are zero. Every header got before is stale, also where it fails. */
  adjustTail(delta: number): boolean {
    this.#move('ctx.adjustTail()', delta);
    const end = this.#end + delta;
    if (end > headroom + pageEnd || end < this.#start + ethernetBytes) return false;
    if (delta > 0) new Uint8Array(this.#memory.buffer, this.#end, delta).fill(0);
    this.#end = end;
    return true;
  }

  #move(call: string, delta: number): void {
    if (!Number.isInteger(delta) || delta !== (delta | 0)) throw new SimulationError(`${call} by ${delta}, expected 32 signed bits`);
    this.#epoch++;
    this.#mover = call;
  }

  #place(offset: number): Place {
    const epoch = this.#epoch;
    const check = (): void => {
      if (epoch !== this.#epoch)
        throw new SimulationError(`a header from before ${this.#mover}, which moved the packet`, { hint: 'ask ctx for the header again' });
    };
    return { memory: this.#memory, offset: this.#start + offset, check };
  }

  #byte(offset: number): number {
    return this.#memory.getUint8(this.#start + offset);
  }

  #word(offset: number): number {
    return this.#memory.getUint16(this.#start + offset);
  }
}
