/** The maps of full NAT: which port of the balancer stands for which flow, both ways, and what its vips look like. */
import { arrayMap, be32, lruHash, struct, u8, u16, u64 } from '@tailrace/stage';

/** The port and the real that a flow has. */
export const Binding = struct({
  /** Of the balancer's own address. */
  port: u16,
  /** The real's place in the table of reals. */
  real: u16,
});

/** What an answer of a real to the balancer carries. */
export const Reply = struct({
  /** The real's address. */
  real: be32,
  /** The real's port. */
  realPort: u16,
  /** The balancer's port. */
  port: u16,
  protocol: u8,
});

/** What clients see of a vip, and the port of its reals. */
export const NatVip = struct({ address: be32, port: u16, realPort: u16 });

/** How many flows are kept, and how many vips there are. */
export interface NatCapacity {
  readonly maxVips: number;
  /** Flows; the one that was not used for longest makes room for a new one. */
  readonly maxFlows: number;
}

/** Declares fresh maps. */
export function natTables({ maxVips, maxFlows }: NatCapacity) {
  return {
    /** By `flow`, as the stage `vip` writes it. */
    bindings: lruHash({ name: 'bindings', key: u64, value: Binding, maxEntries: maxFlows }),
    /** `flow` by what answers carry. */
    replies: lruHash({ name: 'replies', key: Reply, value: u64, maxEntries: maxFlows }),
    /** By a vip's index. */
    natVips: arrayMap({ name: 'natVips', value: NatVip, maxEntries: maxVips }),
  };
}

/** The maps of one balancer's NAT. */
export type NatTables = ReturnType<typeof natTables>;

/** What the stages are declared with; a balancer binds its own in their place. */
export const tables: NatTables = natTables({ maxVips: 64, maxFlows: 65_536 });
