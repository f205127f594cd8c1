/** Addresses as tests give them, as the bytes that a header holds. Text and numbers are those of @tailrace/stage. */
import { ArgumentError } from '@tailrace/bpf';
import { formatIp, formatIpv6, formatMac, type Ipv6Halves, ip, ipv6, macAddress } from '@tailrace/stage';

/** `02:00:00:00:00:01`, its number below 2^48, or its 6 bytes in network order. */
export type MacAddress = string | number | Uint8Array;
/** `192.0.2.1`, its host number (0xc0000201), or its 4 bytes in network order. */
export type Ipv4Address = string | number | Uint8Array;
/** `2001:db8::1`, its halves, or its 16 bytes in network order. */
export type Ipv6Address = string | Ipv6Halves | Uint8Array;

/** The 6 bytes of a MAC address. Throws ArgumentError. */
export function macBytes(address: MacAddress): Uint8Array {
  if (address instanceof Uint8Array) return sized(address, 6, 'MAC');
  const number = BigInt(typeof address === 'string' ? macAddress(address) : address);
  return bigEndian(number, 6, 'MAC');
}

/** The 4 bytes of an IPv4 address in network order. Throws ArgumentError. */
export function ipv4Bytes(address: Ipv4Address): Uint8Array {
  if (address instanceof Uint8Array) return sized(address, 4, 'IPv4');
  return bigEndian(BigInt(typeof address === 'string' ? ip(address) : address), 4, 'IPv4');
}

/** An IPv4 address as a host number. Throws ArgumentError. */
export function ipv4Number(address: Ipv4Address): number {
  const bytes = ipv4Bytes(address);
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
}

/** The 16 bytes of an IPv6 address in network order. Throws ArgumentError. */
export function ipv6Bytes(address: Ipv6Address): Uint8Array {
  if (address instanceof Uint8Array) return sized(address, 16, 'IPv6');
  const { hi, lo } = typeof address === 'string' ? ipv6(address) : address;
  return Uint8Array.from([...bigEndian(hi, 8, 'IPv6'), ...bigEndian(lo, 8, 'IPv6')]);
}

/** The text of an address in network order, by its length: 6 bytes are a MAC address, 4 IPv4, 16 IPv6. */
export function formatBytes(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length === 4) return formatIp(view.getUint32(0));
  if (bytes.length === 6) return formatMac(view.getUint16(0) * 2 ** 32 + view.getUint32(2));
  if (bytes.length === 16) return formatIpv6({ hi: view.getBigUint64(0), lo: view.getBigUint64(8) });
  throw new ArgumentError(`an address of ${bytes.length} bytes, expected 4, 6 or 16`);
}

function sized(bytes: Uint8Array, length: number, what: string): Uint8Array {
  if (bytes.length !== length) throw new ArgumentError(`an ${what} address of ${bytes.length} bytes, expected ${length}`);
  return bytes;
}

function bigEndian(number: bigint, length: number, what: string): Uint8Array {
  if (number < 0n || number >= 1n << BigInt(8 * length)) throw new ArgumentError(`${what} address ${number}, expected ${length} bytes`);
  return Uint8Array.from({ length }, (_, index) => Number((number >> BigInt(8 * (length - 1 - index))) & 0xffn));
}
