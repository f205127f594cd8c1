/** Counters of all stages as a plain table. */
import {
  type ChainDescription,
  type ChainHook,
  chainHooks,
  hookTitle,
  type PipelineDescription,
  type StageStats,
} from '@tailrace/pipeline';

/** Counters by chain and stage; what `running.stats()` gives fits. */
export type StatsByChain = { readonly [H in ChainHook]?: Readonly<Record<string, StageStats>> };

/** Lines without a trailing newline: a heading, then a stage each, in the order in which packets meet them. */
export function drawTable<L>(stats: StatsByChain, { chains }: PipelineDescription<L>): string {
  const described: { readonly [H in ChainHook]?: ChainDescription } = chains as Readonly<Record<string, ChainDescription>>;
  const rows = chainHooks.flatMap((hook) =>
    (described[hook]?.stages ?? []).map(({ name }) => {
      const counts = stats[hook]?.[name];
      return [hookTitle[hook], name, String(counts?.packets ?? 0n), String(counts?.bytes ?? 0n), counts ? waysOf(counts) : ''] as const;
    }),
  );
  const table = [['hook', 'stage', 'packets', 'bytes', 'ways'] as const, ...rows];
  const [hook, stage, packets, bytes] = [0, 1, 2, 3].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  return table
    .map((row) =>
      [row[0].padEnd(hook ?? 0), row[1].padEnd(stage ?? 0), row[2].padStart(packets ?? 0), row[3].padStart(bytes ?? 0), row[4]]
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** The ways that packets took out of a stage. */
function waysOf({ verdicts, next, exits, misses }: StageStats): string {
  const ways = [...Object.entries(verdicts), ['next', next] as const, ...Object.entries(exits), ['missed', misses] as const];
  return ways.flatMap(([name, packets]) => (packets > 0n ? [`${name} ${packets}`] : [])).join(', ');
}
