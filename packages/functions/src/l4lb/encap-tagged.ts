/**
 * The third stage for frames with VLAN tags, behind the exit `tagged` of the others: any packet to any real. Rare, so that it
 * is one program and not the fastest.
 */
import { Ipv4, Ipv6, stage, u16 } from '@tailrace/stage';
import { Announced, Tags } from '../vlan.ts';
import { tables } from './tables.ts';

const { reals, reals6, realTraffic } = tables;

/**
 * Outer headers are those of `encap`, `encap6` and `encap6in4`. A frame that goes back out of its interface keeps its tags,
 * since the real is on that VLAN then; one that leaves through another interface loses them.
 *
 * Exits: `tooBig` and `tooBig6`, packets of IPv4 and of IPv6 that do not fit behind the outer header. Writes `fits` for
 * these, the bytes that do.
 */
export const encapTagged = stage({
  name: 'encapTagged',
  hook: 'xdp',
  uses: { reals, reals6, realTraffic, Ipv4, Ipv6, Tags, Announced },
  reads: { real: u16 },
  writes: { fits: u16 },
  program(ctx, { reals, reals6, realTraffic, Ipv4, Ipv6, Tags, Announced }) {
    const place = ctx.meta.real;
    const real = reals.lookup(place);
    const far = reals6.lookup(place);
    const tags = ctx.at(Tags, 12);
    if (!real || !far || !tags) return ctx.drop('noReal');
    const first = tags.first;
    const second = tags.second;
    const over6 = real.fits === 0;
    const fits = over6 ? far.fits : real.fits;
    let start = 14;
    let length = 0;
    let tos = 0;
    let label = 0;
    let protocol = 4;
    const ip = ctx.ipv4();
    const ip6 = ctx.ipv6();
    if (ip) {
      start = ctx.offsetOf(ip);
      length = ip.totalLength;
      tos = ip.tos;
    } else if (ip6) {
      start = ctx.offsetOf(ip6);
      length = ip6.payloadLength + 40;
      tos = (ip6.versionClassFlow >>> 20) & 0xff;
      label = ip6.versionClassFlow & 0xf_ffff;
      protocol = 41;
    } else return ctx.drop('malformed');
    if (fits === 0) return ctx.drop('moved');
    // the stage `vip` does not count tags
    if (start + length > ctx.length) return ctx.drop('malformed');
    if (length > fits) {
      ctx.meta.fits = fits;
      return ip ? ctx.exit('tooBig') : ctx.exit('tooBig6');
    }
    const traffic = realTraffic.lookup(place);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(ctx.length);
    }
    const eth = ctx.ethernet();
    if (!eth) return ctx.drop('malformed');
    const received = eth.dst;
    const ifindex = real.ifindex;
    const lost = ifindex === 0 ? 0 : start - 14;
    if (!ctx.adjustHead(lost - (over6 ? 40 : 20))) return ctx.drop('noRoom');
    const at = start - lost;
    const frame = ctx.ethernet();
    const kept = ctx.at(Tags, 12);
    const announced = ctx.at(Announced, at - 2);
    if (!frame || !kept || !announced) return ctx.drop('malformed');
    frame.dst = real.hop;
    frame.src = ifindex === 0 ? received : real.own;
    if (at > 14) kept.first = first;
    if (at > 18) kept.second = second;
    announced.etherType = over6 ? 0x86dd : 0x0800;
    if (over6) {
      const outer = ctx.at(Ipv6, at);
      if (!outer) return ctx.drop('malformed');
      outer.versionClassFlow = 0x6000_0000 + tos * 0x10_0000 + label;
      outer.payloadLength = length;
      outer.nextHeader = protocol;
      outer.hopLimit = 64;
      outer.saddr = far.source;
      outer.daddr = far.address;
    } else {
      const outer = ctx.at(Ipv4, at);
      if (!outer) return ctx.drop('malformed');
      outer.versionIhl = 0x45;
      outer.tos = tos;
      outer.totalLength = length + 20;
      outer.id = 0;
      outer.flagsFragment = 0x4000;
      outer.ttl = 64;
      outer.protocol = protocol;
      outer.checksum = 0;
      outer.saddr = real.source;
      outer.daddr = real.address;
      outer.checksum = ctx.checksum(outer);
    }
    if (ifindex === 0) return ctx.tx();
    return ctx.redirect(ifindex);
  },
});
