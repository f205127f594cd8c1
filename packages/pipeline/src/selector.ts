/** Who goes through the next chain first, where two stand behind one root: a share of flows, or whom a stage of the user's picks. */
import { ArgumentError } from '@tailrace/bpf';
import { type AnyStage, hookFits, stage } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { type ChainHook, hookTitle, isPacketHook } from './chain-hook.ts';

/** Which packets a canary gets. */
export type CanaryTraffic =
  /** A share of all flows, above 0 and at most 1: a flow stays on its side, in both directions. */
  | { readonly share: number }
  /**
   * Packets that a stage lets out through its exit `canary`; by all other ways they stay with the present chain. Where chains of XDP
   * and of TC differ, a stage for each: at a hook it is the first that fits.
   */
  | { readonly match: AnyStage | readonly AnyStage[] };

/** The exit of a selector that leads to the next chain. */
export const CANARY_EXIT = 'canary';

/** The selector at a hook. Throws ArgumentError for a share that is none, and ChainError for a stage that does not fit. */
export function selectorAt(hook: ChainHook, traffic: CanaryTraffic): AnyStage {
  if (!isPacketHook(hook)) throw new ChainError('hook', `a canary sorts packets, and the pipeline has a chain at ${hookTitle[hook]}`);
  if ('share' in traffic) return byFlow(limitOf(traffic.share)).at(hook);
  const stages = [traffic.match].flat();
  const match = stages.find((one) => hookFits(one.hook, hook));
  if (match === undefined) {
    const given = stages.map((one) => `stage '${one.name}' has hook '${one.hook}'`).join(', ') || 'no stage is given';
    throw new ChainError('hook', `${given}; '${hook}' is needed here`, {
      hint: `match: [stage, stage.at('tc')] has one for XDP and one for TC`,
    });
  }
  if (Object.keys(match.reads).length + Object.keys(match.writes).length > 0)
    throw new ChainError('metadata', `'${match.name}' stands before the chains and has no metadata`);
  return match;
}

/** The hash of a flow below which it is a canary's. */
function limitOf(share: number): number {
  if (!(share > 0 && share <= 1)) throw new ArgumentError(`canary: share is ${share}, expected more than 0 and at most 1`);
  return Math.round(share * 2 ** 32);
}

/**
 * Addresses and ports of both ends go into the hash alike, so that answers are on the side of what they answer. What is neither
 * IPv4 nor IPv6 stays with the present chain; fragments behind the first have no ports, and go by addresses.
 */
const byFlow = (limit: number) =>
  stage({
    name: 'canary',
    hook: 'xdp',
    uses: { limit },
    program(ctx, { limit }) {
      const ip = ctx.ipv4();
      const ip6 = ctx.ipv6();
      if (!ip && !ip6) return ctx.next();
      let ends = 0;
      if (ip) ends = ip.saddr ^ ip.daddr;
      if (ip6) {
        const both = ip6.saddr.hi ^ ip6.saddr.lo ^ ip6.daddr.hi ^ ip6.daddr.lo;
        ends = Number(BigInt.asUintN(32, both ^ (both >> 32n))) | 0;
      }
      const ports = ctx.ports();
      const between = ports ? ports.sport ^ ports.dport : 0;
      let hash = Math.imul(ends ^ Math.imul(between + 1, 0x9e37_79b1), 0x85eb_ca77);
      hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2_ae3d);
      return (hash ^ (hash >>> 16)) >>> 0 < limit ? ctx.exit('canary') : ctx.next();
    },
  });
