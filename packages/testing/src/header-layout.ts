/**
 * Packet headers as tables of bit fields in the order of their RFCs; one table serves the builder, the parser and
 * the diff. Every field is big-endian; a field of more than 32 bits is bytes.
 */
import { ArgumentError } from '@tailrace/bpf';
import { formatBytes, ipv4Bytes } from './address.ts';

/** How a field reads in descriptions. */
export type FieldStyle = 'decimal' | 'hex' | 'flag' | 'mac' | 'ipv4' | 'ipv6';

/** One field of a header. */
export interface HeaderField {
  readonly name: string;
  readonly bits: number;
  readonly style: FieldStyle;
  /** What one unit of the field stands for: 8 for a fragment offset, which is given and shown in bytes. */
  readonly unit: number;
}

/** A header's fixed part. */
export interface HeaderLayout {
  /** Bytes. */
  readonly size: number;
  readonly fields: readonly HeaderField[];
}

/** Field values by name: numbers, or bytes for fields of more than 32 bits. */
export type FieldValues = Readonly<Record<string, number | Uint8Array>>;

/** Ethernet II (IEEE 802.3, 3.2.6). */
export const ethernetLayout = layout(['dst', 48, 'mac'], ['src', 48, 'mac'], ['etherType', 16, 'hex']);

/** An 802.1Q or 802.1ad tag behind the EtherType that announces it (IEEE 802.1Q, 9.6). */
export const vlanLayout = layout(['priority', 3], ['dropEligible', 1, 'flag'], ['id', 12], ['etherType', 16, 'hex']);

/** RFC 826, for IPv4 over Ethernet. */
export const arpLayout = layout(
  ['hardwareType', 16],
  ['protocolType', 16, 'hex'],
  ['hardwareLength', 8],
  ['protocolLength', 8],
  ['operation', 16],
  ['senderMac', 48, 'mac'],
  ['senderIp', 32, 'ipv4'],
  ['targetMac', 48, 'mac'],
  ['targetIp', 32, 'ipv4'],
);

/** RFC 791, 3.1; options follow. */
export const ipv4Layout = layout(
  ['version', 4],
  ['ihl', 4],
  ['tos', 8, 'hex'],
  ['totalLength', 16],
  ['id', 16],
  ['reserved', 1, 'flag'],
  ['dontFragment', 1, 'flag'],
  ['moreFragments', 1, 'flag'],
  ['fragmentOffset', 13, 'decimal', 8],
  ['ttl', 8],
  ['protocol', 8],
  ['checksum', 16, 'hex'],
  ['saddr', 32, 'ipv4'],
  ['daddr', 32, 'ipv4'],
);

/** RFC 8200, 3. */
export const ipv6Layout = layout(
  ['version', 4],
  ['trafficClass', 8, 'hex'],
  ['flowLabel', 20, 'hex'],
  ['payloadLength', 16],
  ['nextHeader', 8],
  ['hopLimit', 8],
  ['saddr', 128, 'ipv6'],
  ['daddr', 128, 'ipv6'],
);

/** Hop-by-hop and destination options (RFC 8200, 4.3 and 4.6); options follow, from the third byte on. */
export const optionsHeaderLayout = layout(['nextHeader', 8], ['extensionLength', 8]);

/** RFC 8200, 4.4; data of the routing type follow. */
export const routingLayout = layout(['nextHeader', 8], ['extensionLength', 8], ['type', 8], ['segmentsLeft', 8]);

/** RFC 8200, 4.5. */
export const fragmentLayout = layout(
  ['nextHeader', 8],
  ['reserved', 8, 'hex'],
  ['fragmentOffset', 13, 'decimal', 8],
  ['reservedBits', 2],
  ['moreFragments', 1, 'flag'],
  ['id', 32],
);

/** RFC 9293, 3.1; options follow. */
export const tcpLayout = layout(
  ['sport', 16],
  ['dport', 16],
  ['seq', 32],
  ['ackSeq', 32],
  ['dataOffset', 4],
  ['reserved', 4, 'hex'],
  ['cwr', 1, 'flag'],
  ['ece', 1, 'flag'],
  ['urg', 1, 'flag'],
  ['ack', 1, 'flag'],
  ['psh', 1, 'flag'],
  ['rst', 1, 'flag'],
  ['syn', 1, 'flag'],
  ['fin', 1, 'flag'],
  ['window', 16],
  ['checksum', 16, 'hex'],
  ['urgentPointer', 16],
);

/** RFC 768. */
export const udpLayout = layout(['sport', 16], ['dport', 16], ['length', 16], ['checksum', 16, 'hex']);

/** RFC 792 and RFC 4443, 2.1: an echo. */
export const icmpLayout = layout(['type', 8], ['code', 8], ['checksum', 16, 'hex'], ['id', 16], ['sequence', 16]);

const icmpMtuLayout = layout(['type', 8], ['code', 8], ['checksum', 16, 'hex'], ['unused', 16], ['mtu', 16]);
const icmpv6MtuLayout = layout(['type', 8], ['code', 8], ['checksum', 16, 'hex'], ['mtu', 32]);
const icmpRestLayout = layout(['type', 8], ['code', 8], ['checksum', 16, 'hex'], ['rest', 32, 'hex']);

