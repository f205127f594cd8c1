/** Addresses as people write them, to and from the host numbers that programs and handles see. */
import { ArgumentError } from '@tailrace/bpf';

/** An IPv6 address as two halves of 64 bits, host order: the values of `ipv6Address`. */
export interface Ipv6Halves {
  readonly hi: bigint;
  readonly lo: bigint;
}

/** `ip('203.0.113.0')` is 0xcb007100. Throws ArgumentError where the text is no dotted quad; leading zeros are refused. */
export function ip(text: string): number {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1) ?? [];
  if (parts.length !== 4 || parts.some((part) => Number(part) > 255 || (part.length > 1 && part.startsWith('0'))))
    throw new ArgumentError(`ip: '${text}' is no IPv4 address, expected four numbers of 0..255`);
  return parts.reduce((address, part) => address * 256 + Number(part), 0);
}

/** `formatIp(0xcb007100)` is '203.0.113.0'. Throws ArgumentError outside 0..2^32-1. */
export function formatIp(address: number): string {
  if (!Number.isInteger(address) || address < 0 || address > 0xffff_ffff)
    throw new ArgumentError(`formatIp: ${address}, expected 0..4294967295`);
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');
}

/** Reads RFC 4291 text, with `::` and a dotted quad at the end where there is one, without a zone. Throws ArgumentError. */
export function ipv6(text: string): { hi: bigint; lo: bigint } {
  const groups = groupsOf(text);
  if (groups === undefined)
    throw new ArgumentError(`ipv6: '${text}' is no IPv6 address, expected eight groups of hex digits, or '::' for some`);
  const half = (from: number): bigint => groups.slice(from, from + 4).reduce((sum, group) => (sum << 16n) | BigInt(group), 0n);
  return { hi: half(0), lo: half(4) };
}

/** The canonical text of RFC 5952: lower case, the longest run of zero groups as `::`. Throws ArgumentError outside 64 bits. */
export function formatIpv6({ hi, lo }: Ipv6Halves): string {
  for (const half of [hi, lo])
    if (half < 0n || half >= 1n << 64n) throw new ArgumentError(`formatIpv6: a half is ${half}n, expected 0n..${(1n << 64n) - 1n}n`);
  const groups = [hi, lo].flatMap((half) => [48n, 32n, 16n, 0n].map((shift) => Number((half >> shift) & 0xffffn)));
  const { start, length } = longestZeros(groups);
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  return length < 2 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}

/** `macAddress('02:00:00:00:00:01')` is 0x020000000001. Throws ArgumentError where the text is no six pairs of hex digits. */
export function macAddress(text: string): number {
  if (!/^[\da-f]{2}(:[\da-f]{2}){5}$/i.test(text))
    throw new ArgumentError(`macAddress: '${text}' is no MAC address, expected six pairs of hex digits with colons`);
  return Number.parseInt(text.replaceAll(':', ''), 16);
}

/** `formatMac(1)` is '00:00:00:00:00:01'. Throws ArgumentError outside 0..2^48-1. */
export function formatMac(address: number): string {
  if (!Number.isInteger(address) || address < 0 || address >= 2 ** 48)
    throw new ArgumentError(`formatMac: ${address}, expected 0..${2 ** 48 - 1}`);
  return (address.toString(16).padStart(12, '0').match(/../g) ?? []).join(':');
}

/** The eight groups of an address, or `undefined` where the text is none. */
function groupsOf(text: string): readonly number[] | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head, tail] = [halfOf(halves[0] ?? '', halves.length === 1), halfOf(halves[1] ?? '', true)];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  return [...head, ...Array.from({ length: missing }, () => 0), ...tail];
}

/** The groups of one side of `::`; a dotted quad is allowed at the very end only. */
function halfOf(text: string, last: boolean): readonly number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const groups: number[] = [];
  for (const [i, part] of parts.entries()) {
    if (/^[\da-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16));
    else if (last && i === parts.length - 1 && isQuad(part)) groups.push(ip(part) >>> 16, ip(part) & 0xffff);
    else return undefined;
  }
  return groups;
}

function isQuad(text: string): boolean {
  return /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/.test(text);
}

/** The first of the longest runs of zeros. */
function longestZeros(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
