/**
 * Behind the exit `icmpError`: which flow is an ICMP error about? The packet that it quotes was sent by a real, from the
 * vip to the client, so its addresses and ports turned round are those of the flow.
 */
import { bool, Ipv4, Ipv6, Ports, stage, u64 } from '@tailrace/stage';
import { tables } from './tables.ts';

const { vips, vips6, vipTraffic } = tables;

/**
 * Writes what `vip` writes, of the flow that the error is about, so that it goes where the flow's packets go. Eight bytes
 * of the quoted packet's layer 4 are enough.
 *
 * Exits: `ipv6`, errors about flows over IPv6; `noFlow`, errors about anything else: other protocols, later fragments,
 * addresses and ports that are no vip's, and quotes that are cut shorter.
 */
export const icmpError = stage({
  name: 'icmpError',
  hook: 'xdp',
  uses: { vips, vips6, vipTraffic, Ipv4, Ipv6, Ports },
  writes: { flow: u64, fresh: bool, clientHi: u64, clientLo: u64 },
  program(ctx, { vips, vips6, vipTraffic, Ipv4, Ipv6, Ports }) {
    ctx.meta.fresh = false;
    const ip = ctx.ipv4();
    const icmp = ctx.icmp();
    if (ip && icmp) {
      const start = ctx.offsetOf(icmp) + 8;
      const quoted = ctx.at(Ipv4, start);
      if (!quoted) return ctx.exit('noFlow');
      if (quoted.version !== 4 || quoted.headerLength < 20 || (quoted.flagsFragment & 0x1fff) !== 0) return ctx.exit('noFlow');
      const behind = start + quoted.headerLength;
      const ports = ctx.at(Ports, behind);
      if (!ports || behind + 8 > ctx.offsetOf(ip) + ip.totalLength) return ctx.exit('noFlow');
      if (quoted.saddr !== ip.daddr || (quoted.protocol !== 6 && quoted.protocol !== 17)) return ctx.exit('noFlow');
      const found = vips.find((BigInt(quoted.saddr) << 32n) | (BigInt(ports.sport) << 16n) | BigInt(quoted.protocol));
      if (found === 0) return ctx.exit('noFlow');
      const index = found - 1;
      const traffic = vipTraffic.lookup(index);
      if (traffic) {
        traffic.packets += 1n;
        traffic.bytes += BigInt(ctx.length);
      }
      ctx.meta.flow = (BigInt(quoted.daddr) << 32n) | (BigInt(ports.dport) << 16n) | BigInt(index);
      return ctx.next();
    }
    const ip6 = ctx.ipv6();
    const icmp6 = ctx.icmpv6();
    if (!ip6 || !icmp6) return ctx.exit('noFlow');
    const start = ctx.offsetOf(icmp6) + 8;
    const quoted = ctx.at(Ipv6, start);
    const ports = ctx.at(Ports, start + 40);
    if (!quoted || !ports || start + 48 > ctx.offsetOf(ip6) + 40 + ip6.payloadLength) return ctx.exit('noFlow');
    const { hi, lo } = quoted.saddr;
    const next = quoted.nextHeader;
    if (quoted.versionClassFlow >>> 28 !== 6 || (next !== 6 && next !== 17)) return ctx.exit('noFlow');
    if (hi !== ip6.daddr.hi || lo !== ip6.daddr.lo) return ctx.exit('noFlow');
    const found = vips6.find(hi, lo, (BigInt(ports.sport) << 16n) | BigInt(next));
    if (found === 0) return ctx.exit('noFlow');
    const index = found - 1;
    const traffic = vipTraffic.lookup(index);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(ctx.length);
    }
    ctx.meta.clientHi = quoted.daddr.hi;
    ctx.meta.clientLo = quoted.daddr.lo;
    ctx.meta.flow = (BigInt(ports.dport) << 16n) | BigInt(index);
    return ctx.exit('ipv6');
  },
});
