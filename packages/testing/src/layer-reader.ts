/**
 * How each layer of a frame is read: its fields, what follows it, what is wrong with it. It reads as far as the bytes
 * allow and never throws.
 */
import { checksum, pseudoHeaderSum } from './checksum.ts';
import {
  arpLayout,
  ethernetLayout,
  type FieldValues,
  formatField,
  fragmentLayout,
  greLayout,
  greLayoutWith,
  gueLayout,
  type HeaderLayout,
  icmpLayout,
  icmpLayoutOf,
  ipv4Layout,
  ipv6Layout,
  optionsHeaderLayout,
  readHeader,
  routingLayout,
  tcpLayout,
  udpLayout,
  vlanLayout,
  vxlanLayout,
} from './header-layout.ts';
import { isVlan } from './network-offset.ts';

const layouts = {
  ethernet: ethernetLayout,
  vlan: vlanLayout,
  arp: arpLayout,
  ipv4: ipv4Layout,
  ipv6: ipv6Layout,
  hopByHop: optionsHeaderLayout,
  destination: optionsHeaderLayout,
  routing: routingLayout,
  fragment: fragmentLayout,
  tcp: tcpLayout,
  udp: udpLayout,
  icmp: icmpLayout,
  icmpv6: icmpLayout,
  gre: greLayout,
  vxlan: vxlanLayout,
  gue: gueLayout,
} as const;

/** What a layer can be; `padding` is what lies behind an IP packet's own length. */
export type LayerKind = keyof typeof layouts | 'payload' | 'padding';

/** One layer of a parsed frame. */
export interface ParsedLayer {
  readonly kind: LayerKind;
  /** Bytes from the start of the frame. */
  readonly offset: number;
  /** Bytes of the header with its options, or of the payload. */
  readonly length: number;
  /** Field values as text, in the header's order; `options`, `data` and `bytes` in hexadecimal. */
  readonly fields: Readonly<Record<string, string>>;
  /** `none` for layers without a checksum, a zero of UDP that means none, and where not all bytes are there: fragments, quotes. */
  readonly checksum: 'valid' | 'invalid' | 'none';
  /** What is wrong with this layer, one lowercase phrase each. */
  readonly problems: readonly string[];
}

/** A layer to read. */
export interface Step {
  readonly kind: LayerKind;
  readonly offset: number;
  /** Where the enclosing layer's content ends. */
  readonly end: number;
  readonly network?: Network;
  /** Inside an ICMP error, which brings back only a packet's start. */
  readonly quoted?: boolean;
}

interface Network {
  readonly saddr: Uint8Array;
  readonly daddr: Uint8Array;
  /** Not all of the packet is here: its layers' checksums cannot be judged. */
  readonly partial: boolean;
}

/** A layer that was read, and what comes behind it. */
export interface Read {
  readonly layer: ParsedLayer;
  readonly next: Step | undefined;
}

/** Reads one layer. */
export function readLayer(bytes: Uint8Array, step: Step): Read {
  const { kind, offset, end } = step;
  if (kind === 'payload' || kind === 'padding') return { layer: opaque(kind, bytes, step), next: undefined };
  const layout = layouts[kind];
  if (end - offset < layout.size) {
    const layer = opaque('payload', bytes, step);
    const problems = step.quoted ? [] : [`${end - offset} of ${layout.size} bytes of ${kind}`];
    return { layer: { ...layer, problems }, next: undefined };
  }
  const values = readHeader(layout, bytes, offset);
  switch (kind) {
    case 'ethernet':
    case 'vlan':
      return readPlain(bytes, step, values, etherKind(number(values, 'etherType')));
    case 'arp':
      return readPlain(bytes, step, values, 'payload');
    case 'ipv4':
      return readIpv4(bytes, step, values);
    case 'ipv6':
      return readIpv6(bytes, step, values);
    case 'hopByHop':
    case 'destination':
    case 'routing':
      return readExtension(bytes, step, values);
    case 'fragment':
      return readFragment(bytes, step, values);
    case 'tcp':
      return readTransport(bytes, step, values, layout, number(values, 'dataOffset') * 4, 6);
    case 'udp':
      return readUdp(bytes, step, values);
    case 'icmp':
    case 'icmpv6':
      return readIcmp(bytes, step, kind, number(values, 'type'));
    case 'gre':
      return readGre(bytes, step, values);
    case 'vxlan':
      return readPlain(bytes, step, values, 'ethernet');
    case 'gue':
      return readGue(bytes, step, values);
  }
}

