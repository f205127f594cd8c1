/**
 * Which port of the balancer's address stands for which flow: one table, by what the answers of a real carry, so that two
 * flows can never have the same port towards the same real. The ports that a flow may have are an order that only the
 * flow decides; a packet finds its own by asking for them in turn, mostly the first.
 *
 * Flows have no end that could be relied on, so nobody gives ports back. Where all that a new flow may have are taken, it
 * gets one whose flow has been idle for long enough. Idle is told without a clock in the way of packets: who looks for a
 * port marks what it finds taken with the time, a packet takes the mark away, and a mark that is old is an idle flow.
 */
import {
  ArgumentError,
  be16,
  be32,
  bool,
  defineStructure,
  fn,
  type Infer,
  lruHash,
  type Structure,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import { mix } from '../../structures/mix.ts';

/** Ports that a flow may have, in its own order. */
export const PORT_TRIES = 16;

/** What an answer of a real to the balancer carries. */
export const Answer = struct({
  /** The real's address and port. */
  real: be32,
  realPort: be16,
  /** The balancer's. */
  port: be16,
  protocol: u32,
});

/** Who has a port. */
export const Lease = struct({
  flow: u64,
  /** When somebody else wanted it first, since its last packet; 0 if nobody did. Units of 2^30 ns since boot. */
  wanted: u32,
  /** How long from then on it is kept. */
  keep: u32,
});
interface LeaseValue extends Infer<typeof Lease> {}

/**
 * How long the port of an idle flow is kept from others, in units of 2^30 ns: one that was never answered, one that was,
 * over TCP (RFC 5382, section 5) and UDP (RFC 4787, section 4.3), and one that a FIN or RST was seen of.
 */
export const Keep = { opening: 60, tcp: 6_930, udp: 180, closing: 30 } as const;

/** What programs do with leases. Flags are those of TCP, 0 for UDP; `now` is in units of 2^30 ns since boot, from 1. */
export interface PortLeasesOps {
  /** The port of a packet's flow towards a real, if it is the first one that it may have; 0 otherwise. */
  held(flow: bigint, real: number, realPort: number, protocol: number, flags: number): number;
  /** The port that a flow has; 0 where it has none. */
  find(flow: bigint, real: number, realPort: number, protocol: number): number;
  /**
   * The port that a flow has, or a new one; 0 where there is none to have. With `fresh`, for a flow that is new, it does not
   * look for an old one behind free ones.
   */
  take(flow: bigint, real: number, realPort: number, protocol: number, fresh: boolean, now: number): number;
  /** The flow of an answer; 0 where it is none. */
  flowOf(real: number, realPort: number, port: number, protocol: number): bigint;
  /** As `flowOf`, for an answer that goes to the client. */
  answered(real: number, realPort: number, port: number, protocol: number, flags: number): bigint;
}

/** What controllers do with leases. */
export interface PortLeasesHandle {
  /** All leases in no order that means anything. */
  entries(): readonly { readonly answer: Infer<typeof Answer>; readonly flow: bigint }[];
  /** Gives back the ports of flows that `which` says; returns how many. */
  forget(which: (flow: bigint) => boolean): number;
}

/** Leases of ports, see `portLeases`. */
export interface PortLeases extends Structure<PortLeasesOps, PortLeasesHandle> {}

/** A range of ports, both ends within it. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** Sizes of a table of leases. */
export interface PortLeasesOptions {
  readonly name: string;
  /** 1..65535. */
  readonly ports: PortRange;
  /** Leases at a time, 1..4,194,304. The one that was not used for longest makes room for a new one. */
  readonly flows: number;
}

/** Declares a table of leases. Throws ArgumentError for ranges and sizes that no table can have. */
export function portLeases({ name, ports, flows }: PortLeasesOptions): PortLeases {
  const { from, to } = ports;
  if (!Number.isInteger(from) || !Number.isInteger(to) || from < 1 || to > 65_535 || from > to)
    throw new ArgumentError(`portLeases '${name}': ports are ${from}..${to}, expected a range within 1..65535`);
  if (!Number.isInteger(flows) || flows < 1 || flows > 1 << 22)
    throw new ArgumentError(`portLeases '${name}': flows is ${flows}, expected 1..${1 << 22}`);
  const leases = lruHash({ name, key: Answer, value: Lease, maxEntries: flows });
  const nth = nthPort(from, to - from + 1);
  const { opening, tcp, udp, closing } = Keep;
  const claim = fn([u64, u32, u16, u16, u8], bool, { leases, opening }, (flow, real, realPort, port, protocol, { leases, opening }) => {
    const key = { real, realPort, port, protocol };
    if (leases.update(key, { flow, wanted: 0, keep: opening }, 'noexist')) return true;
    // another packet of the flow may have been faster, on another CPU
    const lease = leases.lookup(key);
    return lease !== undefined && lease.flow === flow;
  });
  return defineStructure({
    name,
    maps: { leases },
    fns: {
      held: fn(
        [u64, u32, u16, u8, u8],
        u16,
        { leases, mix, nth, opening, closing },
        (flow, real, realPort, protocol, flags, { leases, mix, nth, opening, closing }) => {
          const port = nth(Number(mix(flow) >> 32n));
          const lease = leases.lookup({ real, realPort, port, protocol });
          if (!lease || lease.flow !== flow) return 0;
          if (lease.wanted !== 0) lease.wanted = 0;
          // FIN, SYN, RST
          if ((flags & 0x07) !== 0) {
            if ((flags & 0x05) !== 0) lease.keep = closing;
            else if (lease.keep === closing) lease.keep = opening;
          }
          return port;
        },
      ),
      find: fn(
        [u64, u32, u16, u8],
        u16,
        { leases, mix, nth, ...order },
        (flow, real, realPort, protocol, { leases, mix, nth, tries, step }) => {
          const start = Number(mix(flow) >> 32n);
          for (let i = 0; i < tries; i++) {
            const port = nth((start + i * step) >>> 0);
            const lease = leases.lookup({ real, realPort, port, protocol });
            if (lease && lease.flow === flow) return port;
          }
          return 0;
        },
      ),
      take: fn(
        [u64, u32, u16, u8, bool, u32],
        u16,
        { leases, mix, nth, claim, opening, closing, ...order },
        (flow, real, realPort, protocol, fresh, now, { leases, mix, nth, claim, opening, closing, tries, step }) => {
          const start = Number(mix(flow) >> 32n);
          let free = 0;
          let second = 0;
          let idle = 0;
          for (let i = 0; i < tries; i++) {
            const port = nth((start + i * step) >>> 0);
            const lease = leases.lookup({ real, realPort, port, protocol });
            if (!lease) {
              if (free === 0) free = port;
              else if (second === 0) {
                second = port;
                if (fresh) break;
              }
            } else if (lease.flow === flow) {
              if (lease.wanted !== 0) lease.wanted = 0;
              if (fresh && lease.keep === closing) lease.keep = opening;
              return port;
            } else if (lease.wanted === 0) lease.wanted = now;
            else if (idle === 0 && lease.wanted + lease.keep < now) idle = port;
          }
          if (free !== 0 && claim(flow, real, realPort, free, protocol)) return free;
          if (second !== 0 && claim(flow, real, realPort, second, protocol)) return second;
          if (idle === 0) return 0;
          leases.delete({ real, realPort, port: idle, protocol });
          return claim(flow, real, realPort, idle, protocol) ? idle : 0;
        },
      ),
      flowOf: fn([u32, u16, u16, u8], u64, { leases }, (real, realPort, port, protocol, { leases }) => {
        const lease = leases.lookup({ real, realPort, port, protocol });
        return lease ? lease.flow : 0n;
      }),
      answered: fn(
        [u32, u16, u16, u8, u8],
        u64,
        { leases, opening, tcp, udp, closing },
        (real, realPort, port, protocol, flags, { leases, opening, tcp, udp, closing }) => {
          const lease = leases.lookup({ real, realPort, port, protocol });
          if (!lease) return 0n;
          if (lease.wanted !== 0) lease.wanted = 0;
          if ((flags & 0x05) !== 0) lease.keep = closing;
          else if (lease.keep === opening) lease.keep = protocol === 6 ? tcp : udp;
          return lease.flow;
        },
      ),
    },
    handle: ({ leases }) => ({
      entries: () => leases.getAll().map(([answer, { flow }]: [Infer<typeof Answer>, LeaseValue]) => ({ answer, flow })),
      forget(which) {
        const gone = leases.getAll().filter(([, { flow }]) => which(flow));
        return leases.deleteMany(gone.map(([answer]) => answer));
      },
    }),
  });
}

/** Steps of the golden ratio spread over a range as evenly as can be, however many of them there are. */
const order = { tries: PORT_TRIES, step: 0x9e37_79b9 } as const;

/** The port at a place in the range, as a share of 2^32. */
const nthPort = (from: number, ports: number) =>
  fn([u32], u16, { from, ports }, (place, { from, ports }) => from + Math.trunc((place * ports) / 0x1_0000_0000));
