/** Behind the exit `echo`: answers an ICMP echo request in the place of the vip (RFC 792, RFC 4443, section 4). */
import { stage } from '@tailrace/stage';

/**
 * Turns an echo request of either family into the answer to its sender, in place, and sends it back. Requests from those
 * whom nobody may answer are dropped: the unspecified address, multicast (RFC 1122, section 3.2.2; RFC 4443, section 2.4).
 */
export const echo = stage({
  name: 'echo',
  hook: 'xdp',
  program(ctx) {
    const eth = ctx.ethernet();
    if (!eth) return ctx.drop('malformed');
    const from = eth.dst;
    const to = eth.src;
    const ip = ctx.ipv4();
    const icmp = ctx.icmp();
    const ip6 = ctx.ipv6();
    const icmp6 = ctx.icmpv6();
    // addresses change places, which leaves every sum over them as it is
    if (ip && icmp) {
      const client = ip.saddr;
      // 0.0.0.0, multicast and what lies above
      if (client === 0 || client >= 0xe000_0000) return ctx.drop('martian');
      ip.saddr = ip.daddr;
      ip.daddr = client;
      ip.checksum = ctx.checksumReplace(ip.checksum, ip.ttl * 256 + ip.protocol, 64 * 256 + ip.protocol);
      ip.ttl = 64;
      icmp.checksum = ctx.checksumReplace(icmp.checksum, icmp.type * 256 + icmp.code, icmp.code);
      icmp.type = 0;
    } else if (ip6 && icmp6) {
      const { hi, lo } = ip6.saddr;
      if (hi >> 56n === 0xffn || (hi === 0n && lo === 0n)) return ctx.drop('martian');
      ip6.saddr = ip6.daddr;
      ip6.daddr = { hi, lo };
      ip6.hopLimit = 64;
      icmp6.checksum = ctx.checksumReplace(icmp6.checksum, icmp6.type * 256 + icmp6.code, 129 * 256 + icmp6.code);
      icmp6.type = 129;
    } else return ctx.drop('malformed');
    eth.dst = to;
    eth.src = from;
    return ctx.tx();
  },
});