/** Bytes without fields. */
export function opaque(kind: 'payload' | 'padding', bytes: Uint8Array, { offset, end }: Pick<Step, 'offset' | 'end'>): ParsedLayer {
  return { kind, offset, length: end - offset, fields: { bytes: hex(bytes.subarray(offset, end)) }, checksum: 'none', problems: [] };
}

/** A header of fixed size; what follows belongs to no network header yet. */
function readPlain(bytes: Uint8Array, step: Step, values: FieldValues, next: LayerKind): Read {
  const { kind, offset, end, quoted = false } = step;
  const layout = layoutOf(kind);
  const layer = header(kind, bytes, offset, layout, values, layout.size, []);
  return { layer, next: inside({ kind: next, offset: offset + layout.size, end, quoted }) };
}

function readIpv4(bytes: Uint8Array, { offset, end, quoted = false }: Step, values: FieldValues): Read {
  const problems: string[] = [];
  if (number(values, 'version') !== 4) problems.push('version is not 4');
  const claimed = number(values, 'ihl') * 4;
  if (claimed < ipv4Layout.size) problems.push('ihl below 5');
  if (offset + claimed > end) problems.push(`options end ${offset + claimed - end} bytes behind the packet`);
  const length = Math.min(Math.max(claimed, ipv4Layout.size), end - offset);
  const total = number(values, 'totalLength');
  if (total < length) problems.push('totalLength below the header');
  const cut = total > end - offset;
  if (cut && !quoted) problems.push(`totalLength ${total} of ${end - offset} bytes`);
  const judged = checksum(bytes.subarray(offset, offset + length)) === 0 ? 'valid' : 'invalid';
  const layer = { ...header('ipv4', bytes, offset, ipv4Layout, values, length, problems), checksum: judged } as const;
  const first = number(values, 'fragmentOffset') === 0;
  const partial = !first || number(values, 'moreFragments') === 1 || (cut && quoted);
  const kind = first && claimed >= ipv4Layout.size ? protocolKind(number(values, 'protocol'), false) : 'payload';
  const network = { saddr: bytes.slice(offset + 12, offset + 16), daddr: bytes.slice(offset + 16, offset + 20), partial };
  const contentEnd = Math.min(end, Math.max(offset + total, offset + length));
  return { layer, next: inside({ kind, offset: offset + length, end: contentEnd, network, quoted }) };
}

function readIpv6(bytes: Uint8Array, { offset, end, quoted = false }: Step, values: FieldValues): Read {
  const problems: string[] = [];
  if (number(values, 'version') !== 6) problems.push('version is not 6');
  const start = offset + ipv6Layout.size;
  const length = number(values, 'payloadLength');
  const cut = length > end - start;
  if (cut && !quoted) problems.push(`payloadLength ${length} of ${end - start} bytes`);
  const layer = header('ipv6', bytes, offset, ipv6Layout, values, ipv6Layout.size, problems);
  const network = { saddr: bytes.slice(offset + 8, offset + 24), daddr: bytes.slice(offset + 24, offset + 40), partial: cut && quoted };
  const kind = protocolKind(number(values, 'nextHeader'), true);
  return { layer, next: inside({ kind, offset: start, end: Math.min(end, start + length), network, quoted }) };
}

function readExtension(bytes: Uint8Array, step: Step, values: FieldValues): Read {
  const { kind, offset, end } = step;
  const claimed = (number(values, 'extensionLength') + 1) * 8;
  const problems = claimed > end - offset ? [`extensionLength ends ${claimed - (end - offset)} bytes behind the packet`] : [];
  const length = Math.min(claimed, end - offset);
  const layer = header(kind, bytes, offset, layoutOf(kind), values, length, problems, kind === 'routing' ? 'data' : 'options');
  const next = problems.length > 0 ? 'payload' : protocolKind(number(values, 'nextHeader'), true);
  return { layer, next: inside({ ...step, kind: next, offset: offset + length }) };
}

