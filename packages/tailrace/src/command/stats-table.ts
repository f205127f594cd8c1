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

/** One row of a table of stages. */
export interface TableRow {
  readonly hook: string;
  readonly stage: string;
  readonly packets: bigint;
  readonly bytes: bigint;
  /** Ways out by name, in order; those that no packet took are left out. */
  readonly ways: readonly (readonly [name: string, packets: bigint])[];
}

/** Lines without a trailing newline: a heading, then a stage each, in the order in which packets meet them. */
export function drawTable<L>(stats: StatsByChain, { chains }: PipelineDescription<L>): string {
  const described: { readonly [H in ChainHook]?: ChainDescription } = chains as Readonly<Record<string, ChainDescription>>;
  return drawRows(
    chainHooks.flatMap((hook) =>
      (described[hook]?.stages ?? []).map(({ name }): TableRow => {
        const counts = stats[hook]?.[name];
        return {
          hook: hookTitle[hook],
          stage: name,
          packets: counts?.packets ?? 0n,
          bytes: counts?.bytes ?? 0n,
          ways: counts ? waysOf(counts) : [],
        };
      }),
    ),
  );
}

/** Rows below their heading, without a trailing newline. */
export function drawRows(rows: readonly TableRow[]): string {
  const table = [
    ['hook', 'stage', 'packets', 'bytes', 'ways'] as const,
    ...rows.map(({ hook, stage, packets, bytes, ways }) => [hook, stage, String(packets), String(bytes), drawWays(ways)] as const),
  ];
  const [hook, stage, packets, bytes] = [0, 1, 2, 3].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  return table
    .map((row) =>
      [row[0].padEnd(hook ?? 0), row[1].padEnd(stage ?? 0), row[2].padStart(packets ?? 0), row[3].padStart(bytes ?? 0), row[4]]
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `drop 4, next 1188` */
export function drawWays(ways: TableRow['ways']): string {
  return ways.flatMap(([name, packets]) => (packets > 0n ? [`${name} ${packets}`] : [])).join(', ');
}

/** The ways that packets took out of a stage. */
function waysOf({ verdicts, next, exits, drops, misses }: StageStats): TableRow['ways'] {
  const reasons = Object.entries(drops).map(([reason, packets]) => [`for ${reason}`, packets] as const);
  return [...Object.entries(verdicts), ...reasons, ['next', next], ...Object.entries(exits), ['missed', misses]];
}
