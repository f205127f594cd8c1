/** VLAN tags of frames whose start is written anew: what stands in front of the network header, to be kept or left out. */
import { be16, be32, struct } from '@tailrace/stage';

/** What follows the MAC addresses of a frame with two tags: each with the EtherType that announces it. With one, the first. */
export const Tags = struct({ first: be32, second: be32 });
/** The EtherType in front of a network header. */
export const Announced = struct({ etherType: be16 });
