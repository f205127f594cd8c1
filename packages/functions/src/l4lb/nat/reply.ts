/**
 * TC ingress: an answer of a real comes to the balancer's own address. It gets the client's as destination, so that the
 * network stack sends it there; which flow it is of stays in its port until restore.ts has seen it.
 */
import { stage } from '@tailrace/stage';
import { NAT_PORTS, tables } from './tables.ts';

const { leases } = tables;

/**
 * Exits: `fragment`, pieces of an answer that have its ports; `icmp`, ICMP errors to the balancer's address. Later pieces
 * are left to the network stack, which never gets the rest of them.
 */
export const reply = stage({
  name: 'reply',
  hook: 'tcIngress',
  uses: {
    leases,
    /** The balancer's address, and the ports of it that stand for flows. */
    source: 0,
    ports: NAT_PORTS,
  },
  program(ctx, { leases, source, ports }) {
    const ip = ctx.ipv4();
    if (!ip || ip.daddr !== source) return ctx.next();
    const tcp = ctx.tcp();
    const udp = ctx.udp();
    let flow = 0n;
    // what is none of ours is told by its port, before anything is looked up
    if (tcp && tcp.dport >= ports.from && tcp.dport <= ports.to) flow = leases.flowOf(ip.saddr, tcp.sport, tcp.dport, 6);
    else if (udp && udp.dport >= ports.from && udp.dport <= ports.to) flow = leases.flowOf(ip.saddr, udp.sport, udp.dport, 17);
    else {
      const icmp = ctx.icmp();
      return icmp && (icmp.type === 3 || icmp.type === 11 || icmp.type === 12) ? ctx.exit('icmp') : ctx.next();
    }
    if (flow === 0n) return ctx.next();
    if (ctx.fragment) return ctx.exit('fragment');
    const client = Number(flow >> 32n);
    if (tcp) ctx.updateChecksum(tcp, source, client, 'pseudoHeader');
    else if (udp) ctx.updateChecksum(udp, source, client, 'pseudoHeader');
    ip.checksum = ctx.checksumReplace(ip.checksum, source, client);
    ip.daddr = client;
    return ctx.next();
  },
});
