/** What pictures say of a canary: who goes through it, and how each side fares. */
import type { CanaryDescription } from './canary-description.ts';
import type { ChainHook } from './chain-hook.ts';
import { chainVerdicts } from './chain-verdicts.ts';
import type { ChainDescription } from './description.ts';
import { number, percent } from './figure.ts';
import type { StageStats } from './stats.ts';

/** Counters of chains by stage; what `running.stats()` gives fits. */
export type StatsByHook = { readonly [K in ChainHook]?: Readonly<Record<string, StageStats>> };

/** A canary, to be drawn beside the pipeline that it is of: what `canary.describe()` gives, and `canary` of its `stats()`. */
export interface CanaryPicture extends CanaryDescription {
  readonly stats?: StatsByHook;
}

/** The canary's chain at a hook; undefined where packets are not sorted. */
export function canaryChain({ hooks, pipeline }: CanaryPicture, hook: ChainHook): ChainDescription | undefined {
  return hooks.includes(hook) ? pipeline.chains[hook] : undefined;
}

/** `10% of all flows`, or `what pick picks`. */
export function trafficText({ traffic }: CanaryPicture): string {
  return 'share' in traffic ? `${Number((traffic.share * 100).toPrecision(4))}% of all flows` : `what ${traffic.match.join(', ')} picks`;
}

/** A side in figures: its packets, then what became of them: `1,204 packets`, `pass 99.6%`, `drop 0.4%`. */
export function sideFigures(chain: ChainDescription, stats: Readonly<Record<string, StageStats>>): readonly string[] {
  const verdicts = [...chainVerdicts(chain, stats)];
  const all = verdicts.reduce((sum, [, packets]) => sum + packets, 0n);
  return [`${number(all)} packets`, ...verdicts.map(([name, packets]) => `${name} ${percent(packets, all)}`)];
}
