/**
 * Reads a frame's layers as a person would want to see them: fields by name, checksums judged, what is wrong said.
 * It reads as far as the bytes allow and never throws. What the compiler's accessors accept is simulation.ts's matter.
 */
import { checksum, pseudoHeaderSum } from './checksum.ts';
import {
  ethernetLayout,
  type FieldValues,
  formatField,
  type HeaderLayout,
  icmpLayout,
  ipv4Layout,
  ipv6Layout,
  readHeader,
  tcpLayout,
  udpLayout,
} from './header-layout.ts';
import { frameBytes, type Packet } from './packet.ts';

/** What a layer can be; `padding` is what lies behind an IP packet's own length. */
export type LayerKind = 'ethernet' | 'ipv4' | 'ipv6' | 'tcp' | 'udp' | 'icmp' | 'icmpv6' | 'payload' | 'padding';

/** One layer of a parsed frame. */
export interface ParsedLayer {
  readonly kind: LayerKind;
  /** Bytes from the start of the frame. */
  readonly offset: number;
  /** Bytes of the header with its options, or of the payload. */
  readonly length: number;
  /** Field values as text, in the header's order; `options` and `bytes` in hexadecimal. */
  readonly fields: Readonly<Record<string, string>>;
  /** `none` for layers without a checksum, UDP's zero over IPv4, and fragments, where it cannot be judged. */
  readonly checksum: 'valid' | 'invalid' | 'none';
  /** What is wrong with this layer, one lowercase phrase each. */
  readonly problems: readonly string[];
}

/** The layers of a frame, outermost first. */
export function parse(frame: Packet | Uint8Array): ParsedLayer[] {
  const bytes = frameBytes(frame);
  const layers: ParsedLayer[] = [];
  let step: Step | undefined = { kind: 'ethernet', offset: 0, end: bytes.length };
  while (step !== undefined) {
    const { layer, next }: Read = read(bytes, step);
    layers.push(layer);
    step = next;
  }
  const end = layers.reduce((furthest, layer) => Math.max(furthest, layer.offset + layer.length), 0);
  if (end < bytes.length) layers.push(opaque('padding', bytes, { offset: end, end: bytes.length }));
  return layers;
}

/** One line a layer, with lengths, fields and what is wrong; for failure messages. */
export function describe(frame: Packet | Uint8Array): string {
  return parse(frame).map(describeLayer).join('\n');
}

/** One layer as one line; of its flags those that are set. */
export function describeLayer({ kind, length, fields, checksum: judged, problems }: ParsedLayer): string {
  const shown = Object.entries(fields).flatMap(([name, value]) => {
    if (value === 'false') return [];
    if (value === 'true') return [name];
    return [`${name}=${value}${name === 'checksum' && judged !== 'none' ? ` (${judged})` : ''}`];
  });
  return [`${kind} ${length} bytes:`, ...shown, ...problems.map((problem) => `[${problem}]`)].join(' ');
}

interface Step {
  readonly kind: LayerKind;
  readonly offset: number;
  /** Where the enclosing layer's content ends. */
  readonly end: number;
  readonly network?: { readonly saddr: Uint8Array; readonly daddr: Uint8Array; readonly fragment: boolean };
}

interface Read {
  readonly layer: ParsedLayer;
  readonly next: Step | undefined;
}

const layouts = {
  ethernet: ethernetLayout,
  ipv4: ipv4Layout,
  ipv6: ipv6Layout,
  tcp: tcpLayout,
  udp: udpLayout,
  icmp: icmpLayout,
  icmpv6: icmpLayout,
} as const;

function read(bytes: Uint8Array, step: Step): Read {
  const { kind, offset, end } = step;
  if (kind === 'payload' || kind === 'padding') return { layer: opaque(kind, bytes, step), next: undefined };
  const layout = layouts[kind];
  if (end - offset < layout.size) {
    const layer = opaque('payload', bytes, step);
    return { layer: { ...layer, problems: [`${end - offset} of ${layout.size} bytes of ${kind}`] }, next: undefined };
  }
  const values = readHeader(layout, bytes, offset);
  switch (kind) {
    case 'ethernet':
      return readEthernet(bytes, step, values);
    case 'ipv4':
      return readIpv4(bytes, step, values);
    case 'ipv6':
      return readIpv6(bytes, step, values);
    case 'tcp':
      return readTransport(bytes, step, values, layout, number(values, 'dataOffset') * 4, 6);
    case 'udp':
      return readUdp(bytes, step, values);
    case 'icmp':
      return readTransport(bytes, step, values, layout, layout.size, undefined);
    case 'icmpv6':
      return readTransport(bytes, step, values, layout, layout.size, 58);
  }
}

function readEthernet(bytes: Uint8Array, { offset, end }: Step, values: FieldValues): Read {
  const etherType = number(values, 'etherType');
  const kind = etherType === 0x0800 ? 'ipv4' : etherType === 0x86dd ? 'ipv6' : 'payload';
  const layer = header('ethernet', bytes, offset, ethernetLayout, values, ethernetLayout.size, []);
  return { layer, next: inside({ kind, offset: offset + ethernetLayout.size, end }) };
}

