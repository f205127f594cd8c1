/**
 * An immutable, fluent packet builder: `packet().ipv4({ ttl: 1 }).tcp({ syn: true }).payload('hi').bytes()`.
 * Headers nest in the order they are named; lengths, checksums and protocol numbers are filled in from what follows,
 * and each can be overridden to make a bad packet. Ethernet is put in front where it was not named.
 */
import type {
  ArpFields,
  EthernetFields,
  GreFields,
  GueFields,
  IcmpFields,
  Ipv4Fields,
  Ipv6Fields,
  Ipv6FragmentFields,
  Ipv6OptionsFields,
  Ipv6RoutingFields,
  TcpFields,
  UdpFields,
  VlanFields,
  VxlanFields,
} from './header-fields.ts';
import { concat, encodeLayers, type Layer } from './layer-encoder.ts';
import { networkOffset } from './network-offset.ts';

/** A packet under construction. Every method returns a new packet; `bytes()` encodes it. */
export class Packet {
  readonly #layers: readonly Layer[];
  readonly #minimum: number;

  constructor(layers: readonly Layer[] = [], minimum = 0) {
    this.#layers = layers;
    this.#minimum = minimum;
  }

  ethernet(fields: EthernetFields = {}): Packet {
    return this.#with({ kind: 'ethernet', fields });
  }

  /** An 802.1Q tag; two of them are two calls, the outer first. */
  vlan(fields: VlanFields = {}): Packet {
    return this.#with({ kind: 'vlan', fields });
  }

  arp(fields: ArpFields = {}): Packet {
    return this.#with({ kind: 'arp', fields });
  }

  /** After another `ipv4` or `ipv6` this is a tunnel's inner header (IPIP). */
  ipv4(fields: Ipv4Fields = {}): Packet {
    return this.#with({ kind: 'ipv4', fields });
  }

  ipv6(fields: Ipv6Fields = {}): Packet {
    return this.#with({ kind: 'ipv6', fields });
  }

  /** IPv6 hop-by-hop options. */
  hopByHop(fields: Ipv6OptionsFields = {}): Packet {
    return this.#with({ kind: 'hopByHop', fields });
  }

  /** IPv6 destination options. */
  destination(fields: Ipv6OptionsFields = {}): Packet {
    return this.#with({ kind: 'destination', fields });
  }

  /** An IPv6 routing header. */
  routing(fields: Ipv6RoutingFields = {}): Packet {
    return this.#with({ kind: 'routing', fields });
  }

  /** An IPv6 fragment header. `fragments()` cuts whole frames. */
  fragment(fields: Ipv6FragmentFields = {}): Packet {
    return this.#with({ kind: 'fragment', fields });
  }

  tcp(fields: TcpFields = {}): Packet {
    return this.#with({ kind: 'tcp', fields });
  }

  udp(fields: UdpFields = {}): Packet {
    return this.#with({ kind: 'udp', fields });
  }

  icmp(fields: IcmpFields = {}): Packet {
    return this.#with({ kind: 'icmp', fields });
  }

  icmpv6(fields: IcmpFields = {}): Packet {
    return this.#with({ kind: 'icmpv6', fields });
  }

  /** What follows is an IP packet, or a whole frame where it starts with `ethernet`. */
  gre(fields: GreFields = {}): Packet {
    return this.#with({ kind: 'gre', fields });
  }

  /** Behind `udp`, whose port it sets; a frame follows, starting with `ethernet`. */
  vxlan(fields: VxlanFields = {}): Packet {
    return this.#with({ kind: 'vxlan', fields });
  }

  /** Behind `udp`, whose port it sets. */
  gue(fields: GueFields = {}): Packet {
    return this.#with({ kind: 'gue', fields });
  }

  /** The first `length` bytes of a frame's IP packet, default all: what an ICMP error says about it. */
  quote(frame: Packet | Uint8Array, length?: number): Packet {
    const bytes = frameBytes(frame);
    const start = networkOffset(bytes);
    return this.#with({ kind: 'payload', bytes: bytes.slice(start, length === undefined ? bytes.length : start + length) });
  }

  /** Bytes as they are, or text in UTF-8, or that many bytes counting 0, 1, 2 … 255, 0. */
  payload(content: Uint8Array | string | number): Packet {
    return this.#with({ kind: 'payload', bytes: payloadBytes(content) });
  }

  /** Appends zeros up to `length` bytes of frame, which no header's length counts (Ethernet pads to 60). */
  padTo(length: number): Packet {
    return new Packet(this.#layers, length);
  }

  /** Encodes the frame. Throws ArgumentError where a value does not fit its field or a layer lacks an IP header. */
  bytes(): Uint8Array {
    const layers: readonly Layer[] =
      this.#layers[0]?.kind === 'ethernet' ? this.#layers : [{ kind: 'ethernet', fields: {} }, ...this.#layers];
    const inner = encodeLayers(layers);
    return inner.length < this.#minimum ? concat(inner, new Uint8Array(this.#minimum - inner.length)) : inner;
  }

  #with(layer: Layer): Packet {
    return new Packet([...this.#layers, layer], this.#minimum);
  }
}

/** Starts an empty packet. */
export function packet(): Packet {
  return new Packet();
}

/** The bytes of a packet that may already be bytes. */
export function frameBytes(frame: Packet | Uint8Array): Uint8Array {
  return frame instanceof Packet ? frame.bytes() : frame;
}

function payloadBytes(content: Uint8Array | string | number): Uint8Array {
  if (typeof content === 'string') return new TextEncoder().encode(content);
  return typeof content === 'number' ? Uint8Array.from({ length: content }, (_, index) => index) : Uint8Array.from(content);
}
