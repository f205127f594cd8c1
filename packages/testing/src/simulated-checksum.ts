/** What `ctx` says of checksums, over plain packets: sums are whole, as if no card were going to finish them. */
import { checksum, fold } from './checksum.ts';
import { SimulationError } from './live-view.ts';
import type { SimulatedPacket } from './simulated-packet.ts';

/** Whole words of 4 bytes as long as both `length` and the packet have more, as compiled programs take them. */
export function headerChecksum(packet: SimulatedPacket, header: unknown, length = packet.sizeOf(header)): number {
  const offset = packet.offsetOf(header);
  const words = Math.min(Math.ceil(length / 4), Math.floor((packet.length - offset) / 4));
  return checksum(packet.slice(offset, 4 * words));
}

/** RFC 1624, equation 3, over 32-bit words: ~(~check + ~from + to). */
export function checksumReplace(check: number, from: number, to: number): number {
  return replaced(check, [from], [to]);
}

/** A word under a checksum: a number of up to 32 bits, or the halves of an IPv6 address. */
export type SummedWord = number | { readonly hi: bigint; readonly lo: bigint };

/** Headers whose checksums can be brought in step: where the field is, from the header's first byte. */
const fields = { tcp: 16, udp: 6, icmp: 2, icmpv6: 2 } as const;
export type SummedHeader = keyof typeof fields;

/** `ctx.updateChecksum`. A sum of 0 means to UDP that there is none (RFC 768); ICMP has no pseudo header (RFC 792). */
export function updateChecksum(
  packet: SimulatedPacket,
  kind: SummedHeader,
  header: unknown,
  words: { readonly from: SummedWord; readonly to: SummedWord },
  of: 'segment' | 'pseudoHeader',
): void {
  const at = packet.offsetOf(header) + fields[kind];
  if (of === 'pseudoHeader' && kind === 'icmp') return;
  const before = packet.word(at);
  if (kind === 'udp' && before === 0) return;
  const after = replaced(before, parts(words.from), parts(words.to));
  packet.setWord(at, kind === 'udp' && after === 0 ? 0xffff : after);
}

function replaced(check: number, from: readonly number[], to: readonly number[]): number {
  const halves = (word: number): number => (word >>> 16) + (word & 0xffff);
  const removed = from.reduce((sum, word) => sum + halves(~word >>> 0), 0);
  const added = to.reduce((sum, word) => sum + halves(word >>> 0), 0);
  return ~fold((~check & 0xffff) + removed + added) & 0xffff;
}

function parts(word: SummedWord): number[] {
  if (typeof word === 'number') {
    if (!Number.isInteger(word) || word < 0 || word > 0xffff_ffff)
      throw new SimulationError(`a word under a checksum is ${word}, expected 32 unsigned bits`);
    return [word];
  }
  const low = (bits: bigint): number => Number(bits & 0xffff_ffffn);
  return [low(word.hi >> 32n), low(word.hi), low(word.lo >> 32n), low(word.lo)];
}
