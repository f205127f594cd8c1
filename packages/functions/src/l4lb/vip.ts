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
    const length = ctx.length;
    const ip = ctx.ipv4();
    if (!ip) return ctx.exit('notVip');
    const address = BigInt(ip.daddr) << 32n;
    // more fragments, or an offset: RFC 791, section 3.1
    if ((ip.flagsFragment & 0x3fff) !== 0) {
      if (vips.find(address) === 0) return ctx.exit('notVip');
      return ctx.exit('fragment');
    }
    ctx.meta.fresh = false;
    let cutShort = false;
    let sport = 0;
    let key = address;
    const tcp = ctx.tcp();
    if (tcp) {
      sport = tcp.sport;
      key |= (BigInt(tcp.dport) << 16n) | 6n;
      // SYN without ACK
      if ((tcp.flags & 0x12) === 0x02) ctx.meta.fresh = true;
    } else {
      const ports = ctx.ports();
      if (!ports) return ctx.exit('notVip');
      sport = ports.sport;
      key |= (BigInt(ports.dport) << 16n) | BigInt(ip.protocol);
      cutShort = ip.protocol === 6;
    }
    // a search of its own, so that what most packets need keeps nothing of this over theirs
    if (cutShort || ip.totalLength + 14 > length) {
      if (vips.find(key) === 0) return ctx.exit('notVip');
      return ctx.exit('malformed');
    }
    const client = (BigInt(ip.saddr) << 32n) | (BigInt(sport) << 16n);
    const found = vips.find(key);
    if (found === 0) return ctx.exit('notVip');
    const index = found - 1;
    const traffic = vipTraffic.lookup(index);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(length);
    }
    ctx.meta.flow = client | BigInt(index);
    return ctx.next();
  },
});
