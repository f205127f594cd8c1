/** EtherTypes as they lie in a frame, and as skb->protocol holds them: network order. */
export const IPV4: u32 = 0x0008;
export const IPV6: u32 = 0xdd86;
export const VLAN: u32 = 0x0081;
export const PROVIDER_VLAN: u32 = 0xa888;
/** What stands for frames with a length where others have a type: Novell's, and those with LLC. */
export const IEEE_802_3: u32 = 0x0100;
export const IEEE_802_2: u32 = 0x0400;
