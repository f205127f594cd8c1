/** Behind the exit `tooBig6`: tells the sender of an IPv6 packet which packets would fit. */
import { array, be16, be32, Ipv6, ipv6Address, stage, struct, u8, u16 } from '@tailrace/stage';
import { Announced, Tags } from '../vlan.ts';

/**
 * An ICMPv6 "packet too big" (RFC 4443, section 3.2) behind the addresses that its checksum covers, as they end an IPv6
 * header, with the first 128 bytes of the packet that it is about.
 */
export const TooBigMessage6 = struct({
  saddr: ipv6Address,
  daddr: ipv6Address,
  type: u8,
  code: u8,
  checksum: be16,
  mtu: be32,
  quoted: array(be32, 32),
});

/**
 * Turns a packet into the ICMPv6 answer to its sender, in place, from the vip's address, with its VLAN tags. Packets whose source nobody may
 * answer are dropped, and ICMPv6 errors (RFC 4443, section 2.4).
 */
export const tooBig6 = stage({
  name: 'tooBig6',
  hook: 'xdp',
  uses: { Ipv6, TooBigMessage6, Tags, Announced },
  reads: { fits: u16 },
  program(ctx, { Ipv6, TooBigMessage6, Tags, Announced }) {
    const eth = ctx.ethernet();
    const ip = ctx.ipv6();
    const tags = ctx.at(Tags, 12);
    if (!eth || !ip || !tags) return ctx.drop('malformed');
    if (ctx.protocol === 58) return ctx.drop('unanswerable');
    const client = ip.saddr;
    if (client.hi >> 56n === 0xffn || (client.hi === 0n && client.lo === 0n)) return ctx.drop('martian');
    const from = eth.dst;
    const to = eth.src;
    const first = tags.first;
    const second = tags.second;
    const start = ctx.offsetOf(ip);
    // 40 bytes of IPv6, 8 of ICMPv6, and 128 that are quoted
    if (!ctx.adjustHead(-48)) return ctx.drop('noRoom');
    if (!ctx.adjustTail(start + 176 - ctx.length)) return ctx.drop('noRoom');
    const frame = ctx.ethernet();
    const kept = ctx.at(Tags, 12);
    const announced = ctx.at(Announced, start - 2);
    const outer = ctx.at(Ipv6, start);
    const message = ctx.at(TooBigMessage6, start + 8);
    const quoted = ctx.at(Ipv6, start + 48);
    if (!frame || !kept || !announced || !outer || !message || !quoted) return ctx.drop('malformed');
    frame.dst = to;
    frame.src = from;
    if (start > 14) kept.first = first;
    if (start > 18) kept.second = second;
    announced.etherType = 0x86dd;
    outer.versionClassFlow = 0x6000_0000;
    outer.payloadLength = 136;
    outer.nextHeader = 58;
    outer.hopLimit = 64;
    message.saddr = quoted.daddr;
    message.daddr = quoted.saddr;
    message.type = 2;
    message.code = 0;
    message.mtu = ctx.meta.fits;
    // what else the checksum covers, the length and the protocol, stands in its field meanwhile
    message.checksum = 136 + 58;
    message.checksum = ctx.checksum(message);
    return ctx.tx();
  },
});
