/**
 * XDP, behind the exit `icmp` of translate.ts: an ICMP error about an answer, from somebody on the way to the client. The
 * packet that it quotes gets the addresses and ports that it had when the real sent it, and the real is told.
 *
 * The checksum in a quoted TCP or UDP header stays as it is: who gets an error does not look at it, and mostly cannot.
 */
import { Ipv4, Ports, stage, u16, u64 } from '@tailrace/stage';
import { tables as balancer } from '../tables.ts';
import { addressSum } from './address-sum.ts';
import { tables } from './tables.ts';

const { reals, realTraffic } = balancer;
const { leases, natVips } = tables;

/** Errors about flows that have no port any more are dropped. */
export const translateError = stage({
  name: 'translateError',
  hook: 'xdp',
  uses: {
    reals,
    realTraffic,
    leases,
    natVips,
    addressSum,
    /** The balancer's address. */
    source: 0,
    Ipv4,
    Ports,
  },
  reads: { flow: u64, real: u16 },
  program(ctx, { reals, realTraffic, leases, natVips, addressSum, source, Ipv4, Ports }) {
    const ip = ctx.ipv4();
    const icmp = ctx.icmp();
    const flow = ctx.meta.flow;
    const vip = natVips.lookup(Number(flow & 0xffffn));
    const real = reals.lookup(ctx.meta.real);
    if (!ip || !icmp) return ctx.drop('malformed');
    if (!vip || !real) return ctx.drop('noReal');
    const start = ctx.offsetOf(icmp) + 8;
    const quoted = ctx.at(Ipv4, start);
    if (!quoted) return ctx.drop('malformed');
    const ports = ctx.at(Ports, start + quoted.headerLength);
    if (!ports) return ctx.drop('malformed');
    const address = real.address;
    const realPort = vip.realPort;
    const port = leases.find(flow, address, realPort, quoted.protocol);
    if (port === 0) return ctx.drop('noPort');
    const traffic = realTraffic.lookup(ctx.meta.real);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(ctx.length);
    }
    // a quoted header with its checksum in step adds up to what it did before: of what ICMP's covers, only the ports differ
    const after = addressSum(source) + addressSum(address);
    quoted.checksum = ctx.checksumReplace(quoted.checksum, addressSum(quoted.saddr) + addressSum(quoted.daddr), after);
    quoted.saddr = address;
    quoted.daddr = source;
    ctx.updateChecksum(icmp, ports.sport + ports.dport, realPort + port);
    ports.sport = realPort;
    ports.dport = port;
    ip.checksum = ctx.checksumReplace(ip.checksum, addressSum(ip.saddr) + addressSum(ip.daddr), after);
    ip.saddr = source;
    ip.daddr = address;
    return ctx.next();
  },
});
