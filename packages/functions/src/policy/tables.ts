/** The maps that a policy's stages and its controller share, and what lies in them. */
import {
  arrayMap,
  be16,
  be32,
  bool,
  events,
  fn,
  type Infer,
  ipv4Prefix,
  ipv6Address,
  ipv6Prefix,
  lpmTrie,
  lruHash,
  perCpuArray,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '@tailrace/stage';

/**
 * A flow as the endpoint sees it, the same for packets in either direction. IPv4 addresses are `::ffff:a.b.c.d`. ICMP
 * echoes have their id in `localPort`, and 1 in `remotePort` where the peer asks; protocols without ports have 0 in both.
 */
export const FlowKey = struct({ local: ipv6Address, remote: ipv6Address, localPort: u16, remotePort: u16, protocol: u8 });

/** What is known of a flow. Bytes of their own, so that two CPUs that learn different things do not undo each other. */
export const Flow = struct({
  /** When its last packet came (CLOCK_MONOTONIC, coarse). */
  last: u64,
  /** Place of the rule that let it start. */
  rule: u32,
  endpoint: u32,
  /** True where the peer started it. */
  inbound: bool,
  answered: bool,
  finIn: bool,
  finOut: bool,
  reset: bool,
});
interface FlowValue extends Infer<typeof Flow> {}

/** A fragmented packet whose first piece was let through. */
export const PieceKey = struct({ local: ipv6Address, remote: ipv6Address, id: u32, protocol: u8, inbound: bool });
/** When that was, and by which rule. */
export const Piece = struct({ last: u64, rule: u32, endpoint: u32 });

/** A peer within a scope: the rules of one endpoint, in one state, for one direction. */
export const Peer4 = struct({ prefixLen: u32, scope: be32, addr: be32 });
/** As `Peer4`. */
export const Peer6 = struct({ prefixLen: u32, scope: be32, hiHigh: be32, hiLow: be32, loHigh: be32, loLow: be32 });
/** A port, or some ports, of peers to which the same rules apply. */
export const PortRange = struct({ prefixLen: u32, peers: be32, protocol: be16, port: be16 });

/** Packets, and their bytes as programs see them. */
export const Traffic = struct({ packets: u64, bytes: u64 });
/** How many events a CPU has sent in a second of 2^30 ns, and how many packets it has told nothing of. */
export const Budget = struct({ second: u64, sent: u32, skipped: u64 });

/** A packet that was denied. */
export const DeniedEvent = struct({
  time: u64,
  local: ipv6Address,
  remote: ipv6Address,
  endpoint: u32,
  length: u32,
  ifindex: u32,
  localPort: u16,
  remotePort: u16,
  protocol: u8,
  reason: u8,
  tcpFlags: u8,
  inbound: bool,
});

/** What `flow` and `related` tell `decide`: let through; rules decide, over a flow or over this packet alone; or a reason to deny. */
export const Decision = { pass: 0, start: 1, once: 2 } as const;
/** Why a packet is denied, as counters and events have it. Below 3 are decisions. */
export const Reason = { rule: 3, endpoint: 4, state: 5, fragment: 6, malformed: 7, protocol: 8, full: 9 } as const;
/** Counters of an endpoint: one for each reason, in a power of two. */
export const REASONS = 16;

/** What `flow` and `related` write and `decide` reads: 12 of the 20 bytes that TC has. */
export const packetMetadata = {
  policyDecision: u8,
  policyProtocol: u8,
  policyTcpFlags: u8,
  /** The first piece of a fragmented packet. */
  policyFirstPiece: bool,
  policyLocalPort: u16,
  policyRemotePort: u16,
  policyPieceId: u32,
} as const;

/** How long flows are remembered behind their last packet, in ns. */
export interface FlowLimits {
  readonly tcp: bigint;
  readonly udp: bigint;
  readonly icmp: bigint;
  readonly other: bigint;
  readonly opening: bigint;
  readonly closing: bigint;
}

/** Sizes of a policy's maps. */
export interface PolicyCapacity {
  /** Default 65,536. Behind, flows that had no packet lately are forgotten. */
  readonly maxFlows?: number;
  /** 1..65,535; default 256. */
  readonly maxEndpoints?: number;
  /** Rules of all endpoints; default 4,096. */
  readonly maxRules?: number;
  /** Peers' prefixes of each family, for each endpoint and direction that has them; default 65,536. */
  readonly maxPeers?: number;
  /** Ports, protocols and blocks of ports for each set of rules that applies to some peer; default 65,536. */
  readonly maxPorts?: number;
}

/** The maps of one policy. */
export function policyTables(capacity: PolicyCapacity = {}) {
  const { maxFlows = 65_536, maxEndpoints = 256, maxRules = 4_096, maxPeers = 65_536, maxPorts = 65_536 } = capacity;
  return {
    flows: lruHash({ name: 'flows', key: FlowKey, value: Flow, maxEntries: maxFlows }),
    pieces: lruHash({ name: 'pieces', key: PieceKey, value: Piece, maxEntries: 4_096 }),
    /** Endpoint by address. */
    endpoints4: lpmTrie({ name: 'endpoints4', key: ipv4Prefix, value: u32, maxEntries: 16 * maxEndpoints }),
    endpoints6: lpmTrie({ name: 'endpoints6', key: ipv6Prefix, value: u32, maxEntries: 16 * maxEndpoints }),
    /** The scope of an endpoint's rules; each endpoint changes from old rules to new ones by one write here. */
    scopes: arrayMap({ name: 'scopes', value: u32, maxEntries: maxEndpoints + 1 }),
    /** Which set of rules applies to a peer. */
    peers4: lpmTrie({ name: 'peers4', key: Peer4, value: u32, maxEntries: maxPeers }),
    peers6: lpmTrie({ name: 'peers6', key: Peer6, value: u32, maxEntries: maxPeers }),
    /** Which rule of a set lets a port in. */
    ports: lpmTrie({ name: 'ports', key: PortRange, value: u32, maxEntries: maxPorts }),
    /** By place of a rule; 0 is nobody's. */
    hits: perCpuArray({ name: 'hits', value: Traffic, maxEntries: maxRules + 1 }),
    /** By endpoint times REASONS plus reason. */
    denials: perCpuArray({ name: 'denials', value: Traffic, maxEntries: (maxEndpoints + 1) * REASONS }),
    budget: perCpuArray({ name: 'budget', value: Budget, maxEntries: 1 }),
    denied: events({ name: 'denied', value: DeniedEvent, bytes: 65_536 }),
  };
}

/** Makes the fn that tells until when a flow is remembered. */
export function liveUntilFn(limits: FlowLimits) {
  return fn([Flow, u8], u64, { ...limits }, (flow: FlowValue, protocol, { tcp, udp, icmp, other, opening, closing }) => {
    const { last } = flow;
    if (flow.reset || (flow.finIn && flow.finOut)) return BigInt.asUintN(64, last + closing);
    if (protocol === 1 || protocol === 58) return BigInt.asUintN(64, last + icmp);
    if (!flow.answered) return BigInt.asUintN(64, last + opening);
    if (protocol === 6) return BigInt.asUintN(64, last + tcp);
    return BigInt.asUintN(64, last + (protocol === 17 ? udp : other));
  });
}

const second = 1_000_000_000n;
/** What flows are given unless said otherwise: RFC 5382 (TCP), RFC 4787 (UDP), RFC 5508 (ICMP). */
export const defaultLimits: FlowLimits = {
  tcp: 7_440n * second,
  udp: 180n * second,
  icmp: 60n * second,
  other: 600n * second,
  opening: 60n * second,
  closing: 30n * second,
};

/** Tables for stages to declare their uses with; `policy()` binds others. */
export const tables = policyTables();
/** As `tables`. */
export const liveUntil = liveUntilFn(defaultLimits);