/** How the last four bytes of a message read: as an echo's, with the next hop's MTU (RFC 1191, 4; RFC 4443, 3.2), or as they are. */
export function icmpLayoutOf(kind: 'icmp' | 'icmpv6', type: number): HeaderLayout {
  if (kind === 'icmp' ? type === 0 || type === 8 : type === 128 || type === 129) return icmpLayout;
  if (kind === 'icmp') return type === 3 ? icmpMtuLayout : icmpRestLayout;
  return type === 2 ? icmpv6MtuLayout : icmpRestLayout;
}

/** The first 4 bytes of GRE (RFC 2890). */
export const greLayout = layout(
  ['hasChecksum', 1, 'flag'],
  ['reservedBit', 1],
  ['hasKey', 1, 'flag'],
  ['hasSequence', 1, 'flag'],
  ['reserved', 9],
  ['version', 3],
  ['protocol', 16, 'hex'],
);

/** GRE with the words that its flags announce. */
export function greLayoutWith({ hasChecksum, hasKey, hasSequence }: FieldValues): HeaderLayout {
  const fields = [
    ...(hasChecksum ? layout(['checksum', 16, 'hex'], ['reserved1', 16]).fields : []),
    ...(hasKey ? layout(['key', 32]).fields : []),
    ...(hasSequence ? layout(['sequence', 32]).fields : []),
  ];
  return { size: greLayout.size + fields.reduce((sum, { bits }) => sum + bits, 0) / 8, fields: [...greLayout.fields, ...fields] };
}

/** RFC 7348, 5. */
export const vxlanLayout = layout(['reservedFlags', 4], ['hasVni', 1, 'flag'], ['reserved', 27, 'hex'], ['vni', 24], ['reserved1', 8]);

/** Variant 0 of GUE (draft-ietf-intarea-gue, 3.1); options follow. */
export const gueLayout = layout(
  ['version', 2],
  ['control', 1, 'flag'],
  ['optionsLength', 5, 'decimal', 4],
  ['protocol', 8],
  ['flags', 16, 'hex'],
);

/** Encodes a header; a field that is not given is zero. Throws ArgumentError where a value does not fit its field. */
export function writeHeader(header: HeaderLayout, values: FieldValues): Uint8Array {
  const bytes = new Uint8Array(header.size);
  let bit = 0;
  for (const field of header.fields) {
    const value = values[field.name] ?? 0;
    if (typeof value === 'number') writeBits(bytes, bit, field, value);
    else if (value.length * 8 === field.bits) bytes.set(value, bit / 8);
    else throw new ArgumentError(`field '${field.name}' has ${value.length} bytes, expected ${field.bits / 8}`);
    bit += field.bits;
  }
  return bytes;
}

/** Decodes the header at `offset`, which must lie within `bytes` as a whole. */
export function readHeader(header: HeaderLayout, bytes: Uint8Array, offset: number): FieldValues {
  const values: Record<string, number | Uint8Array> = {};
  let bit = offset * 8;
  for (const field of header.fields) {
    values[field.name] = field.bits > 32 ? bytes.slice(bit / 8, (bit + field.bits) / 8) : readBits(bytes, bit, field.bits) * field.unit;
    bit += field.bits;
  }
  return values;
}

/** A field's value as text: addresses in their usual form, flags as `true` and `false`. */
export function formatField(field: HeaderField, value: number | Uint8Array): string {
  if (typeof value !== 'number') return formatBytes(value);
  if (field.style === 'ipv4') return formatBytes(ipv4Bytes(value));
  if (field.style === 'flag') return String(value === 1);
  return field.style === 'hex' ? `0x${value.toString(16).padStart(Math.ceil(field.bits / 4), '0')}` : String(value);
}

function layout(...fields: readonly (readonly [name: string, bits: number, style?: FieldStyle, unit?: number])[]): HeaderLayout {
  const bits = fields.reduce((sum, [, width]) => sum + width, 0);
  return { size: bits / 8, fields: fields.map(([name, width, style = 'decimal', unit = 1]) => ({ name, bits: width, style, unit })) };
}

function writeBits(bytes: Uint8Array, start: number, field: HeaderField, value: number): void {
  const units = value / field.unit;
  if (!Number.isInteger(units) || units < 0 || units >= 2 ** field.bits) {
    const steps = field.unit === 1 ? '' : ` in steps of ${field.unit}`;
    throw new ArgumentError(`field '${field.name}' is ${value}, expected 0..${(2 ** field.bits - 1) * field.unit}${steps}`);
  }
  for (let index = 0; index < field.bits; index++) {
    const bit = start + field.bits - 1 - index;
    if (Math.floor(units / 2 ** index) % 2 === 1) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  }
}

function readBits(bytes: Uint8Array, start: number, count: number): number {
  let value = 0;
  for (let bit = start; bit < start + count; bit++) value = value * 2 + (((bytes[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1);
  return value;
}
