/**
 * The layers of a packet under construction, each encoded in front of what follows it: lengths, checksums and protocol
 * numbers come from there unless they were given.
 */
import { ArgumentError } from '@tailrace/bpf';
import { ipv4Bytes, ipv4Number, ipv6Bytes, macBytes } from './address.ts';
import { checksum, pseudoHeaderSum } from './checksum.ts';
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
import {
  arpLayout,
  ethernetLayout,
  type FieldValues,
  fragmentLayout,
  greLayoutWith,
  gueLayout,
  type HeaderLayout,
  icmpLayout,
  ipv4Layout,
  ipv6Layout,
  optionsHeaderLayout,
  routingLayout,
  tcpLayout,
  udpLayout,
  vlanLayout,
  vxlanLayout,
  writeHeader,
} from './header-layout.ts';

/** One layer as it was named. */
export type Layer =
  | { readonly kind: 'ethernet'; readonly fields: EthernetFields }
  | { readonly kind: 'vlan'; readonly fields: VlanFields }
  | { readonly kind: 'arp'; readonly fields: ArpFields }
  | { readonly kind: 'ipv4'; readonly fields: Ipv4Fields }
  | { readonly kind: 'ipv6'; readonly fields: Ipv6Fields }
  | { readonly kind: 'hopByHop' | 'destination'; readonly fields: Ipv6OptionsFields }
  | { readonly kind: 'routing'; readonly fields: Ipv6RoutingFields }
  | { readonly kind: 'fragment'; readonly fields: Ipv6FragmentFields }
  | { readonly kind: 'tcp'; readonly fields: TcpFields }
  | { readonly kind: 'udp'; readonly fields: UdpFields }
  | { readonly kind: 'icmp' | 'icmpv6'; readonly fields: IcmpFields }
  | { readonly kind: 'gre'; readonly fields: GreFields }
  | { readonly kind: 'vxlan'; readonly fields: VxlanFields }
  | { readonly kind: 'gue'; readonly fields: GueFields }
  | { readonly kind: 'payload'; readonly bytes: Uint8Array };

type Network = Extract<Layer, { kind: 'ipv4' | 'ipv6' }>;

/** All layers as bytes. Throws ArgumentError where a value does not fit its field, or a layer lacks an IP header. */
export function encodeLayers(layers: readonly Layer[]): Uint8Array {
  let inner: Uint8Array = new Uint8Array(0);
  for (const [index, layer] of [...layers.entries()].reverse()) {
    const network = enclosing(layers, index);
    inner = concat(encode(layer, inner, layers[index + 1], network), inner);
  }
  return inner;
}

/** One array of bytes out of two. */
export function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}

/** The header of `layer` in front of `inner`; a payload is its own header. */
function encode(layer: Layer, inner: Uint8Array, next: Layer | undefined, network: Network | undefined): Uint8Array {
  switch (layer.kind) {
    case 'payload':
      return layer.bytes;
    case 'ethernet':
      return encodeEthernet(layer.fields, next);
    case 'vlan':
      return encodeVlan(layer.fields, next);
    case 'arp':
      return encodeArp(layer.fields);
    case 'ipv4':
      return encodeIpv4(layer.fields, inner, next);
    case 'ipv6':
      return encodeIpv6(layer.fields, inner, next);
    case 'hopByHop':
    case 'destination':
      return encodeOptions(layer.fields, next);
    case 'routing':
      return encodeRouting(layer.fields, next);
    case 'fragment':
      return encodeFragment(layer.fields, next);
    case 'tcp':
      return encodeTcp(layer.fields, inner, network);
    case 'udp':
      return encodeUdp(layer.fields, inner, next, network);
    case 'icmp':
    case 'icmpv6':
      return encodeIcmp(layer.kind, layer.fields, inner, network);
    case 'gre':
      return encodeGre(layer.fields, inner, next);
    case 'vxlan':
      return encodeVxlan(layer.fields);
    case 'gue':
      return encodeGue(layer.fields, next);
  }
}

function encodeEthernet(fields: EthernetFields, next: Layer | undefined): Uint8Array {
  const { dst = '02:00:00:00:00:02', src = '02:00:00:00:00:01', etherType = etherTypeOf(next) } = fields;
  return writeHeader(ethernetLayout, { dst: macBytes(dst), src: macBytes(src), etherType });
}

