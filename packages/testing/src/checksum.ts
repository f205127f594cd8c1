/**
 * The Internet checksum (RFC 1071): partial sums, folding, and the pseudo headers of IPv4 (RFC 9293, 3.1) and IPv6
 * (RFC 8200, 8.1). Sums are plain numbers; they stay exact far beyond any packet's length.
 */

/** Adds the big-endian 16-bit words of `bytes` to `initial`; an odd last byte counts as the high half of a word. */
export function partialSum(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  return sum;
}

/** Folds a partial sum into 16 bits with end-around carry. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return folded;
}

/**
 * The checksum of `bytes`, 16 bits, as it is written big-endian into a header whose checksum field is zero.
 * Over bytes that hold their own right checksum the result is 0.
 */
export function checksum(bytes: Uint8Array, initial = 0): number {
  return ~fold(partialSum(bytes, initial)) & 0xffff;
}

/** What a transport checksum covers beside its own bytes. */
export interface PseudoHeader {
  /** 4 bytes for IPv4, 16 for IPv6, in network order. */
  readonly saddr: Uint8Array;
  readonly daddr: Uint8Array;
  /** The transport's protocol number. */
  readonly protocol: number;
  /** Bytes of transport header and payload. */
  readonly length: number;
}

/** The partial sum of a pseudo header. IPv4 and IPv6 lay it out differently, but their words add up the same way. */
export function pseudoHeaderSum(header: PseudoHeader): number {
  const { saddr, daddr, protocol, length } = header;
  return partialSum(saddr) + partialSum(daddr) + protocol + (length >>> 16) + (length & 0xffff);
}
