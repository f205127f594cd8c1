/**
 * XDP, the last stage of full NAT: gives a client's packet the balancer's address and a port of its own as source, the
 * real's as destination, and sends it there. What comes back is the work of reply.ts and restore.ts.
 */
import { bool, stage, u16, u64 } from '@tailrace/stage';
import { tables as balancer } from '../tables.ts';
import { addressSum } from './address-sum.ts';
import { tables } from './tables.ts';

const { reals, realTraffic } = balancer;
const { leases, natVips } = tables;

/**
 * Exits: `noPort`, packets of a new flow that finds none of the ports that it may have free; `icmp`, ICMP errors about a
 * flow; `tagged`, frames with VLAN tags that leave through another interface, translated.
 */
export const translate = stage({
  name: 'translate',
  hook: 'xdp',
  uses: {
    reals,
    realTraffic,
    leases,
    natVips,
    addressSum,
    /** The balancer's address. */
    source: 0,
  },
  reads: { flow: u64, fresh: bool, real: u16 },
  program(ctx, { reals, realTraffic, leases, natVips, addressSum, source }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.drop('malformed');
    const flow = ctx.meta.flow;
    const vip = natVips.lookup(Number(flow & 0xffffn));
    const real = reals.lookup(ctx.meta.real);
    if (!vip || !real) return ctx.drop('noReal');
    const tcp = ctx.tcp();
    const udp = ctx.udp();
    if (!tcp && !udp) return ctx.icmp() ? ctx.exit('icmp') : ctx.drop('protocol');
    const address = real.address;
    const realPort = vip.realPort;
    const protocol = tcp ? 6 : 17;
    let port = leases.held(flow, address, realPort, protocol, tcp ? tcp.flags : 0);
    if (port === 0) {
      port = leases.take(flow, address, realPort, protocol, ctx.meta.fresh, Number(ctx.nowCoarse() >> 30n) + 1);
      if (port === 0) return ctx.exit('noPort');
    }
    const traffic = realTraffic.lookup(ctx.meta.real);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(ctx.length);
    }
    // one sum of all that changes: what is added to a checksum may be added up first (RFC 1071, section 2)
    const before = addressSum(ip.saddr) + addressSum(ip.daddr);
    const after = addressSum(source) + addressSum(address);
    if (tcp) {
      ctx.updateChecksum(tcp, before + tcp.sport + tcp.dport, after + port + realPort);
      tcp.sport = port;
      tcp.dport = realPort;
    } else if (udp) {
      ctx.updateChecksum(udp, before + udp.sport + udp.dport, after + port + realPort);
      udp.sport = port;
      udp.dport = realPort;
    }
    ip.checksum = ctx.checksumReplace(ip.checksum, before, after);
    ip.saddr = source;
    ip.daddr = address;
    const frame = ctx.ethernet();
    if (!frame) return ctx.drop('malformed');
    const ifindex = real.ifindex;
    if (ifindex !== 0 && ctx.offsetOf(ip) !== 14) return ctx.exit('tagged');
    frame.src = ifindex === 0 ? frame.dst : real.own;
    frame.dst = real.hop;
    if (ifindex === 0) return ctx.tx();
    return ctx.redirect(ifindex);
  },
});
