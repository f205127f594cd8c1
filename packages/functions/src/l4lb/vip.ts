/** The first stage: is the packet for a vip, and which flow is it of? */
import { bool, stage, u64 } from '@tailrace/stage';
import { tables } from './tables.ts';

const { vips, vipTraffic } = tables;

/**
 * Finds the vip by address, port and protocol. Writes `flow`, the flow's identity in 64 bits (source address, source
 * port, index of the vip: all that tells two flows of IPv4 apart), and `fresh`, whether this packet opens a connection.
 * Reads IPv4 with or without options.
 *
 * Exits: `notVip`, all that is not for a vip; `fragment`, fragments to the address of a vip, which cannot be told apart
 * by ports; `malformed`, packets to a vip that are shorter than they say or end within their TCP header.
 */
export const vip = stage({
  name: 'vip',
  hook: 'xdp',
  uses: { vips, vipTraffic },
  writes: { flow: u64, fresh: bool },
  program(ctx, { vips, vipTraffic }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.exit('notVip');
    // more fragments, or an offset: RFC 791, section 3.1
    if ((ip.flagsFragment & 0x3fff) !== 0) {
      if (vips.lookup({ addr: ip.daddr, port: 0, protocol: 0 })) return ctx.exit('fragment');
      return ctx.exit('notVip');
    }
    const ports = ctx.ports();
    if (!ports) return ctx.exit('notVip');
    const found = vips.lookup({ addr: ip.daddr, port: ports.dport, protocol: ip.protocol });
    if (!found) return ctx.exit('notVip');
    if (ip.totalLength + 14 > ctx.length) return ctx.exit('malformed');
    const tcp = ctx.tcp();
    if (!tcp && ip.protocol === 6) return ctx.exit('malformed');
    const index = found.value;
    const traffic = vipTraffic.lookup(index);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(ctx.length);
    }
    ctx.meta.flow = (BigInt(ip.saddr) << 32n) | (BigInt(ports.sport) << 16n) | BigInt(index);
    // SYN without ACK
    ctx.meta.fresh = tcp ? (tcp.flags & 0x12) === 0x02 : false;
    return ctx.next();
  },
});
