/**
 * What a path may no longer take for known once the program has written into the packet: which headers there are, and what
 * is behind them. Where a write goes is judged by how far its pointer is from those that headers were found with.
 */
import type { Value } from '../ir.ts';
import { type Range, range } from '../range.ts';
import { current, fact, forgetFacts } from './fact.ts';
import { distanceOf } from './linear.ts';
import type { Lowering } from './lowering.ts';
import type { RefOperand } from './operand.ts';

/** Never changed by bytes: where the packet starts and ends, how long it is, and that it has 14 of them. */
const ENDS: ReadonlySet<string> = new Set(['packet:data', 'packet:end', 'packet:ethernet', 'packet:length', 'packet:segments']);
/** Decided by EtherType, tags, and the first byte of the network header. */
const NETWORK: ReadonlySet<string> = new Set([
  ...ENDS,
  ...['network', 'type', 'arp', 'ipv4', 'ipv6', 'vlanTags', 'vlanTci', 'innerVlanTci'].map((name) => `packet:${name}`),
]);
/** Network headers, with the bytes behind their base that decide what is behind them: lengths, protocol, fragment offset. */
const NETWORK_HEADERS = [
  { header: fact('packet:ipv4'), deciding: [range(16n, 18n), range(20n, 22n), range(23n, 24n)] },
  { header: fact('packet:ipv6'), deciding: [range(18n, 21n)] },
  { header: fact('packet:arp'), deciding: [] },
] as const;
const UPPER_HEADERS = ['upperStart', 'tcp', 'udp', 'icmp', 'icmpv6', 'ports', 'gre'].map((name) => fact(`packet:${name}`));
const TUNNEL = /^packet:(vxlan|gue):/;

/** Bytes that decide what the network header is, behind its base: up to the byte with version and header length. */
const VERSION_END = 15n;
/** What decides behind any of them, behind the base. */
const DECIDING = range(16n, 24n);
/** Where an upper layer starts at the earliest, and extension headers do, behind the base of a network header. */
const UPPER_START = 34n;
const EXTENSIONS_START = 54n;
/** EtherTypes and tags of a frame, counted from its first byte. */
const TAGS_START = 12n;
/** Bytes of two tags. */
const TAGS_SIZE = 8n;

/** Forgets what a store of `size` bytes at `base + offset` may have changed. */
export function packetWritten(lowering: Lowering, base: Value, offset: number, size: number): void {
  const forgetNetwork = (): void => forgetFacts(lowering, (name) => !ENDS.has(name));
  const forgetUpper = (): void => forgetFacts(lowering, (name) => !NETWORK.has(name));
  const bytes = (from: Range): Range => range(from.lo + BigInt(offset), from.hi + BigInt(offset + size));
  for (const { header, deciding } of NETWORK_HEADERS) {
    const distance = distanceFrom(base, current(lowering, header));
    if (!distance) continue;
    // everything that decides about the network header lies in front of this place
    const written = bytes(distance);
    if (written.lo < VERSION_END) return forgetNetwork();
    if (deciding.some((range) => meets(written, range))) return forgetUpper();
    return forgetBehind(lowering, written, 0n, base, offset, forgetUpper);
  }
  const distance = distanceOf(base);
  if (!distance) return forgetNetwork();
  const written = bytes(distance);
  if (meets(written, range(TAGS_START, VERSION_END + TAGS_SIZE))) return forgetNetwork();
  if (meets(written, range(DECIDING.lo, DECIDING.hi + TAGS_SIZE))) return forgetUpper();
  forgetBehind(lowering, written, TAGS_SIZE, base, offset, forgetUpper);
}

/** Writes behind the fixed part of a network header: into extension headers, the upper layer, or what it carries. */
function forgetBehind(lowering: Lowering, written: Range, tags: bigint, base: Value, offset: number, forgetUpper: () => void): void {
  if (written.hi > EXTENSIONS_START && !isUpper(lowering, base, offset)) return forgetUpper();
  if (written.hi > UPPER_START - tags) forgetFacts(lowering, (name) => TUNNEL.test(name));
}

/** Is the place within an upper layer that the path knows, and so behind all extension headers? */
function isUpper(lowering: Lowering, base: Value, offset: number): boolean {
  return UPPER_HEADERS.some((variable) => {
    const known = current(lowering, variable);
    const distance = distanceFrom(base, known);
    return known?.kind === 'ref' && distance !== undefined && distance.lo + BigInt(offset) >= BigInt(known.offset);
  });
}

/** How far a pointer is from the base of a header; undefined where that is not known. */
function distanceFrom(base: Value, header: ReturnType<typeof current>): Range | undefined {
  return header?.kind === 'ref' ? distanceOf(base, (header as RefOperand).base) : undefined;
}

const meets = (a: Range, b: Range): boolean => a.lo < b.hi && a.hi > b.lo;