function encodeVlan(fields: VlanFields, next: Layer | undefined): Uint8Array {
  const { id = 1, priority = 0, dropEligible = false, etherType = etherTypeOf(next) } = fields;
  return writeHeader(vlanLayout, { id, priority, dropEligible: Number(dropEligible), etherType });
}

function encodeArp(fields: ArpFields): Uint8Array {
  return writeHeader(arpLayout, {
    hardwareType: fields.hardwareType ?? 1,
    protocolType: fields.protocolType ?? 0x0800,
    hardwareLength: fields.hardwareLength ?? 6,
    protocolLength: fields.protocolLength ?? 4,
    operation: fields.operation ?? 1,
    senderMac: macBytes(fields.senderMac ?? '02:00:00:00:00:01'),
    senderIp: ipv4Number(fields.senderIp ?? '192.0.2.1'),
    targetMac: macBytes(fields.targetMac ?? '00:00:00:00:00:00'),
    targetIp: ipv4Number(fields.targetIp ?? '192.0.2.2'),
  });
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
    nextHeader: fields.nextHeader ?? nextHeaderOf(next),
    hopLimit: fields.hopLimit ?? 64,
    ...ipv6Endpoints(fields),
  });
}

function encodeOptions(
  { nextHeader, extensionLength, options = new Uint8Array(0) }: Ipv6OptionsFields,
  next: Layer | undefined,
): Uint8Array {
  const gap = -(options.length + optionsHeaderLayout.size) & 7;
  const data = concat(options, padN(gap));
  return concat(
    writeHeader(optionsHeaderLayout, {
      nextHeader: nextHeader ?? nextHeaderOf(next),
      extensionLength: extensionLength ?? (optionsHeaderLayout.size + data.length) / 8 - 1,
    }),
    data,
  );
}

/** Pad1 for one byte, PadN for more (RFC 8200, 4.2). */
function padN(length: number): Uint8Array {
  const pad = new Uint8Array(length);
  if (length > 1) pad.set([1, length - 2]);
  return pad;
}

function encodeRouting(fields: Ipv6RoutingFields, next: Layer | undefined): Uint8Array {
  const { nextHeader, extensionLength, type = 4, segmentsLeft = 0, data: given = new Uint8Array(0) } = fields;
  const data = concat(given, new Uint8Array(-(given.length + routingLayout.size) & 7));
  return concat(
    writeHeader(routingLayout, {
      nextHeader: nextHeader ?? nextHeaderOf(next),
      extensionLength: extensionLength ?? (routingLayout.size + data.length) / 8 - 1,
      type,
      segmentsLeft,
    }),
    data,
  );
}

