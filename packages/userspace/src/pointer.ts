/** Pointers as registers hold them: the tag of a region above, an address below. */

/** The pointer with a tag, to an address. */
export function pointerTo(tag: number, address: number): bigint {
  return (BigInt(tag) << 32n) | BigInt(address >>> 0);
}

/** The tag of a pointer. */
export function tagOf(pointer: bigint): number {
  return Number(BigInt.asUintN(64, pointer) >> 32n);
}

/** The address of a pointer. */
export function addressOf(pointer: bigint): number {
  return Number(BigInt.asUintN(32, pointer));
}
