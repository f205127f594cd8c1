/** The first stage: is the packet for a vip, and which flow is it of? */
import { bool, stage, u64 } from '@tailrace/stage';
import { tables } from './tables.ts';

const { vips, vips6, vipTraffic } = tables;

/**
 * Finds the vip by address, port and protocol. Writes `flow` and `fresh`, whether this packet opens a connection. Over
 * IPv4, with or without options, `flow` is the flow's identity in 64 bits: source address, source port, index of the vip.
 * Over IPv6 it has the last two of these; the source address is `clientHi` and `clientLo`.
 *
 * Exits: `ipv6`, packets of flows over IPv6; `echo`, echo requests to the address of a vip; `icmpError`, ICMP errors to
 * the address of a vip; `notVip`, all that is not for a vip; `fragment`, fragments to the address of a vip, which cannot be
 * told apart by ports; `malformed`, packets to a vip that are shorter than they say or end within their TCP header.
 * VLAN tags are looked past, and IPv6 extension headers.
 */
export const vip = stage({
  name: 'vip',
  hook: 'xdp',
  uses: { vips, vips6, vipTraffic },
  writes: { flow: u64, fresh: bool, clientHi: u64, clientLo: u64 },
  program(ctx, { vips, vips6, vipTraffic }) {
    const length = ctx.length;
    const ip = ctx.ipv4();
    if (ip) {
      // 1 a fragment, 2 cut within its TCP header, 3 an echo request, 4 an ICMP error
      let odd = 0;
      let sport = 0;
      // an address alone, or a vip's whole key
      let key = BigInt(ip.daddr) << 32n;
      ctx.meta.fresh = false;
      // more fragments, or an offset: RFC 791, section 3.1
      if ((ip.flagsFragment & 0x3fff) !== 0) odd = 1;
      else {
        const tcp = ctx.tcp();
        if (tcp) {
          sport = tcp.sport;
          key |= (BigInt(tcp.dport) << 16n) | 6n;
          // SYN without ACK
          if ((tcp.flags & 0x12) === 0x02) ctx.meta.fresh = true;
        } else {
          const ports = ctx.ports();
          if (ports) {
            sport = ports.sport;
            key |= (BigInt(ports.dport) << 16n) | BigInt(ip.protocol);
            if (ip.protocol === 6) odd = 2;
          } else {
            const icmp = ctx.icmp();
            if (!icmp) return ctx.exit('notVip');
            // destination unreachable, time exceeded, parameter problem: RFC 792
            if (icmp.type === 8 && ip.headerLength === 20) odd = 3;
            else if (icmp.type === 3 || icmp.type === 11 || icmp.type === 12) odd = 4;
            else return ctx.exit('notVip');
          }
        }
      }
      // a search of its own, so that what most packets need keeps nothing of this over theirs
      if (odd !== 0 || ip.totalLength + 14 > length) {
        if (vips.find(key) === 0) return ctx.exit('notVip');
        if (odd === 1) return ctx.exit('fragment');
        if (odd === 2 || ip.totalLength + 14 > length) return ctx.exit('malformed');
        return odd === 3 ? ctx.exit('echo') : ctx.exit('icmpError');
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
    }
    const ip6 = ctx.ipv6();
    if (!ip6) return ctx.exit('notVip');
    const { hi, lo } = ip6.daddr;
    let odd = 0;
    let sport = 0;
    let low = 0n;
    ctx.meta.fresh = false;
    if (ctx.fragment) odd = 1;
    else {
      const tcp = ctx.tcp();
      if (tcp) {
        sport = tcp.sport;
        low = (BigInt(tcp.dport) << 16n) | 6n;
        if ((tcp.flags & 0x12) === 0x02) ctx.meta.fresh = true;
      } else {
        const ports = ctx.ports();
        if (ports) {
          const protocol = ctx.protocol;
          sport = ports.sport;
          low = (BigInt(ports.dport) << 16n) | BigInt(protocol);
          if (protocol === 6) odd = 2;
        } else {
          const icmp = ctx.icmpv6();
          if (!icmp) return ctx.exit('notVip');
          // destination unreachable, packet too big, time exceeded, parameter problem: RFC 4443, section 3
          if (icmp.type === 128) odd = 3;
          else if (icmp.type >= 1 && icmp.type <= 4) odd = 4;
          else return ctx.exit('notVip');
        }
      }
    }
    if (odd !== 0 || ip6.payloadLength + 54 > length) {
      if (vips6.find(hi, lo, low) === 0) return ctx.exit('notVip');
      if (odd === 1) return ctx.exit('fragment');
      if (odd === 2 || ip6.payloadLength + 54 > length) return ctx.exit('malformed');
      return odd === 3 ? ctx.exit('echo') : ctx.exit('icmpError');
    }
    const found = vips6.find(hi, lo, low);
    if (found === 0) return ctx.exit('notVip');
    const index = found - 1;
    const traffic = vipTraffic.lookup(index);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(length);
    }
    const client = ip6.saddr;
    ctx.meta.clientHi = client.hi;
    ctx.meta.clientLo = client.lo;
    ctx.meta.flow = (BigInt(sport) << 16n) | BigInt(index);
    return ctx.exit('ipv6');
  },
});
