/**
 * TC egress: an answer that reply.ts has sent on its way leaves for the client. It gets the vip's address and port as
 * source, and the client's port as destination: what the client expects of the one that it talks to.
 */
import { stage } from '@tailrace/stage';
import { NAT_PORTS, tables } from './tables.ts';

const { leases, natVips } = tables;

/** Exit: `icmp`, ICMP errors, of which the network stack's about answers are to be for the real. */
export const restore = stage({
  name: 'restore',
  hook: 'tcEgress',
  uses: {
    leases,
    natVips,
    /** The ports of the balancer's address that stand for flows. */
    ports: NAT_PORTS,
  },
  program(ctx, { leases, natVips, ports }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    const tcp = ctx.tcp();
    const udp = ctx.udp();
    const real = ip.saddr;
    let flow = 0n;
    // what is none of ours is told by its port, before anything is looked up
    if (tcp && tcp.dport >= ports.from && tcp.dport <= ports.to) flow = leases.answered(real, tcp.sport, tcp.dport, 6, tcp.flags);
    else if (udp && udp.dport >= ports.from && udp.dport <= ports.to) flow = leases.answered(real, udp.sport, udp.dport, 17, 0);
    else {
      const icmp = ctx.icmp();
      return icmp && (icmp.type === 3 || icmp.type === 11 || icmp.type === 12) ? ctx.exit('icmp') : ctx.next();
    }
    // the client's address, or the packet only looks like an answer
    if (flow === 0n || Number(flow >> 32n) !== ip.daddr) return ctx.next();
    const vip = natVips.lookup(Number(flow & 0xffffn));
    if (!vip) return ctx.drop('noVip');
    const clientPort = Number((flow >> 16n) & 0xffffn);
    const address = vip.address;
    const port = vip.port;
    if (tcp) {
      ctx.updateChecksum(tcp, real, address, 'pseudoHeader');
      // the two ports as one word: what is added to a checksum may be added up first (RFC 1071, section 2)
      ctx.updateChecksum(tcp, tcp.sport + tcp.dport, port + clientPort);
      tcp.sport = port;
      tcp.dport = clientPort;
    } else if (udp) {
      ctx.updateChecksum(udp, real, address, 'pseudoHeader');
      ctx.updateChecksum(udp, udp.sport + udp.dport, port + clientPort);
      udp.sport = port;
      udp.dport = clientPort;
    }
    ip.checksum = ctx.checksumReplace(ip.checksum, real, address);
    ip.saddr = address;
    return ctx.next();
  },
});
