/**
 * TC ingress: an answer of a real comes to the balancer's own address. It gets the client's as destination, so that the
 * network stack sends it there; which flow it is of stays in its port until restore.ts has seen it.
 */
import { stage } from '@tailrace/stage';
import { tables } from './tables.ts';

const { replies } = tables;

export const reply = stage({
  name: 'reply',
  hook: 'tcIngress',
  uses: {
    replies,
    /** The balancer's address. */
    source: 0,
  },
  program(ctx, { replies, source }) {
    const ip = ctx.ipv4();
    if (!ip || ip.daddr !== source) return ctx.next();
    const ports = ctx.ports();
    if (!ports) return ctx.next();
    const flow = replies.lookup({ real: ip.saddr, realPort: ports.sport, port: ports.dport, protocol: ip.protocol });
    if (!flow) return ctx.next();
    const client = Number(flow.value >> 32n);
    const tcp = ctx.tcp();
    if (tcp) ctx.updateChecksum(tcp, source, client, 'pseudoHeader');
    else {
      const udp = ctx.udp();
      if (!udp) return ctx.next();
      ctx.updateChecksum(udp, source, client, 'pseudoHeader');
    }
    ip.checksum = ctx.checksumReplace(ip.checksum, source, client);
    ip.daddr = client;
    return ctx.next();
  },
});
