/** IP addresses of either family, as people write them and as maps and programs hold them. */
import { formatIp, formatIpv6, type Ipv6Halves, ip, ipv6 } from '@tailrace/stage';

/** An address: a host number for IPv4, two halves for IPv6. */
export type IpAddress = { readonly family: 4; readonly value: number } | { readonly family: 6; readonly value: Ipv6Halves };
/** 4 or 6. */
export type IpFamily = IpAddress['family'];

/** Reads `10.0.0.1` or `2001:db8::1`. Throws ArgumentError for other text. */
export function parseIp(text: string): IpAddress {
  return text.includes(':') ? { family: 6, value: ipv6(text) } : { family: 4, value: ip(text) };
}

/** The canonical text: IPv6 as in RFC 5952. */
export function formatAddress(address: IpAddress): string {
  return address.family === 4 ? formatIp(address.value) : formatIpv6(address.value);
}

/** The canonical text of an address. Throws ArgumentError for text that is none. */
export function canonicalIp(text: string): string {
  return formatAddress(parseIp(text));
}

/** The text of an address in the form of IPv6, where IPv4 is `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2). */
export function formatMapped({ hi, lo }: Ipv6Halves): string {
  const isIpv4 = hi === 0n && lo >> 32n === 0xffffn;
  return formatAddress(isIpv4 ? { family: 4, value: Number(lo & 0xffff_ffffn) } : { family: 6, value: { hi, lo } });
}

/** `10.0.0.1:80`, `[2001:db8::1]:80` (RFC 3986, section 3.2.2), of a canonical address. */
export function withPort(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
