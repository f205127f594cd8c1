/** The second stage: do the endpoint's rules let the packet through? */
import { stage } from '@tailrace/stage';
import { Decision, packetMetadata, REASONS, Reason, tables } from './tables.ts';

const { flows, pieces, endpoints4, endpoints6, scopes, peers4, peers6, ports, hits, denials, budget, denied } = tables;

/**
 * Looks up the endpoint, the set of rules that applies to the peer, and the rule for the port: three longest-prefix lookups
 * whatever the number of rules. What may start a flow is remembered.
 *
 * Exits: `denied`, and in its place `audit` where `audit` says so.
 */
export const decide = stage({
  name: 'decide',
  hook: 'tc',
  uses: {
    flows,
    pieces,
    endpoints4,
    endpoints6,
    scopes,
    peers4,
    peers6,
    ports,
    hits,
    denials,
    budget,
    denied,
    Decision,
    Reason,
    REASONS,
    inbound: true,
    audit: false,
    strangers: false,
    eventsPerSecond: 100,
  },
  reads: packetMetadata,
  onMiss: 'drop',
  program(ctx, uses) {
    const decision = ctx.meta.policyDecision;
    const { Decision, Reason, inbound } = uses;
    if (decision === Decision.pass) return ctx.next();
    const protocol = ctx.meta.policyProtocol;
    let localHi = 0n;
    let localLo = 0n;
    let remoteHi = 0n;
    let remoteLo = 0n;
    let remote4 = 0;
    let endpoint = 0;
    const ip = ctx.ipv4();
    if (ip) {
      const local4 = inbound ? ip.daddr : ip.saddr;
      remote4 = inbound ? ip.saddr : ip.daddr;
      localLo = 0xffff_0000_0000n | BigInt(local4);
      remoteLo = 0xffff_0000_0000n | BigInt(remote4);
      const found = uses.endpoints4.lookup({ prefixLen: 32, addr: local4 });
      if (found) endpoint = found.value;
    } else {
      const ip6 = ctx.ipv6();
      if (ip6) {
        localHi = inbound ? ip6.daddr.hi : ip6.saddr.hi;
        localLo = inbound ? ip6.daddr.lo : ip6.saddr.lo;
        remoteHi = inbound ? ip6.saddr.hi : ip6.daddr.hi;
        remoteLo = inbound ? ip6.saddr.lo : ip6.daddr.lo;
        const found = uses.endpoints6.lookup({ prefixLen: 128, addr: { hi: localHi, lo: localLo } });
        if (found) endpoint = found.value;
      }
    }
    const local = { hi: localHi, lo: localLo };
    const remote = { hi: remoteHi, lo: remoteLo };
    let reason: number = decision;
    if (endpoint === 0 && decision !== Reason.protocol) {
      if (uses.strangers) return ctx.next();
      reason = Reason.endpoint;
    }
    if (reason === Decision.start || reason === Decision.once) {
      reason = Reason.rule;
      const current = uses.scopes.lookup(endpoint);
      const scope = current ? (current.value & 0x3fff_ffff) * 2 + (inbound ? 0 : 1) : 0;
      let peers = 0;
      if (ip) {
        const found = uses.peers4.lookup({ prefixLen: 64, scope, addr: remote4 });
        if (found) peers = found.value;
      } else {
        const found = uses.peers6.lookup({
          prefixLen: 160,
          scope,
          hiHigh: Number(remoteHi >> 32n),
          hiLow: Number(remoteHi & 0xffff_ffffn),
          loHigh: Number(remoteLo >> 32n),
          loLow: Number(remoteLo & 0xffff_ffffn),
        });
        if (found) peers = found.value;
      }
      const port = protocol !== 6 && protocol !== 17 ? 0 : inbound ? ctx.meta.policyLocalPort : ctx.meta.policyRemotePort;
      const found = uses.ports.lookup({ prefixLen: 64, peers, protocol, port });
      if (found && peers !== 0) {
        const rule = found.value;
        const now = ctx.nowCoarse();
        let fits = true;
        if (decision === Decision.start)
          fits = uses.flows.update(
            { local, remote, localPort: ctx.meta.policyLocalPort, remotePort: ctx.meta.policyRemotePort, protocol },
            { last: now, rule, endpoint, inbound, answered: false, finIn: false, finOut: false, reset: false },
          );
        if (fits) {
          if (ctx.meta.policyFirstPiece)
            uses.pieces.update({ local, remote, id: ctx.meta.policyPieceId, protocol, inbound }, { last: now, rule, endpoint });
          const count = uses.hits.lookup(rule);
          if (count) {
            count.packets += BigInt(ctx.segments);
            count.bytes += BigInt(ctx.length);
          }
          return ctx.next();
        }
        reason = Reason.full;
      }
    }
    const count = uses.denials.lookup((endpoint & 0xffff) * uses.REASONS + (reason & 15));
    if (count) {
      count.packets += BigInt(ctx.segments);
      count.bytes += BigInt(ctx.length);
    }
    const left = uses.budget.lookup(0);
    if (left) {
      const time = ctx.nowCoarse();
      const second = time >> 30n;
      if (left.second !== second) {
        left.second = second;
        left.sent = 0;
      }
      if (left.sent < uses.eventsPerSecond) {
        left.sent += 1;
        uses.denied.send({
          time,
          local,
          remote,
          endpoint,
          length: ctx.length,
          ifindex: ctx.ifindex,
          localPort: ctx.meta.policyLocalPort,
          remotePort: ctx.meta.policyRemotePort,
          protocol,
          reason,
          tcpFlags: ctx.meta.policyTcpFlags,
          inbound,
        });
      } else left.skipped += 1n;
    }
    if (uses.audit) return ctx.exit('audit');
    return ctx.exit('denied');
  },
});