function readFragment(bytes: Uint8Array, step: Step, values: FieldValues): Read {
  const { offset, network } = step;
  const layer = header('fragment', bytes, offset, fragmentLayout, values, fragmentLayout.size, []);
  const first = number(values, 'fragmentOffset') === 0;
  const partial = !first || number(values, 'moreFragments') === 1 || network?.partial === true;
  const kind = first ? protocolKind(number(values, 'nextHeader'), true) : 'payload';
  const next = { ...step, kind, offset: offset + fragmentLayout.size };
  return { layer, next: inside(network === undefined ? next : { ...next, network: { ...network, partial } }) };
}

function readUdp(bytes: Uint8Array, step: Step, values: FieldValues): Read {
  const { network, quoted, offset } = step;
  const result = readTransport(bytes, step, values, udpLayout, udpLayout.size, 17);
  const length = number(values, 'length');
  const left = step.end - offset;
  const problems = length === left || network?.partial ? [] : [`length ${length} of ${left} bytes`];
  const kind = behindUdp(number(values, 'dport'), bytes[offset + udpLayout.size] ?? 0);
  // Without a checksum: over IPv4 all, over IPv6 tunnels (RFC 6935).
  const none = number(values, 'checksum') === 0 && (network?.saddr.length === 4 || kind !== 'payload');
  const layer = { ...result.layer, problems, ...(none ? { checksum: 'none' as const } : {}) };
  const after = result.next === undefined ? undefined : { ...result.next, kind };
  return { layer, next: after && quoted && kind !== 'payload' && after.offset >= after.end ? undefined : after };
}

/** The tunnels that are known by their port. The first two bits tell GUE's variants apart; variant 1 is the IP packet. */
function behindUdp(port: number, first: number): LayerKind {
  if (port === 4789) return 'vxlan';
  if (port !== 6080) return 'payload';
  return first >>> 6 === 0 ? 'gue' : first >>> 4 === 4 ? 'ipv4' : first >>> 4 === 6 ? 'ipv6' : 'payload';
}

function readIcmp(bytes: Uint8Array, step: Step, kind: 'icmp' | 'icmpv6', type: number): Read {
  const layout = icmpLayoutOf(kind, type);
  const values = readHeader(layout, bytes, step.offset);
  const { layer, next } = readTransport(bytes, step, values, layout, layout.size, kind === 'icmp' ? undefined : 58);
  // RFC 792 and RFC 4443, 3: errors, which quote the packet that they are about.
  const isError = kind === 'icmp' ? [3, 4, 5, 11, 12].includes(type) : type >= 1 && type <= 4;
  if (!isError || next === undefined || step.network?.partial) return { layer, next };
  return { layer, next: { ...next, kind: kind === 'icmp' ? 'ipv4' : 'ipv6', quoted: true } };
}

function readGre(bytes: Uint8Array, step: Step, flags: FieldValues): Read {
  const { offset, end, network, quoted = false } = step;
  const layout = greLayoutWith(flags);
  if (end - offset < layout.size) {
    const problems = [`${end - offset} of ${layout.size} bytes of gre`];
    const layer = header('gre', bytes, offset, greLayout, flags, end - offset, problems);
    return { layer, next: undefined };
  }
  const values = readHeader(layout, bytes, offset);
  const plain = header('gre', bytes, offset, layout, values, layout.size, []);
  const sum = checksum(bytes.subarray(offset, end)) === 0 ? 'valid' : 'invalid';
  const judged = number(values, 'hasChecksum') === 0 || network?.partial ? 'none' : sum;
  const layer = { ...plain, checksum: judged } as const;
  const kind = number(values, 'version') === 0 ? etherKind(number(values, 'protocol')) : 'payload';
  return { layer, next: inside({ kind, offset: offset + layout.size, end, quoted }) };
}

function readGue(bytes: Uint8Array, step: Step, values: FieldValues): Read {
  const { offset, end } = step;
  const claimed = gueLayout.size + number(values, 'optionsLength');
  const problems = claimed > end - offset ? [`options end ${claimed - (end - offset)} bytes behind the packet`] : [];
  const length = Math.min(claimed, end - offset);
  const layer = header('gue', bytes, offset, gueLayout, values, length, problems);
  const known = problems.length === 0 && number(values, 'control') === 0;
  const kind = known ? protocolKind(number(values, 'protocol'), step.network?.saddr.length === 16) : 'payload';
  return { layer, next: inside({ ...step, kind, offset: offset + length }) };
}

