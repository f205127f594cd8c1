/** Where the layer behind Ethernet starts. */

const ETHERNET_BYTES = 14;
const VLAN_BYTES = 4;

/** Bytes in front of a frame's network header: Ethernet and all VLAN tags (802.1Q and 802.1ad). */
export function networkOffset(frame: Uint8Array): number {
  let offset = ETHERNET_BYTES;
  while (isVlan(((frame[offset - 2] ?? 0) << 8) | (frame[offset - 1] ?? 0))) offset += VLAN_BYTES;
  return offset;
}

/** Whether an EtherType announces a VLAN tag. */
export function isVlan(etherType: number): boolean {
  return etherType === 0x8100 || etherType === 0x88a8;
}
