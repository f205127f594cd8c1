/** Address prefixes as people write them, to and from the keys of longest-prefix maps. */
import { ArgumentError, formatIp, formatIpv6, type Infer, ip, type ipv4Prefix, ipv6, type ipv6Prefix } from '@tailrace/stage';

/** A prefix of either family, as its map's key. */
export type Prefix =
  | { readonly family: 4; readonly key: Infer<typeof ipv4Prefix> }
  | { readonly family: 6; readonly key: Infer<typeof ipv6Prefix> };

/**
 * Reads `203.0.113.0/24`, `2001:db8::/32`, or an address alone, which is a prefix of its whole length. Throws
 * ArgumentError for other text and for bits that are set behind the prefix.
 */
export function parsePrefix(text: string): Prefix {
  const [address = '', length, ...rest] = text.split('/');
  const family = address.includes(':') ? 6 : 4;
  const most = family === 4 ? 32 : 128;
  const prefixLen = length === undefined ? most : /^\d{1,3}$/.test(length) ? Number(length) : Number.NaN;
  if (rest.length > 0 || !(prefixLen <= most))
    throw new ArgumentError(`prefix '${text}', expected an address and, behind a '/', a length of 0..${most}`);
  const prefix: Prefix =
    family === 4 ? { family, key: { prefixLen, addr: ip(address) } } : { family, key: { prefixLen, addr: ipv6(address) } };
  const masked = formatPrefix(prefix);
  if (masked !== formatPrefix(prefix, false))
    throw new ArgumentError(`prefix '${text}' has bits set behind its length, expected ${masked}`);
  return prefix;
}

/** The canonical text, e.g. `2001:db8::/32`; without the bits behind the length unless `cut` is false. */
export function formatPrefix({ family, key }: Prefix, cut = true): string {
  const length = key.prefixLen;
  if (family === 4) return `${formatIp(cut ? Number(maskOf(BigInt(key.addr), 32, length)) : key.addr)}/${length}`;
  const whole = maskOf((key.addr.hi << 64n) | key.addr.lo, 128, length);
  return `${formatIpv6(cut ? { hi: whole >> 64n, lo: BigInt.asUintN(64, whole) } : key.addr)}/${length}`;
}

/** The first `length` of `bits` bits. */
function maskOf(address: bigint, bits: number, length: number): bigint {
  const behind = BigInt(bits - length);
  return (address >> behind) << behind;
}
