/** What became of a chain's packets, from the counters of its stages. */
import { verdictNamesOf } from './chain-hook.ts';
import type { ChainDescription } from './description.ts';
import type { StageStats } from './stats.ts';

/** Names the packets whose tail call found no stage: `onMiss` of theirs decided. */
const MISSED = 'missed';

/**
 * Packets by the verdict that the chain came to, those that are not 0: each packet that it is done with is in one of them. Packets
 * that missed are `missed`.
 */
export function chainVerdicts(
  { hook, stages }: ChainDescription,
  stats: Readonly<Record<string, StageStats>>,
): ReadonlyMap<string, bigint> {
  const counts = new Map<string, bigint>([...verdictNamesOf(hook), MISSED].map((name) => [name, 0n]));
  const add = (name: string, packets = 0n): unknown => counts.set(name, (counts.get(name) ?? 0n) + packets);
  for (const { name, edges } of stages) {
    const counted = stats[name];
    if (counted === undefined) continue;
    for (const [verdict, packets] of Object.entries(counted.verdicts)) add(verdict, packets);
    for (const { kind, label, verdict } of edges)
      if (verdict !== undefined) add(verdict, kind === 'next' ? counted.next : counted.exits[label]);
    add(MISSED, counted.misses);
  }
  return new Map([...counts].filter(([, packets]) => packets > 0n));
}
