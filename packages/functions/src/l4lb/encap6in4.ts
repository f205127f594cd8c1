/** The third stage for IPv6 packets to reals with an IPv4 address: IPv6 in IPv4 (RFC 4213, section 3). */
import { Ethernet, Ipv4, Ipv6, stage, u16 } from '@tailrace/stage';
import { tables } from './tables.ts';

const { reals, realTraffic } = tables;

/**
 * The outer header is as that of `encap`, with the inner one's traffic class.
 *
 * Exits: `tooBig6`, packets that do not fit behind the outer header; `tagged`, frames with VLAN tags. Writes `fits` for the
 * former, the bytes that do.
 */
export const encap6in4 = stage({
  name: 'encap6in4',
  hook: 'xdp',
  uses: { reals, realTraffic, Ethernet, Ipv4, Ipv6 },
  reads: { real: u16 },
  writes: { fits: u16 },
  program(ctx, { reals, realTraffic, Ethernet, Ipv4, Ipv6 }) {
    const ip = ctx.ipv6();
    if (!ip) return ctx.drop('malformed');
    if (ctx.offsetOf(ip) !== 14) return ctx.exit('tagged');
    const place = ctx.meta.real;
    const real = reals.lookup(place);
    if (!real) return ctx.drop('noReal');
    const fits = real.fits;
    if (ip.payloadLength + 40 > fits) {
      // a real that has an IPv6 address by now gets the flow's next packet
      if (fits === 0) return ctx.drop('moved');
      ctx.meta.fits = fits;
      return ctx.exit('tooBig6');
    }
    const traffic = realTraffic.lookup(place);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(ctx.length);
    }
    if (!ctx.adjustHead(-20)) return ctx.drop('noRoom');
    const frame = ctx.ethernet();
    const outer = ctx.at(Ipv4, 14);
    const eth = ctx.at(Ethernet, 20);
    const inner = ctx.at(Ipv6, 34);
    if (!frame || !outer || !eth || !inner) return ctx.drop('malformed');
    // the old header lies where the outer one goes: it is read first
    const received = eth.dst;
    const ifindex = real.ifindex;
    frame.dst = real.hop;
    frame.src = received;
    if (ifindex !== 0) frame.src = real.own;
    frame.etherType = 0x0800;
    const tos = (inner.versionClassFlow >>> 20) & 0xff;
    const length = inner.payloadLength + 60;
    outer.versionIhl = 0x45;
    outer.tos = tos;
    outer.totalLength = length;
    outer.id = 0;
    outer.flagsFragment = 0x4000;
    outer.ttl = 64;
    outer.protocol = 41;
    // the seed has protocol 4
    let sum = real.seed + 37 + tos + length;
    sum = (sum & 0xffff) + (sum >>> 16);
    sum = (sum & 0xffff) + (sum >>> 16);
    outer.checksum = sum ^ 0xffff;
    outer.saddr = real.source;
    outer.daddr = real.address;
    if (ifindex === 0) return ctx.tx();
    return ctx.redirect(ifindex);
  },
});