function encodeFragment(fields: Ipv6FragmentFields, next: Layer | undefined): Uint8Array {
  const { fragmentOffset = 0, moreFragments = false, id = 1, nextHeader = nextHeaderOf(next), reserved = 0 } = fields;
  return writeHeader(fragmentLayout, { nextHeader, reserved, fragmentOffset, moreFragments: Number(moreFragments), id });
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

function encodeUdp(fields: UdpFields, inner: Uint8Array, next: Layer | undefined, network: Network | undefined): Uint8Array {
  const length = udpLayout.size + inner.length;
  const port = next?.kind === 'vxlan' ? 4789 : next?.kind === 'gue' ? 6080 : 53;
  const values = { sport: fields.sport ?? 40000, dport: fields.dport ?? port, length: fields.length ?? length };
  const header = withChecksum(udpLayout, values, fields.checksum, new Uint8Array(0), inner, pseudoSum('udp', network, length));
  // RFC 768: a computed checksum of zero is sent as all ones, since zero means that there is none.
  if (fields.checksum === undefined && header[6] === 0 && header[7] === 0) header.fill(0xff, 6, 8);
  return header;
}

function encodeIcmp(kind: 'icmp' | 'icmpv6', fields: IcmpFields, inner: Uint8Array, network: Network | undefined): Uint8Array {
  const { type = kind === 'icmp' ? 8 : 128, code = 0 } = fields;
  const pseudo = kind === 'icmp' ? 0 : pseudoSum('icmpv6', network, icmpLayout.size + inner.length);
  return withChecksum(icmpLayout, { type, code, ...icmpRest(kind, type, fields) }, fields.checksum, new Uint8Array(0), inner, pseudo);
}

/** The header's last four bytes, as the two halves that an echo has there. */
function icmpRest(kind: 'icmp' | 'icmpv6', type: number, fields: IcmpFields): FieldValues {
  const { mtu, rest = kind === 'icmpv6' ? mtu : undefined } = fields;
  if (rest !== undefined) {
    if (!Number.isInteger(rest) || rest < 0 || rest > 0xffff_ffff)
      throw new ArgumentError(`field 'rest' is ${rest}, expected 0..4294967295`);
    return { id: rest >>> 16, sequence: rest & 0xffff };
  }
  const blank = (kind === 'icmp' ? type === 0 || type === 8 : type === 128 || type === 129) ? 1 : 0;
  return { id: fields.id ?? blank, sequence: mtu ?? fields.sequence ?? blank };
}

function encodeGre(fields: GreFields, inner: Uint8Array, next: Layer | undefined): Uint8Array {
  const { key, sequence, checksum: given = false, protocol = etherTypeOf(next), version = 0, reserved = 0 } = fields;
  const flags = {
    hasChecksum: given === false ? 0 : 1,
    hasKey: key === undefined ? 0 : 1,
    hasSequence: sequence === undefined ? 0 : 1,
  };
  const values = { ...flags, protocol, version, reserved, key: key ?? 0, sequence: sequence ?? 0 };
  const layout = greLayoutWith(flags);
  if (given === false) return writeHeader(layout, values);
  return withChecksum(layout, values, given === true ? undefined : given, new Uint8Array(0), inner, 0);
}

function encodeVxlan({ vni = 1, hasVni = true, reserved = 0 }: VxlanFields): Uint8Array {
  return writeHeader(vxlanLayout, { hasVni: Number(hasVni), vni, reserved1: reserved });
}

function encodeGue(fields: GueFields, next: Layer | undefined): Uint8Array {
  const { version = 0, control = false, flags = 0 } = fields;
  const options = padded(fields.options);
  const { optionsLength = options.length, protocol = protocolOf(next) ?? 253 } = fields;
  return concat(writeHeader(gueLayout, { version, control: Number(control), optionsLength, protocol, flags }), options);
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

/** The nearest network header around the layer at `index`; a tunnel's header ends what is around. */
function enclosing(layers: readonly Layer[], index: number): Network | undefined {
  for (let outer = index - 1; outer >= 0; outer--) {
    const layer = layers[outer];
    if (layer?.kind === 'ipv4' || layer?.kind === 'ipv6') return layer;
    if (layer?.kind === 'ethernet' || layer?.kind === 'gre' || layer?.kind === 'vxlan') return undefined;
  }
  return undefined;
}

/** IANA protocol numbers; 143 is Ethernet (RFC 8986, 10.1). */
const protocols = {
  hopByHop: 0,
  icmp: 1,
  ipv4: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  routing: 43,
  fragment: 44,
  gre: 47,
  icmpv6: 58,
  destination: 60,
  ethernet: 143,
} as const;

function protocolOf(next: Layer | undefined): number | undefined {
  return next !== undefined && next.kind in protocols ? protocols[next.kind as keyof typeof protocols] : undefined;
}

function nextHeaderOf(next: Layer | undefined): number {
  return protocolOf(next) ?? (next === undefined ? 59 : 253);
}

/** 0x6558 is a whole Ethernet frame, in GRE (RFC 1701); 0x88b5 is for local experiments. */
function etherTypeOf(next: Layer | undefined): number {
  switch (next?.kind) {
    case 'ipv4':
      return 0x0800;
    case 'arp':
      return 0x0806;
    case 'ipv6':
      return 0x86dd;
    case 'vlan':
      return next.fields.tpid ?? 0x8100;
    case 'ethernet':
      return 0x6558;
    default:
      return 0x88b5;
  }
}

function padded(options: Uint8Array = new Uint8Array(0)): Uint8Array {
  return options.length % 4 === 0 ? options : concat(options, new Uint8Array(4 - (options.length % 4)));
}
