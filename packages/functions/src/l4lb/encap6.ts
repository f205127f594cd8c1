/** The third stage for reals with an IPv6 address: puts packets of either family into an outer IPv6 header (RFC 2473). */
import { Ethernet, Ipv6, stage, u16 } from '@tailrace/stage';
import { tables } from './tables.ts';

const { reals, reals6, realTraffic } = tables;

/**
 * The outer header has the inner one's traffic class, so ECN too (RFC 6040, compatibility mode), and an inner IPv6 packet's
 * flow label. The inner packet is not changed.
 *
 * Exits: `over4`, packets for a real whose address is IPv4; `tooBig` and `tooBig6`, packets of IPv4 and of IPv6 that do not
 * fit behind the outer header; `tagged`, frames with VLAN tags. Writes `fits` for what is too big, the bytes that do fit.
 */
export const encap6 = stage({
  name: 'encap6',
  hook: 'xdp',
  uses: { reals, reals6, realTraffic, Ethernet, Ipv6 },
  reads: { real: u16 },
  writes: { fits: u16 },
  program(ctx, { reals, reals6, realTraffic, Ethernet, Ipv6 }) {
    const ip6 = ctx.ipv6();
    if (ip6 && ctx.offsetOf(ip6) !== 14) return ctx.exit('tagged');
    const place = ctx.meta.real;
    const real = reals.lookup(place);
    const far = reals6.lookup(place);
    if (!real || !far) return ctx.drop('noReal');
    const fits = far.fits;
    let length = 0;
    let classFlow = 0;
    let protocol = 41;
    if (ip6) {
      length = ip6.payloadLength + 40;
      classFlow = ip6.versionClassFlow;
      if (length > fits) {
        if (fits === 0) return ctx.exit('over4');
        ctx.meta.fits = fits;
        return ctx.exit('tooBig6');
      }
    } else {
      const ip = ctx.ipv4();
      // a real that has an IPv4 address by now gets the flow's next packet
      if (!ip) return ctx.drop('malformed');
      if (fits === 0) return ctx.drop('moved');
      if (ctx.offsetOf(ip) !== 14) return ctx.exit('tagged');
      length = ip.totalLength;
      classFlow = 0x6000_0000 + ip.tos * 0x10_0000;
      protocol = 4;
      if (length > fits) {
        ctx.meta.fits = fits;
        return ctx.exit('tooBig');
      }
    }
    const traffic = realTraffic.lookup(place);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(ctx.length);
    }
    if (!ctx.adjustHead(-40)) return ctx.drop('noRoom');
    const frame = ctx.ethernet();
    const outer = ctx.at(Ipv6, 14);
    const eth = ctx.at(Ethernet, 40);
    if (!frame || !outer || !eth) return ctx.drop('malformed');
    // the old header lies where the outer one goes: it is read first
    const received = eth.dst;
    const ifindex = real.ifindex;
    frame.dst = real.hop;
    frame.src = received;
    if (ifindex !== 0) frame.src = real.own;
    frame.etherType = 0x86dd;
    outer.versionClassFlow = classFlow;
    outer.payloadLength = length;
    outer.nextHeader = protocol;
    outer.hopLimit = 64;
    outer.saddr = far.source;
    outer.daddr = far.address;
    if (ifindex === 0) return ctx.tx();
    return ctx.redirect(ifindex);
  },
});
