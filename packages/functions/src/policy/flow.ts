/** The first stage: which flow is a packet of, and is that one known? */
import { stage } from '@tailrace/stage';
import { Decision, liveUntil, packetMetadata, Reason, tables } from './tables.ts';

const { flows, pieces, hits } = tables;

/** How long later pieces of a packet are let through behind the first one. */
const PIECES_NS = 30_000_000_000n;

/**
 * Lets packets of known flows through, and link protocols where `neighbours` says so: ARP, neighbour discovery (RFC 4861,
 * only with the hop limit that no router leaves) and multicast listener reports. Of others it writes what `decide` needs.
 * `inbound` says whether this hook's packets go towards the endpoint.
 *
 * Later pieces of a fragmented packet follow the first one, by addresses, protocol and id; where that is not known, since it
 * was denied or comes later, they are denied. So are second pieces of TCP that reach into its header (RFC 1858).
 *
 * Exit: `icmpError`, ICMP messages that quote a packet.
 */
export const flow = stage({
  name: 'flow',
  hook: 'tc',
  uses: { flows, pieces, hits, liveUntil, Decision, Reason, inbound: true, neighbours: true, PIECES_NS },
  writes: packetMetadata,
  onMiss: 'drop',
  program(ctx, { flows, pieces, hits, liveUntil, Decision, Reason, inbound, neighbours, PIECES_NS }) {
    const now = ctx.nowCoarse();
    ctx.meta.policyDecision = Decision.pass;
    ctx.meta.policyProtocol = 0;
    ctx.meta.policyTcpFlags = 0;
    ctx.meta.policyFirstPiece = false;
    ctx.meta.policyLocalPort = 0;
    ctx.meta.policyRemotePort = 0;
    ctx.meta.policyPieceId = 0;
    let decision: number = Decision.start;
    let protocol = 0;
    let sourceHi = 0n;
    let sourceLo = 0n;
    let destinationHi = 0n;
    let destinationLo = 0n;
    let id = 0;
    let offset = 0;
    let more = false;
    let sport = 0;
    let dport = 0;
    let tcpFlags = 0;
    // of ICMP: 1 an echo request, 2 an answer, 3 an error, 4 another message
    let message = 0;
    const ip = ctx.ipv4();
    if (ip) {
      sourceLo = 0xffff_0000_0000n | BigInt(ip.saddr);
      destinationLo = 0xffff_0000_0000n | BigInt(ip.daddr);
      protocol = ip.protocol;
      id = ip.id;
      offset = ip.fragmentOffset;
      more = ip.moreFragments;
      if (offset === 0) {
        if (protocol === 6) {
          const tcp = ctx.tcp();
          if (tcp) {
            sport = tcp.sport;
            dport = tcp.dport;
            tcpFlags = tcp.flags;
          } else decision = Reason.malformed;
        } else if (protocol === 17) {
          const udp = ctx.udp();
          if (udp) {
            sport = udp.sport;
            dport = udp.dport;
          } else decision = Reason.malformed;
        } else if (protocol === 1) {
          const icmp = ctx.icmp();
          if (icmp) {
            const type = icmp.type;
            message = type === 8 ? 1 : type === 0 ? 2 : type === 3 || type === 11 || type === 12 ? 3 : 4;
            sport = message < 3 ? icmp.id : type;
            dport = message < 3 ? 0 : icmp.code;
          } else decision = Reason.malformed;
        }
      }
    } else {
      const ip6 = ctx.ipv6();
      if (!ip6) {
        ctx.meta.policyDecision = neighbours && ctx.arp() ? Decision.pass : Reason.protocol;
        return ctx.next();
      }
      sourceHi = ip6.saddr.hi;
      sourceLo = ip6.saddr.lo;
      destinationHi = ip6.daddr.hi;
      destinationLo = ip6.daddr.lo;
      protocol = ctx.protocol;
      const fragment = ctx.ipv6Fragment();
      if (fragment) {
        id = fragment.id;
        offset = fragment.fragmentOffset;
        more = fragment.moreFragments;
      }
      if (offset === 0) {
        if (protocol === 6) {
          const tcp = ctx.tcp();
          if (tcp) {
            sport = tcp.sport;
            dport = tcp.dport;
            tcpFlags = tcp.flags;
          } else decision = Reason.malformed;
        } else if (protocol === 17) {
          const udp = ctx.udp();
          if (udp) {
            sport = udp.sport;
            dport = udp.dport;
          } else decision = Reason.malformed;
        } else if (protocol === 58) {
          const icmp = ctx.icmpv6();
          if (icmp) {
            const type = icmp.type;
            // RFC 4861, sections 6.1 and 7.1; RFC 2710 and RFC 3810
            if (neighbours && type >= 133 && type <= 137 && ip6.hopLimit === 255) return ctx.next();
            if (neighbours && ((type >= 130 && type <= 132) || type === 143) && ip6.hopLimit === 1) return ctx.next();
            message = type === 128 ? 1 : type === 129 ? 2 : type >= 1 && type <= 4 ? 3 : 4;
            sport = message < 3 ? icmp.id : type;
            dport = message < 3 ? 0 : icmp.code;
          } else decision = Reason.malformed;
        }
      }
    }
    const local = inbound ? { hi: destinationHi, lo: destinationLo } : { hi: sourceHi, lo: sourceLo };
    const remote = inbound ? { hi: sourceHi, lo: sourceLo } : { hi: destinationHi, lo: destinationLo };
    ctx.meta.policyProtocol = protocol;
    ctx.meta.policyTcpFlags = tcpFlags;
    ctx.meta.policyPieceId = id;
    if (offset !== 0) {
      // RFC 1858, section 3.2.2; RFC 3128: TCP's header is in the first piece
      const piece = pieces.lookup({ local, remote, id, protocol, inbound });
      if (!piece || (protocol === 6 && offset < 20) || BigInt.asUintN(64, piece.last + PIECES_NS) <= now) {
        ctx.meta.policyDecision = Reason.fragment;
        return ctx.next();
      }
      const count = hits.lookup(piece.rule);
      if (count) {
        count.packets += BigInt(ctx.segments);
        count.bytes += BigInt(ctx.length);
      }
      return ctx.next();
    }
    let localPort = inbound ? dport : sport;
    let remotePort = inbound ? sport : dport;
    if (message === 1 || message === 2) {
      localPort = sport;
      remotePort = (message === 1) === inbound ? 1 : 0;
    }
    ctx.meta.policyLocalPort = localPort;
    ctx.meta.policyRemotePort = remotePort;
    ctx.meta.policyFirstPiece = more;
    if (decision === Reason.malformed) {
      ctx.meta.policyDecision = decision;
      return ctx.next();
    }
    if (message > 2) {
      ctx.meta.policyDecision = Decision.once;
      return message === 3 ? ctx.exit('icmpError') : ctx.next();
    }
    const opens = protocol === 6 && (tcpFlags & 0x17) === 0x02;
    const known = flows.lookup({ local, remote, localPort, remotePort, protocol });
    if (known && liveUntil(known, protocol) > now) {
      const isReply = known.inbound !== inbound;
      const isOver = known.reset || (known.finIn && known.finOut);
      // A SYN from the side that did not start the flow, or on one that is over, is another flow's.
      if (!(opens && (isReply || isOver))) {
        if (known.last !== now) known.last = now;
        if (isReply && !known.answered) known.answered = true;
        if (protocol === 6) {
          if ((tcpFlags & 0x01) !== 0) {
            if (inbound) known.finIn = true;
            else known.finOut = true;
          }
          const resets = (tcpFlags & 0x04) !== 0;
          if (known.reset !== resets) known.reset = resets;
        }
        if (more) pieces.update({ local, remote, id, protocol, inbound }, { last: now, rule: known.rule, endpoint: known.endpoint });
        const count = hits.lookup(known.rule);
        if (count) {
          count.packets += BigInt(ctx.segments);
          count.bytes += BigInt(ctx.length);
        }
        return ctx.next();
      }
    }
    if (protocol === 6 && !opens) decision = Reason.state;
    else if (message === 2) decision = Decision.once;
    ctx.meta.policyDecision = decision;
    return ctx.next();
  },
});
