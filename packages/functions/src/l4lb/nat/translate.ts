/**
 * XDP, the last stage of full NAT: gives a client's packet the balancer's address and a port of its own as source, the
 * real's as destination, and sends it there. What comes back is the work of reply.ts and restore.ts.
 */
import { stage, u16, u64 } from '@tailrace/stage';
import { mix } from '../../structures/mix.ts';
import { tables as balancer, RealState } from '../tables.ts';
import { tables } from './tables.ts';

const { reals, realTraffic } = balancer;
const { bindings, replies, natVips } = tables;

/** Ports that are tried for a new flow before it is given up. */
export const PORT_TRIES = 8;

/**
 * A flow keeps its real as long as that is up, and its port for as long as the tables remember it. Ports are tried in an
 * order that only the flow decides, so that one whose binding was evicted finds the port that its answers still come to.
 *
 * Exit: `noPort`, packets of a new flow for which every port that was tried is taken.
 */
export const translate = stage({
  name: 'translate',
  hook: 'xdp',
  uses: {
    reals,
    realTraffic,
    bindings,
    replies,
    natVips,
    mix,
    up: RealState.up,
    /** The balancer's address, its first port and how many of them there are. */
    source: 0,
    firstPort: 1,
    ports: 1,
    tries: PORT_TRIES,
  },
  reads: { flow: u64, real: u16 },
  program(ctx, { reals, realTraffic, bindings, replies, natVips, mix, up, source, firstPort, ports, tries }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.drop();
    const flow = ctx.meta.flow;
    const vip = natVips.lookup(Number(flow & 0xffffn));
    if (!vip) return ctx.drop();
    let place = ctx.meta.real;
    let port = 0;
    const known = bindings.lookup(flow);
    if (known) {
      const before = reals.lookup(known.real);
      if (before && before.state === up) {
        place = known.real;
        port = known.port;
      }
    }
    const real = reals.lookup(place);
    if (!real) return ctx.drop();
    const address = real.address;
    const realPort = vip.realPort;
    if (port === 0) {
      const start = Number(mix(flow) >> 32n);
      for (let i = 0; i < tries; i++) {
        const candidate = firstPort + ((start + i * 7919) % ports);
        const key = { real: address, realPort, port: candidate, protocol: ip.protocol };
        if (port === 0) {
          if (replies.update(key, flow, 'noexist')) port = candidate;
          else {
            const taken = replies.lookup(key);
            if (taken && taken.value === flow) port = candidate;
          }
        }
      }
      if (port === 0) return ctx.exit('noPort');
      bindings.update(flow, { port, real: place });
    }
    const traffic = realTraffic.lookup(place);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(ctx.length);
    }
    const [client, target] = [ip.saddr, ip.daddr];
    const tcp = ctx.tcp();
    if (tcp) {
      ctx.updateChecksum(tcp, client, source, 'pseudoHeader');
      ctx.updateChecksum(tcp, target, address, 'pseudoHeader');
      ctx.updateChecksum(tcp, tcp.sport, port);
      ctx.updateChecksum(tcp, tcp.dport, realPort);
      tcp.sport = port;
      tcp.dport = realPort;
    } else {
      const udp = ctx.udp();
      if (!udp) return ctx.drop();
      ctx.updateChecksum(udp, client, source, 'pseudoHeader');
      ctx.updateChecksum(udp, target, address, 'pseudoHeader');
      ctx.updateChecksum(udp, udp.sport, port);
      ctx.updateChecksum(udp, udp.dport, realPort);
      udp.sport = port;
      udp.dport = realPort;
    }
    ip.checksum = ctx.checksumReplace(ctx.checksumReplace(ip.checksum, client, source), target, address);
    ip.saddr = source;
    ip.daddr = address;
    const frame = ctx.ethernet();
    if (!frame) return ctx.drop();
    const ifindex = real.ifindex;
    frame.src = ifindex === 0 ? frame.dst : real.own;
    frame.dst = real.hop;
    if (ifindex === 0) return ctx.tx();
    return ctx.redirect(ifindex);
  },
});
