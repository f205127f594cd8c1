/** Behind the exit `icmpError`: is the packet that an ICMP error quotes one of a known flow? */
import { Icmp, Ipv4, Ipv6, Ports, stage, u8 } from '@tailrace/stage';
import { Decision, liveUntil, tables } from './tables.ts';

const { flows } = tables;

/**
 * Lets errors through that are about a packet of a known flow, sent by whom the error goes to (RFC 5508, section 4.2). For
 * others the rules decide, as for any ICMP message. Eight bytes of the quoted packet's layer 4 are enough.
 */
export const related = stage({
  name: 'related',
  hook: 'tc',
  uses: { flows, liveUntil, Decision, Icmp, Ipv4, Ipv6, Ports, inbound: true },
  writes: { policyDecision: u8 },
  onMiss: 'drop',
  program(ctx, { flows, liveUntil, Decision, Icmp, Ipv4, Ipv6, Ports, inbound }) {
    ctx.meta.policyDecision = Decision.once;
    let senderHi = 0n;
    let senderLo = 0n;
    let receiverHi = 0n;
    let receiverLo = 0n;
    let protocol = 0;
    let behind = 0;
    const ip = ctx.ipv4();
    if (ip) {
      const icmp = ctx.icmp();
      if (!icmp) return ctx.next();
      const start = ctx.offsetOf(icmp) + 8;
      const quoted = ctx.at(Ipv4, start);
      if (!quoted) return ctx.next();
      if (quoted.version !== 4 || quoted.headerLength < 20 || quoted.fragmentOffset !== 0) return ctx.next();
      if (quoted.saddr !== ip.daddr) return ctx.next();
      senderLo = 0xffff_0000_0000n | BigInt(quoted.saddr);
      receiverLo = 0xffff_0000_0000n | BigInt(quoted.daddr);
      protocol = quoted.protocol;
      behind = start + quoted.headerLength;
    } else {
      const ip6 = ctx.ipv6();
      const icmp = ctx.icmpv6();
      if (!ip6 || !icmp) return ctx.next();
      const start = ctx.offsetOf(icmp) + 8;
      const quoted = ctx.at(Ipv6, start);
      if (!quoted) return ctx.next();
      senderHi = quoted.saddr.hi;
      senderLo = quoted.saddr.lo;
      if (quoted.versionClassFlow >>> 28 !== 6 || senderHi !== ip6.daddr.hi || senderLo !== ip6.daddr.lo) return ctx.next();
      receiverHi = quoted.daddr.hi;
      receiverLo = quoted.daddr.lo;
      protocol = quoted.nextHeader;
      behind = start + 40;
    }
    let sport = 0;
    let dport = 0;
    let message = 0;
    if (protocol === 6 || protocol === 17) {
      const ports = ctx.at(Ports, behind);
      if (!ports) return ctx.next();
      sport = ports.sport;
      dport = ports.dport;
    } else if (protocol === 1 || protocol === 58) {
      const icmp = ctx.at(Icmp, behind);
      if (!icmp) return ctx.next();
      const type = icmp.type;
      sport = icmp.id;
      message = type === 8 || type === 128 ? 1 : type === 0 || type === 129 ? 2 : 3;
      if (message === 3) return ctx.next();
    }
    // who gets the error sent the quoted packet
    const local = inbound ? { hi: senderHi, lo: senderLo } : { hi: receiverHi, lo: receiverLo };
    const remote = inbound ? { hi: receiverHi, lo: receiverLo } : { hi: senderHi, lo: senderLo };
    let localPort = inbound ? sport : dport;
    let remotePort = inbound ? dport : sport;
    if (message !== 0) {
      localPort = sport;
      remotePort = (message === 1) === inbound ? 0 : 1;
    }
    const known = flows.lookup({ local, remote, localPort, remotePort, protocol });
    if (known && liveUntil(known, protocol) > ctx.nowCoarse()) ctx.meta.policyDecision = Decision.pass;
    return ctx.next();
  },
});
