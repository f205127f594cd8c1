/** MAC, IPv4 and IPv6 addresses between text, numbers and bytes in network order. */
import { ArgumentError } from '@tailrace/bpf';

/** `02:00:00:00:00:01` or its 6 bytes. */
export type MacAddress = string | Uint8Array;
/** `192.0.2.1`, its host-order number (`0xc0000201`), or its 4 bytes in network order. */
export type Ipv4Address = string | number | Uint8Array;
/** `2001:db8::1` or its 16 bytes in network order. */
export type Ipv6Address = string | Uint8Array;

/** The 6 bytes of a MAC address. Throws ArgumentError. */
export function macBytes(address: MacAddress): Uint8Array {
  if (typeof address !== 'string') return sized(address, 6, 'MAC address');
  const parts = address.split(':');
  if (parts.length !== 6 || !parts.every((part) => /^[0-9a-f]{1,2}$/i.test(part))) throw refused('MAC address', address);
  return Uint8Array.from(parts, (part) => Number.parseInt(part, 16));
}

/** The 4 bytes of an IPv4 address in network order. Throws ArgumentError. */
export function ipv4Bytes(address: Ipv4Address): Uint8Array {
  if (typeof address === 'number') {
    if (!Number.isInteger(address) || address < 0 || address > 0xffff_ffff) throw refused('IPv4 address', String(address));
    return Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address);
  }
  if (typeof address !== 'string') return sized(address, 4, 'IPv4 address');
  const parts = address.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255)) throw refused('IPv4 address', address);
  return Uint8Array.from(parts, Number);
}

/** An IPv4 address as a host-order number. Throws ArgumentError. */
export function ipv4Number(address: Ipv4Address): number {
  const bytes = ipv4Bytes(address);
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0);
}

/** The 16 bytes of an IPv6 address in network order; zones are refused. Throws ArgumentError. */
export function ipv6Bytes(address: Ipv6Address): Uint8Array {
  if (typeof address !== 'string') return sized(address, 16, 'IPv6 address');
  const halves = withoutDots(address).split('::');
  if (halves.length > 2) throw refused('IPv6 address', address);
  const [head = [], tail = []] = halves.map((half) => (half === '' ? [] : half.split(':')));
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) throw refused('IPv6 address', address);
  const words = [...head, ...Array<string>(Math.max(missing, 0)).fill('0'), ...tail];
  if (!words.every((word) => /^[0-9a-f]{1,4}$/i.test(word))) throw refused('IPv6 address', address);
  return Uint8Array.from(words.flatMap((word) => [Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16) & 255]));
}

/** `02:00:00:00:00:01`. */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** `192.0.2.1`, from bytes in network order or a host-order number. */
export function formatIpv4(address: Uint8Array | number): string {
  return (typeof address === 'number' ? ipv4Bytes(address) : address).join('.');
}

/** The canonical text of an IPv6 address (RFC 5952): lower case, the first longest run of zero words shortened. */
export function formatIpv6(bytes: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, index) => ((bytes[2 * index] ?? 0) << 8) | (bytes[2 * index + 1] ?? 0));
  let best = { start: 0, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && words[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const text = (part: readonly number[]): string => part.map((word) => word.toString(16)).join(':');
  if (best.length < 2) return text(words);
  return `${text(words.slice(0, best.start))}::${text(words.slice(best.start + best.length))}`;
}

/** Rewrites a trailing dotted quad (`::ffff:192.0.2.1`) as two words. */
function withoutDots(address: string): string {
  const quad = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  if (quad === null) return address;
  const number = ipv4Number(quad[2] ?? '');
  return `${quad[1]}${(number >>> 16).toString(16)}:${(number & 0xffff).toString(16)}`;
}

function sized(bytes: Uint8Array, length: number, what: string): Uint8Array {
  if (bytes.length !== length) throw new ArgumentError(`${what} has ${bytes.length} bytes, expected ${length}`);
  return bytes;
}

function refused(what: string, text: string): ArgumentError {
  return new ArgumentError(`'${text}' is not a valid ${what}`);
}
