/**
 * TC egress, behind the exit `icmp` of restore.ts: the network stack's own ICMP error about an answer, which it met on
 * the way to the client: too large for the client's link, or without a route. The packet that it quotes gets the
 * balancer's address back, to which the real sent it.
 */
import { Ipv4, Ports, stage } from '@tailrace/stage';
import { tables } from './tables.ts';

const { leases } = tables;

/** Errors about anything else pass as they are. */
export const restoreError = stage({
  name: 'restoreError',
  hook: 'tcEgress',
  uses: {
    leases,
    /** The balancer's address. */
    source: 0,
    Ipv4,
    Ports,
  },
  program(ctx, { leases, source, Ipv4, Ports }) {
    const ip = ctx.ipv4();
    const icmp = ctx.icmp();
    if (!ip || !icmp) return ctx.next();
    const start = ctx.offsetOf(icmp) + 8;
    const quoted = ctx.at(Ipv4, start);
    if (!quoted) return ctx.next();
    if (quoted.version !== 4 || quoted.headerLength < 20 || quoted.fragmentOffset !== 0 || quoted.saddr !== ip.daddr) return ctx.next();
    const behind = start + quoted.headerLength;
    const ports = ctx.at(Ports, behind);
    if (!ports || behind + 8 > ctx.offsetOf(ip) + ip.totalLength) return ctx.next();
    const flow = leases.flowOf(quoted.saddr, ports.sport, ports.dport, quoted.protocol);
    if (flow === 0n || Number(flow >> 32n) !== quoted.daddr) return ctx.next();
    // a quoted header with its checksum in step adds up to what it did before, so that ICMP's checksum stays
    quoted.checksum = ctx.checksumReplace(quoted.checksum, quoted.daddr, source);
    quoted.daddr = source;
    return ctx.next();
  },
});
