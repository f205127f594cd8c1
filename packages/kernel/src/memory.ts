/**
 * Memory that the kernel reads and writes: bytes outside of V8's heap whose address never changes. A Memory must stay
 * reachable for as long as the kernel may use it.
 */
import koffi from 'koffi';

/** A block of zeroed bytes at a fixed address. */
export interface Memory {
  readonly bytes: Uint8Array;
  /** The same bytes; multi-byte values in host order, which is little-endian on all machines Node runs this on. */
  readonly view: DataView;
  /** Address of the first byte. User addresses fit in 2^53. */
  readonly address: number;
}

/** Allocates `size` zeroed bytes, aligned to 8 (at least one byte, so that the address is real). */
export function allocate(size: number): Memory {
  const buffer = new ArrayBuffer(Math.max(size, 8));
  const bytes = new Uint8Array(buffer, 0, size);
  return { bytes, view: new DataView(buffer), address: Number(koffi.address(buffer)) };
}

/** Allocates a copy of `bytes`. */
export function allocateCopy(bytes: Uint8Array): Memory {
  const memory = allocate(bytes.length);
  memory.bytes.set(bytes);
  return memory;
}

/** Rounds up to a multiple of 8. */
export function alignTo8(size: number): number {
  return (size + 7) & ~7;
}
