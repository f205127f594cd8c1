/** The balancer's maps: what its stages read and count, and what its controller fills. */
import { arrayMap, be32, type HandleOf, type Ipv6Halves, ipv6Address, mac, perCpuArray, struct, u16, u32, u64 } from '@tailrace/stage';
import { exactTable } from '../structures/exact-table.ts';
import { flowCache } from '../structures/flow-cache.ts';
import { maglevRing } from '../structures/maglev-ring.ts';
import type { WideKey } from '../structures/mix.ts';
import { wideFlowCache } from '../structures/wide-flow-cache.ts';
import { wideTable } from '../structures/wide-table.ts';

/** What a packet is for. Port and protocol 0 stand for the address alone: whether there is any vip on it. */
export interface VipTarget<A = number> {
  /** A host number for IPv4, two halves for IPv6. */
  readonly address: A;
  readonly port: number;
  /** A protocol number, see IpProtocol. */
  readonly protocol: number;
}

/** The key of a target in the table `vips`, as the stage `vip` makes it: address, port, 8 bits of zero, protocol. */
export function vipKey({ address, port, protocol }: VipTarget): bigint {
  return (BigInt(address) << 32n) | (BigInt(port) << 16n) | BigInt(protocol);
}

/** The key of an IPv6 target in the table `vips6`: address, port, 8 bits of zero, protocol. */
export function vipKey6({ address: { hi, lo }, port, protocol }: VipTarget<Ipv6Halves>): WideKey {
  return { hi, lo, low: (BigInt(port) << 16n) | BigInt(protocol) };
}

/** Packets, and their bytes with all headers as they came in. */
export const Traffic = struct({ packets: u64, bytes: u64 });

/** Values of `Real.state`. */
export const RealState = {
  /** Gone or not answering: its flows are picked anew. */
  down: 0,
  /** Takes the packets of flows that it has; whether it gets new ones is the ring's matter. */
  up: 1,
} as const;

/** Where packets for a real go: 32 bytes. Place 0 stands for nobody. */
export const Real = struct({
  /** Outer destination; 0 where that is IPv6, see Real6. */
  address: be32,
  /** Outer source; 0 where that is IPv6. */
  source: be32,
  /** MAC address of the next hop. */
  hop: mac,
  /** MAC address of our interface on the way there; used with `ifindex` only. */
  own: mac,
  /** See RealState. */
  state: u16,
  /** The one's complement sum of the outer header but for type of service and length, folded to 16 bits. */
  seed: u16,
  /** The interface to leave through; 0 for the one that the packet came in on. */
  ifindex: u32,
  /** The largest packet that fits behind the outer IPv4 header; 0 where the outer header is IPv6. */
  fits: u16,
  /** The number of the vip that it serves and 1; 0 where it is gone. For controllers that find it. */
  vip: u16,
});

/** What more is known of a real that has an IPv6 address, by the same place: 40 bytes. */
export const Real6 = struct({
  /** Outer destination. */
  address: ipv6Address,
  /** Outer source. */
  source: ipv6Address,
  /** The largest packet that fits behind the outer IPv6 header; 0 where the outer header is IPv4. */
  fits: u16,
});

/** Sizes of a balancer's maps. */
export interface Capacity {
  /** Vips; default 64. */
  readonly maxVips?: number;
  /** Reals of all vips together; default 1,023. */
  readonly maxReals?: number;
  /** Flows over IPv4 that are remembered, see FlowCacheOptions. */
  readonly flows?: number;
  /** Flows over IPv6 that are remembered; default 262,144 (6 MiB). */
  readonly flows6?: number;
  /** Flows over IPv4 that each CPU remembers, see FlowCacheOptions. */
  readonly flowsPerCpu?: number;
  /** CPUs that remember flows over IPv4 of their own, see FlowCacheOptions. */
  readonly shards?: number;
}

/** Declares fresh maps. Throws ArgumentError for sizes that no map can have. */
export function balancerTables(capacity: Capacity = {}) {
  const { maxVips = 64, maxReals = 1_023, flows, flows6, flowsPerCpu, shards } = capacity;
  return {
    // for each vip an entry of its own, the vip's index and 1, and one of its address
    vips: exactTable({ name: 'vips', entries: 2 * maxVips, maxValue: maxVips }),
    vips6: wideTable({ name: 'vips6', entries: 2 * maxVips }),
    vipTraffic: perCpuArray({ name: 'vipTraffic', value: Traffic, maxEntries: maxVips }),
    ring: maglevRing({ name: 'ring', rings: maxVips }),
    conns: flowCache({
      name: 'conns',
      ...(flows === undefined ? {} : { flows }),
      ...(flowsPerCpu === undefined ? {} : { perCpu: flowsPerCpu }),
      ...(shards === undefined ? {} : { shards }),
    }),
    conns6: wideFlowCache({ name: 'conns6', ...(flows6 === undefined ? {} : { flows: flows6 }) }),
    reals: arrayMap({ name: 'reals', value: Real, maxEntries: maxReals + 1 }),
    reals6: arrayMap({ name: 'reals6', value: Real6, maxEntries: maxReals + 1 }),
    realTraffic: perCpuArray({ name: 'realTraffic', value: Traffic, maxEntries: maxReals + 1 }),
  };
}

/** The maps of one balancer. */
export type BalancerTables = ReturnType<typeof balancerTables>;
/** The handles of a balancer's maps. */
export type BalancerHandles = { readonly [K in keyof BalancerTables]: HandleOf<BalancerTables[K]> };

/** What the stages are declared with; a balancer binds its own in their place. */
export const tables: BalancerTables = balancerTables();
