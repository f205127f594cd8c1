/**
 * An immutable, fluent packet builder: `packet().ipv4({ ttl: 1 }).tcp({ syn: true }).payload('hi').bytes()`.
 * Headers nest in the order they are named; lengths, checksums and protocol numbers are filled in from what follows,
 * and each can be overridden to make a bad packet. Ethernet is put in front where it was not named.
 */
import { ArgumentError } from '@tailrace/bpf';
import { ipv4Bytes, ipv4Number, ipv6Bytes, macBytes } from './address.ts';
import { checksum, pseudoHeaderSum } from './checksum.ts';
import type { EthernetFields, IcmpFields, Ipv4Fields, Ipv6Fields, TcpFields, UdpFields } from './header-fields.ts';
import {
  ethernetLayout,
  type FieldValues,
  type HeaderLayout,
  icmpLayout,
  ipv4Layout,
  ipv6Layout,
  tcpLayout,
  udpLayout,
  writeHeader,
} from './header-layout.ts';

type Layer =
  | { readonly kind: 'ethernet'; readonly fields: EthernetFields }
  | { readonly kind: 'ipv4'; readonly fields: Ipv4Fields }
  | { readonly kind: 'ipv6'; readonly fields: Ipv6Fields }
  | { readonly kind: 'tcp'; readonly fields: TcpFields }
  | { readonly kind: 'udp'; readonly fields: UdpFields }
  | { readonly kind: 'icmp' | 'icmpv6'; readonly fields: IcmpFields }
  | { readonly kind: 'payload'; readonly bytes: Uint8Array };

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

  /** After another `ipv4` or `ipv6` this is a tunnel's inner header (IPIP). */
  ipv4(fields: Ipv4Fields = {}): Packet {
    return this.#with({ kind: 'ipv4', fields });
  }

  ipv6(fields: Ipv6Fields = {}): Packet {
    return this.#with({ kind: 'ipv6', fields });
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
    let inner: Uint8Array = new Uint8Array(0);
    for (let index = layers.length - 1; index >= 0; index--) {
      const layer = layers[index];
      if (layer !== undefined) inner = concat(encode(layer, inner, layers[index + 1], enclosing(layers, index)), inner);
    }
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

type Network = Extract<Layer, { kind: 'ipv4' | 'ipv6' }>;

/** The header of `layer` in front of `inner`; a payload is its own header. */
function encode(layer: Layer, inner: Uint8Array, next: Layer | undefined, network: Network | undefined): Uint8Array {
  switch (layer.kind) {
    case 'payload':
      return layer.bytes;
    case 'ethernet':
      return encodeEthernet(layer.fields, next);
    case 'ipv4':
      return encodeIpv4(layer.fields, inner, next);
    case 'ipv6':
      return encodeIpv6(layer.fields, inner, next);
    case 'tcp':
      return encodeTcp(layer.fields, inner, network);
    case 'udp':
      return encodeUdp(layer.fields, inner, network);
    case 'icmp':
      return withChecksum(icmpLayout, icmpValues(layer.fields, 8), layer.fields.checksum, new Uint8Array(0), inner, 0);
    case 'icmpv6': {
      const length = icmpLayout.size + inner.length;
      return withChecksum(
        icmpLayout,
        icmpValues(layer.fields, 128),
        layer.fields.checksum,
        new Uint8Array(0),
        inner,
        pseudoSum('icmpv6', network, length),
      );
    }
  }
}

function encodeEthernet(fields: EthernetFields, next: Layer | undefined): Uint8Array {
  const { dst = '02:00:00:00:00:02', src = '02:00:00:00:00:01', etherType = etherTypeOf(next) } = fields;
  return writeHeader(ethernetLayout, { dst: macBytes(dst), src: macBytes(src), etherType });
}

function encodeIpv4(fields: Ipv4Fields, inner: Uint8Array, next: Layer | undefined): Uint8Array {
  const options = padded(fields.options);
  const length = ipv4Layout.size + options.length;
  const { saddr, daddr } = ipv4Endpoints(fields);
  const values = {
    version: fields.version ?? 4,
    ihl: fields.ihl ?? length / 4,
    tos: fields.tos ?? 0,
    totalLength: fields.totalLength ?? length + inner.length,
    id: fields.id ?? 0,
    reserved: Number(fields.reserved ?? false),
    dontFragment: Number(fields.dontFragment ?? false),
    moreFragments: Number(fields.moreFragments ?? false),
    fragmentOffset: fields.fragmentOffset ?? 0,
    ttl: fields.ttl ?? 64,
    protocol: fields.protocol ?? protocolOf(next) ?? 253,
    saddr: ipv4Number(saddr),
    daddr: ipv4Number(daddr),
  };
  return withChecksum(ipv4Layout, values, fields.checksum, options, new Uint8Array(0), 0);
}

function encodeIpv6(fields: Ipv6Fields, inner: Uint8Array, next: Layer | undefined): Uint8Array {
  return writeHeader(ipv6Layout, {
    version: fields.version ?? 6,
    trafficClass: fields.trafficClass ?? 0,
    flowLabel: fields.flowLabel ?? 0,
    payloadLength: fields.payloadLength ?? inner.length,
    nextHeader: fields.nextHeader ?? protocolOf(next) ?? (next === undefined ? 59 : 253),
    hopLimit: fields.hopLimit ?? 64,
    ...ipv6Endpoints(fields),
  });
}

function encodeTcp(fields: TcpFields, inner: Uint8Array, network: Network | undefined): Uint8Array {
  const options = padded(fields.options);
  const length = tcpLayout.size + options.length;
  const { fin, syn, rst, psh, ack, urg, ece, cwr } = fields;
  const silent = [fin, syn, rst, psh, ack, urg, ece, cwr].every((flag) => flag === undefined);
  const values = {
    sport: fields.sport ?? 40000,
    dport: fields.dport ?? 80,
    seq: fields.seq ?? 1,
    ackSeq: fields.ackSeq ?? 0,
    dataOffset: fields.dataOffset ?? length / 4,
    fin: Number(fin ?? false),
    syn: Number(syn ?? false),
    rst: Number(rst ?? false),
    psh: Number(psh ?? false),
    ack: Number(ack ?? silent),
    urg: Number(urg ?? false),
    ece: Number(ece ?? false),
    cwr: Number(cwr ?? false),
    window: fields.window ?? 65535,
    urgentPointer: fields.urgentPointer ?? 0,
  };
  return withChecksum(tcpLayout, values, fields.checksum, options, inner, pseudoSum('tcp', network, length + inner.length));
}

function encodeUdp(fields: UdpFields, inner: Uint8Array, network: Network | undefined): Uint8Array {
  const length = udpLayout.size + inner.length;
  const values = { sport: fields.sport ?? 40000, dport: fields.dport ?? 53, length: fields.length ?? length };
  const header = withChecksum(udpLayout, values, fields.checksum, new Uint8Array(0), inner, pseudoSum('udp', network, length));
  // RFC 768: a computed checksum of zero is sent as all ones, since zero means that there is none.
  if (fields.checksum === undefined && header[6] === 0 && header[7] === 0) header.fill(0xff, 6, 8);
  return header;
}

function icmpValues(fields: IcmpFields, type: number): FieldValues {
  return { type: fields.type ?? type, code: fields.code ?? 0, id: fields.id ?? 1, sequence: fields.sequence ?? 1 };
}

/** Writes a header with its options and sets its `checksum` over header, options, `covered` and the pseudo header. */
function withChecksum(
  layout: HeaderLayout,
  values: FieldValues,
  given: number | undefined,
  options: Uint8Array,
  covered: Uint8Array,
  pseudo: number,
): Uint8Array {
  const blank = concat(writeHeader(layout, values), options);
  const sum = given ?? checksum(concat(blank, covered), pseudo);
  return concat(writeHeader(layout, { ...values, checksum: sum }), options);
}

function pseudoSum(transport: 'tcp' | 'udp' | 'icmpv6', network: Network | undefined, length: number): number {
  const protocol = protocols[transport];
  if (network === undefined) throw new ArgumentError(`${transport} needs an ipv4 or ipv6 header in front of it`);
  const { saddr, daddr } = network.kind === 'ipv4' ? ipv4Endpoints(network.fields) : ipv6Endpoints(network.fields);
  return pseudoHeaderSum({ saddr, daddr, protocol, length });
}

interface Endpoints {
  readonly saddr: Uint8Array;
  readonly daddr: Uint8Array;
}

/** By default addresses of RFC 5737. */
function ipv4Endpoints({ saddr = '192.0.2.1', daddr = '198.51.100.1' }: Ipv4Fields): Endpoints {
  return { saddr: ipv4Bytes(saddr), daddr: ipv4Bytes(daddr) };
}

/** By default addresses of RFC 3849. */
function ipv6Endpoints({ saddr = '2001:db8::1', daddr = '2001:db8::2' }: Ipv6Fields): Endpoints {
  return { saddr: ipv6Bytes(saddr), daddr: ipv6Bytes(daddr) };
}

/** The nearest network header around the layer at `index`. */
function enclosing(layers: readonly Layer[], index: number): Network | undefined {
  for (let outer = index - 1; outer >= 0; outer--) {
    const layer = layers[outer];
    if (layer?.kind === 'ipv4' || layer?.kind === 'ipv6') return layer;
  }
  return undefined;
}

const protocols = { icmp: 1, ipv4: 4, tcp: 6, udp: 17, ipv6: 41, icmpv6: 58 } as const;

function protocolOf(next: Layer | undefined): number | undefined {
  return next === undefined || next.kind === 'payload' || next.kind === 'ethernet' ? undefined : protocols[next.kind];
}

function etherTypeOf(next: Layer | undefined): number {
  return next?.kind === 'ipv4' ? 0x0800 : next?.kind === 'ipv6' ? 0x86dd : 0x88b5;
}

function payloadBytes(content: Uint8Array | string | number): Uint8Array {
  if (typeof content === 'string') return new TextEncoder().encode(content);
  return typeof content === 'number' ? Uint8Array.from({ length: content }, (_, index) => index) : Uint8Array.from(content);
}

function padded(options: Uint8Array = new Uint8Array(0)): Uint8Array {
  return options.length % 4 === 0 ? options : concat(options, new Uint8Array(4 - (options.length % 4)));
}

function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}
