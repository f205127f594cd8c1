/** The maps of full NAT: which port of the balancer stands for which flow, and what its vips look like. */
import { arrayMap, be16, be32, struct } from '@tailrace/stage';
import { type PortRange, portLeases } from './leases.ts';

/** What clients see of a vip, and the port of its reals. */
export const NatVip = struct({ address: be32, port: be16, realPort: be16 });

/** The ports of the balancer's address that stand for flows: below those that Linux gives to sockets. */
export const NAT_PORTS: PortRange = { from: 1_024, to: 32_767 };

/** How many flows are kept, how many vips there are, and the ports for flows. */
export interface NatCapacity {
  readonly maxVips: number;
  /** Flows; the one that was not used for longest makes room for a new one. */
  readonly maxFlows: number;
  readonly ports: PortRange;
}

/** Declares fresh maps. Throws ArgumentError for sizes that no map can have. */
export function natTables({ maxVips, maxFlows, ports }: NatCapacity) {
  return {
    leases: portLeases({ name: 'leases', ports, flows: maxFlows }),
    /** By a vip's index. */
    natVips: arrayMap({ name: 'natVips', value: NatVip, maxEntries: maxVips }),
  };
}

/** The maps of one balancer's NAT. */
export type NatTables = ReturnType<typeof natTables>;

/** What the stages are declared with; a balancer binds its own in their place. */
export const tables: NatTables = natTables({ maxVips: 64, maxFlows: 65_536, ports: NAT_PORTS });
