/** Behind the exit `tooBig`: tells the sender which packets would fit. */
import { array, be16, be32, Ipv4, stage, struct, u8, u16 } from '@tailrace/stage';
import { Announced, Tags } from '../vlan.ts';

/**
 * An ICMP "fragmentation needed" (RFC 792; the MTU field is RFC 1191's, section 4) with the first 68 bytes of the packet
 * that it is about: an IPv4 header of any length and 8 bytes behind it.
 */
export const TooBigMessage = struct({ type: u8, code: u8, checksum: be16, unused: be16, mtu: be16, quoted: array(be32, 17) });

/**
 * Turns a packet that must not be fragmented into the ICMP answer to its sender, in place, from the vip's address, with the
 * VLAN tags that it came with. Others are dropped: nothing here fragments them. So are packets whose source nobody may answer, and ICMP errors (RFC 1122,
 * section 3.2.2).
 */
export const tooBig = stage({
  name: 'tooBig',
  hook: 'xdp',
  uses: { Ipv4, TooBigMessage, Tags, Announced },
  reads: { fits: u16 },
  program(ctx, { Ipv4, TooBigMessage, Tags, Announced }) {
    const eth = ctx.ethernet();
    const ip = ctx.ipv4();
    const tags = ctx.at(Tags, 12);
    if (!eth || !ip || !tags) return ctx.drop('malformed');
    if (!ip.dontFragment || ip.protocol === 1) return ctx.drop('unanswerable');
    const client = ip.saddr;
    const vip = ip.daddr;
    // 0.0.0.0, multicast and what lies above
    if (client === 0 || client >= 0xe000_0000) return ctx.drop('martian');
    const from = eth.dst;
    const to = eth.src;
    const first = tags.first;
    const second = tags.second;
    const start = ctx.offsetOf(ip);
    // 20 bytes of IPv4, 8 of ICMP, and 68 that are quoted
    if (!ctx.adjustHead(-28)) return ctx.drop('noRoom');
    if (!ctx.adjustTail(start + 96 - ctx.length)) return ctx.drop('noRoom');
    const frame = ctx.ethernet();
    const kept = ctx.at(Tags, 12);
    const announced = ctx.at(Announced, start - 2);
    const outer = ctx.at(Ipv4, start);
    const message = ctx.at(TooBigMessage, start + 20);
    if (!frame || !kept || !announced || !outer || !message) return ctx.drop('malformed');
    frame.dst = to;
    frame.src = from;
    if (start > 14) kept.first = first;
    if (start > 18) kept.second = second;
    announced.etherType = 0x0800;
    outer.versionIhl = 0x45;
    outer.tos = 0;
    outer.totalLength = 96;
    outer.id = 0;
    outer.flagsFragment = 0x4000;
    outer.ttl = 64;
    outer.protocol = 1;
    outer.checksum = 0;
    outer.saddr = vip;
    outer.daddr = client;
    outer.checksum = ctx.checksum(outer);
    message.type = 3;
    message.code = 4;
    message.checksum = 0;
    message.unused = 0;
    message.mtu = ctx.meta.fits;
    message.checksum = ctx.checksum(message);
    return ctx.tx();
  },
});
