/** IP and MAC addresses as text and as network-order bytes. */
import { isIPv4, isIPv6 } from 'node:net';
import { ArgumentError } from '@tailrace/bpf';

/** AF_INET and AF_INET6. */
export const Family = { ipv4: 2, ipv6: 10 } as const;
export type Family = keyof typeof Family;

/** An address or prefix, parsed. */
export interface Prefix {
  readonly family: Family;
  /** 4 or 16 bytes, network order. */
  readonly bytes: Uint8Array;
  /** Bits of the prefix: 32 or 128 for a lone address. */
  readonly length: number;
}

/** Parses `10.0.0.1`, `10.0.0.0/24`, `fd00::1/64`. Throws ArgumentError. */
export function parsePrefix(text: string): Prefix {
  const [address = '', length, ...rest] = text.split('/');
  const bytes = rest.length > 0 ? undefined : addressBytes(address);
  if (!bytes) throw new ArgumentError(`${text} is no IP address or prefix`);
  const bits = bytes.length * 8;
  const prefix = length === undefined ? bits : Number(length);
  if (length === '' || !Number.isInteger(prefix) || prefix < 0 || prefix > bits) {
    throw new ArgumentError(`the prefix length of ${text} must be 0 to ${bits}`);
  }
  return { family: bits === 32 ? 'ipv4' : 'ipv6', bytes, length: prefix };
}

/** Parses an address without a prefix length. Throws ArgumentError. */
export function parseAddress(text: string): Prefix {
  if (text.includes('/')) throw new ArgumentError(`${text} is a prefix, expected an address`);
  return parsePrefix(text);
}

/** Formats 4 or 16 bytes; IPv6 in its shortest form (RFC 5952). */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const groups = Array.from({ length: 8 }, (_, index) => view.getUint16(index * 2).toString(16));
  // URL normalises to RFC 5952.
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}

/** Parses `02:00:00:00:00:01` to 6 bytes. Throws ArgumentError. */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) throw new ArgumentError(`${text} is no MAC address`);
  return Uint8Array.from(text.split(':'), (part) => Number.parseInt(part, 16));
}

/** Formats bytes as `02:00:00:00:00:01`. */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function addressBytes(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const compact = new URL(`http://[${text}]/`).hostname.slice(1, -1);
  const [head = '', tail] = compact.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: 8 - front.length - back.length }, () => '0');
  const groups = [...front, ...zeros, ...back].map((group) => Number.parseInt(group, 16));
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}
