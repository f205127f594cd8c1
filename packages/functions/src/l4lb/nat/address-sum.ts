/** An address as a checksum counts it, so that several words that change can be told to it as one. */
import { fn, u32 } from '@tailrace/stage';

/** The sum of an address's 16-bit words, at most 131,070. */
export const addressSum = fn([u32], u32, (address) => (address >>> 16) + (address & 0xffff));