/** A header whose checksum covers all to the end of the IP packet, with the pseudo header of `protocol` where given. */
function readTransport(
  bytes: Uint8Array,
  step: Step,
  values: FieldValues,
  layout: HeaderLayout,
  claimed: number,
  protocol: number | undefined,
): Read {
  const { kind, offset, end, network, quoted = false } = step;
  const problems: string[] = [];
  if (claimed < layout.size) problems.push(`dataOffset below ${layout.size / 4}`);
  if (offset + claimed > end && !network?.partial) problems.push(`options end ${offset + claimed - end} bytes behind the packet`);
  const length = Math.min(Math.max(claimed, layout.size), end - offset);
  const pseudo = protocol === undefined || network === undefined ? 0 : pseudoHeaderSum({ ...network, protocol, length: end - offset });
  const sum = checksum(bytes.subarray(offset, end), pseudo);
  const judged = network === undefined || network.partial ? 'none' : sum === 0 ? 'valid' : 'invalid';
  const layer = { ...header(kind, bytes, offset, layout, values, length, problems), checksum: judged } as const;
  return { layer, next: inside({ kind: 'payload', offset: offset + length, end, quoted }) };
}

function header(
  kind: LayerKind,
  bytes: Uint8Array,
  offset: number,
  layout: HeaderLayout,
  values: FieldValues,
  length: number,
  problems: readonly string[],
  rest: 'options' | 'data' = 'options',
): ParsedLayer {
  const fields = Object.fromEntries(layout.fields.map((field) => [field.name, formatField(field, values[field.name] ?? 0)]));
  const behind = bytes.subarray(offset + layout.size, offset + length);
  return { kind, offset, length, fields: behind.length === 0 ? fields : { ...fields, [rest]: hex(behind) }, checksum: 'none', problems };
}

/** A layer of no bytes is no layer. */
function inside(step: Step): Step | undefined {
  return step.offset < step.end || (step.kind !== 'payload' && step.kind !== 'padding' && !step.quoted) ? step : undefined;
}

function layoutOf(kind: LayerKind): HeaderLayout {
  return kind === 'payload' || kind === 'padding' ? { size: 0, fields: [] } : layouts[kind];
}

function etherKind(etherType: number): LayerKind {
  if (isVlan(etherType)) return 'vlan';
  return etherKinds.get(etherType) ?? 'payload';
}

const etherKinds: ReadonlyMap<number, LayerKind> = new Map([
  [0x0800, 'ipv4'],
  [0x0806, 'arp'],
  [0x6558, 'ethernet'],
  [0x86dd, 'ipv6'],
]);

/** Extension headers and ICMPv6 are read over IPv6 only, ICMP over IPv4. */
function protocolKind(protocol: number, overIpv6: boolean): LayerKind {
  return protocolKinds.get(protocol) ?? (overIpv6 ? ipv6Kinds : ipv4Kinds).get(protocol) ?? 'payload';
}

const protocolKinds: ReadonlyMap<number, LayerKind> = new Map([
  [4, 'ipv4'],
  [6, 'tcp'],
  [17, 'udp'],
  [41, 'ipv6'],
  [47, 'gre'],
  [143, 'ethernet'],
]);
const ipv4Kinds: ReadonlyMap<number, LayerKind> = new Map([[1, 'icmp']]);
const ipv6Kinds: ReadonlyMap<number, LayerKind> = new Map([
  [0, 'hopByHop'],
  [43, 'routing'],
  [44, 'fragment'],
  [58, 'icmpv6'],
  [60, 'destination'],
]);

function number(values: FieldValues, name: string): number {
  const value = values[name];
  return typeof value === 'number' ? value : 0;
}

/** At most 32 bytes, then how many more there are. */
function hex(bytes: Uint8Array): string {
  const shown = Array.from(bytes.subarray(0, 32), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return bytes.length > 32 ? `${shown}… (${bytes.length} bytes)` : shown;
}
