/**
 * TC ingress, behind the exit `icmp` of reply.ts: an ICMP error to the balancer's address. If it is about a request, from
 * the real or somebody on the way to it, the packet that it quotes gets the addresses and ports that it had when the
 * client sent it, and the client is told.
 */
import { Ipv4, Ports, stage } from '@tailrace/stage';
import { tables } from './tables.ts';

const { leases, natVips } = tables;

/** Errors about anything else are left to the network stack. */
export const replyError = stage({
  name: 'replyError',
  hook: 'tcIngress',
  uses: {
    leases,
    natVips,
    /** The balancer's address. */
    source: 0,
    Ipv4,
    Ports,
  },
  program(ctx, { leases, natVips, source, Ipv4, Ports }) {
    const ip = ctx.ipv4();
    const icmp = ctx.icmp();
    if (!ip || !icmp) return ctx.next();
    const start = ctx.offsetOf(icmp) + 8;
    const quoted = ctx.at(Ipv4, start);
    if (!quoted) return ctx.next();
    if (quoted.version !== 4 || quoted.headerLength < 20 || quoted.fragmentOffset !== 0 || quoted.saddr !== source) return ctx.next();
    const behind = start + quoted.headerLength;
    const ports = ctx.at(Ports, behind);
    if (!ports || behind + 8 > ctx.offsetOf(ip) + ip.totalLength) return ctx.next();
    const flow = leases.flowOf(quoted.daddr, ports.dport, ports.sport, quoted.protocol);
    if (flow === 0n) return ctx.next();
    const vip = natVips.lookup(Number(flow & 0xffffn));
    if (!vip) return ctx.drop('noVip');
    const client = Number(flow >> 32n);
    const clientPort = Number((flow >> 16n) & 0xffffn);
    // a quoted header with its checksum in step adds up to what it did before: of what ICMP's covers, only the ports differ
    quoted.checksum = ctx.checksumReplace(ctx.checksumReplace(quoted.checksum, source, client), quoted.daddr, vip.address);
    quoted.saddr = client;
    quoted.daddr = vip.address;
    const before = ports.sport + ports.dport;
    ports.sport = clientPort;
    ports.dport = vip.port;
    ip.checksum = ctx.checksumReplace(ip.checksum, source, client);
    ip.daddr = client;
    ctx.updateChecksum(icmp, before, clientPort + vip.port);
    return ctx.next();
  },
});
