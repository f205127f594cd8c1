/** A canary as data, for pictures and reports. */
import type { ChainHook } from './chain-hook.ts';
import type { PipelineDescription } from './description.ts';
import type { CanaryTraffic } from './selector.ts';

/** A canary. */
export interface CanaryDescription {
  /** Who goes through it: a share of all flows, or what stages of these names pick. */
  readonly traffic: { readonly share: number } | { readonly match: readonly string[] };
  /** Where packets are sorted: the chains of both pipelines differ there, or take what the others send. */
  readonly hooks: readonly ChainHook[];
  /** What they go through. */
  readonly pipeline: PipelineDescription<{ readonly [K in ChainHook]?: string }>;
}

/** Who goes through a canary, as data. */
export function describeTraffic(traffic: CanaryTraffic): CanaryDescription['traffic'] {
  return 'share' in traffic ? { share: traffic.share } : { match: [...new Set([traffic.match].flat().map(({ name }) => name))] };
}
