/**
 * TC egress: an answer that reply.ts has sent on its way leaves for the client. It gets the vip's address and port as
 * source, and the client's port as destination: what the client expects of the one that it talks to.
 */
import { stage } from '@tailrace/stage';
import { tables } from './tables.ts';

const { replies, natVips } = tables;

export const restore = stage({
  name: 'restore',
  hook: 'tcEgress',
  uses: {
    replies,
    natVips,
    /** The balancer's first port and how many of them there are. */
    firstPort: 1,
    ports: 1,
  },
  program(ctx, { replies, natVips, firstPort, ports }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    const l4 = ctx.ports();
    // what is none of ours is told by its port, before anything is looked up
    if (!l4 || l4.dport < firstPort || l4.dport >= firstPort + ports) return ctx.next();
    const key = { real: ip.saddr, realPort: l4.sport, port: l4.dport, protocol: ip.protocol };
    const flow = replies.lookup(key);
    if (!flow) return ctx.next();
    const { value } = flow;
    if (Number(value >> 32n) !== ip.daddr) return ctx.next();
    const vip = natVips.lookup(Number(value & 0xffffn));
    if (!vip) return ctx.drop();
    const clientPort = Number((value >> 16n) & 0xffffn);
    const [real, address, port] = [ip.saddr, vip.address, vip.port];
    const tcp = ctx.tcp();
    if (tcp) {
      ctx.updateChecksum(tcp, real, address, 'pseudoHeader');
      ctx.updateChecksum(tcp, tcp.sport, port);
      ctx.updateChecksum(tcp, tcp.dport, clientPort);
      tcp.sport = port;
      tcp.dport = clientPort;
    } else {
      const udp = ctx.udp();
      if (!udp) return ctx.next();
      ctx.updateChecksum(udp, real, address, 'pseudoHeader');
      ctx.updateChecksum(udp, udp.sport, port);
      ctx.updateChecksum(udp, udp.dport, clientPort);
      udp.sport = port;
      udp.dport = clientPort;
    }
    ip.checksum = ctx.checksumReplace(ip.checksum, real, address);
    ip.saddr = address;
    return ctx.next();
  },
});