function readIpv4(bytes: Uint8Array, { offset, end }: Step, values: FieldValues): Read {
  const problems: string[] = [];
  if (number(values, 'version') !== 4) problems.push('version is not 4');
  const claimed = number(values, 'ihl') * 4;
  if (claimed < ipv4Layout.size) problems.push('ihl below 5');
  if (offset + claimed > end) problems.push(`options end ${offset + claimed - end} bytes behind the packet`);
  const length = Math.min(Math.max(claimed, ipv4Layout.size), end - offset);
  const total = number(values, 'totalLength');
  if (total < length) problems.push('totalLength below the header');
  if (total > end - offset) problems.push(`totalLength ${total} of ${end - offset} bytes`);
  const judged = checksum(bytes.subarray(offset, offset + length)) === 0 ? 'valid' : 'invalid';
  const layer = { ...header('ipv4', bytes, offset, ipv4Layout, values, length, problems), checksum: judged } as const;
  const first = number(values, 'fragmentOffset') === 0;
  const fragment = !first || number(values, 'moreFragments') === 1;
  const kind = first && claimed >= ipv4Layout.size ? transport(number(values, 'protocol'), 'icmp') : 'payload';
  const network = { saddr: bytes.slice(offset + 12, offset + 16), daddr: bytes.slice(offset + 16, offset + 20), fragment };
  return { layer, next: inside({ kind, offset: offset + length, end: Math.min(end, Math.max(offset + total, offset + length)), network }) };
}

function readIpv6(bytes: Uint8Array, { offset, end }: Step, values: FieldValues): Read {
  const problems: string[] = [];
  if (number(values, 'version') !== 6) problems.push('version is not 6');
  const start = offset + ipv6Layout.size;
  const length = number(values, 'payloadLength');
  if (length > end - start) problems.push(`payloadLength ${length} of ${end - start} bytes`);
  const layer = header('ipv6', bytes, offset, ipv6Layout, values, ipv6Layout.size, problems);
  const network = { saddr: bytes.slice(offset + 8, offset + 24), daddr: bytes.slice(offset + 24, offset + 40), fragment: false };
  return {
    layer,
    next: inside({ kind: transport(number(values, 'nextHeader'), 'icmpv6'), offset: start, end: Math.min(end, start + length), network }),
  };
}

function readUdp(bytes: Uint8Array, step: Step, values: FieldValues): Read {
  const result = readTransport(bytes, step, values, udpLayout, udpLayout.size, 17);
  const length = number(values, 'length');
  const problems = length === step.end - step.offset ? [] : [`length ${length} of ${step.end - step.offset} bytes`];
  const none = number(values, 'checksum') === 0 && step.network?.saddr.length === 4;
  return { ...result, layer: { ...result.layer, problems, ...(none ? { checksum: 'none' } : {}) } };
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
  const { kind, offset, end, network } = step;
  const problems: string[] = [];
  if (claimed < layout.size) problems.push(`dataOffset below ${layout.size / 4}`);
  if (offset + claimed > end) problems.push(`options end ${offset + claimed - end} bytes behind the packet`);
  const length = Math.min(Math.max(claimed, layout.size), end - offset);
  const pseudo = protocol === undefined || network === undefined ? 0 : pseudoHeaderSum({ ...network, protocol, length: end - offset });
  const sum = checksum(bytes.subarray(offset, end), pseudo);
  const judged = network === undefined || network.fragment ? 'none' : sum === 0 ? 'valid' : 'invalid';
  const layer = { ...header(kind, bytes, offset, layout, values, length, problems), checksum: judged } as const;
  return { layer, next: inside({ kind: 'payload', offset: offset + length, end }) };
}

function header(
  kind: LayerKind,
  bytes: Uint8Array,
  offset: number,
  layout: HeaderLayout,
  values: FieldValues,
  length: number,
  problems: readonly string[],
): ParsedLayer {
  const fields = Object.fromEntries(layout.fields.map((field) => [field.name, formatField(field, values[field.name] ?? 0)]));
  const options = bytes.subarray(offset + layout.size, offset + length);
  return { kind, offset, length, fields: options.length === 0 ? fields : { ...fields, options: hex(options) }, checksum: 'none', problems };
}

function opaque(kind: 'payload' | 'padding', bytes: Uint8Array, { offset, end }: Pick<Step, 'offset' | 'end'>): ParsedLayer {
  return { kind, offset, length: end - offset, fields: { bytes: hex(bytes.subarray(offset, end)) }, checksum: 'none', problems: [] };
}

/** A layer of no bytes is no layer. */
function inside(step: Step): Step | undefined {
  return step.offset < step.end || (step.kind !== 'payload' && step.kind !== 'padding') ? step : undefined;
}

function transport(protocol: number, icmp: 'icmp' | 'icmpv6'): LayerKind {
  if (protocol === 6) return 'tcp';
  if (protocol === 17) return 'udp';
  if (protocol === 4) return 'ipv4';
  if (protocol === 41) return 'ipv6';
  return protocol === (icmp === 'icmp' ? 1 : 58) ? icmp : 'payload';
}

function number(values: FieldValues, name: string): number {
  const value = values[name];
  return typeof value === 'number' ? value : 0;
}

/** At most 32 bytes, then how many more there are. */
function hex(bytes: Uint8Array): string {
  const shown = Array.from(bytes.subarray(0, 32), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return bytes.length > 32 ? `${shown}… (${bytes.length} bytes)` : shown;
}
