/** What the figures should be, and whether they are: the aims, judged from rows. */
import { rowName } from './load/trial.ts';
import type { Row, Variant } from './row.ts';
import { geometricMean } from './statistics.ts';

/** One aim beside what was measured. */
export interface Judgement {
  readonly aim: string;
  readonly value: number;
  readonly limit: number;
  readonly met: boolean;
}

/** Suites whose programs are judged, at every hook that they run at. What features cost is shown and not judged. */
const JUDGED: ReadonlySet<string> = new Set(['chain', 'count', 'acl', 'decap', 'l4lb']);

/** Judges what the rows allow to judge; aims without rows are left out. */
export function judge(rows: readonly Row[]): readonly Judgement[] {
  const judged = rows.filter(({ suite }) => JUDGED.has(suite));
  const hooks = [...new Set(judged.map(({ hook }) => hook))];
  return [
    ...judgeChanges(rows),
    ...judgeSockets(rows),
    ...hooks.flatMap((hook) =>
      judgeHook(
        judged.filter((row) => row.hook === hook),
        hook ?? 'Node',
      ),
    ),
  ];
}

/** The name of the row of what a swap writes. */
export const SLOT = 'swap of a stage: its slot';

function judgeChanges(rows: readonly Row[]): readonly Judgement[] {
  return rows
    .filter(({ suite, name }) => suite === 'change' && name === SLOT)
    .map(({ ns }) => verdict('change: the slot that swaps a stage, in µs', ns / 1000, 100));
}

/** Suite, row, against whom, at most. */
const SOCKET_AIMS = [
  ['splice', rowName.roundTrip(1, 'p50'), 'haproxy', 0.75],
  ['splice', rowName.roundTrip(1, 'p50'), 'pipe', 0.65],
  ['splice', rowName.proxy(1), 'pipe', 0.25],
  ['splice', rowName.proxy(8), 'pipe', 0.25],
  ['splice', rowName.steady('CPU of the proxy'), 'pipe', 0.25],
  ['bypass', rowName.answered(1), 'direct', 1 / 1.7],
  ['bypass', rowName.bulk(1), 'direct', 1 / 1.7],
] as const satisfies readonly (readonly [string, string, Variant, number])[];

function judgeSockets(rows: readonly Row[]): readonly Judgement[] {
  return SOCKET_AIMS.flatMap(([suite, name, variant, limit]) =>
    ratios(rows, variant, (row) => row.suite === suite && row.name === name).map(({ ratio }) =>
      verdict(`${suite}: ${name}, against ${variant}`, ratio, limit),
    ),
  );
}

function judgeHook(rows: readonly Row[], hook: string): readonly Judgement[] {
  const programs = ratios(rows, 'c-same', ({ name }) => name !== HOP && !name.endsWith(FUSED));
  const fused = ratios(rows, 'c-same', ({ name }) => name.endsWith(FUSED));
  const hop = ratios(rows, 'c-same', ({ name }) => name === HOP);
  return [
    ...programs.map(({ row, ratio }) => verdict(`${hook} ${row.suite} ${row.name}: same algorithm in C`, ratio, 1.05)),
    ...(programs.length > 0
      ? [verdict(`${hook}: same algorithm in C, geometric mean`, geometricMean(programs.map(({ ratio }) => ratio)), 0.9)]
      : []),
    ...hop.map(({ ratio }) => verdict(`${hook}: a hop in a chain, against C`, ratio, 1.1)),
    ...fused.map(({ row, ratio }) => verdict(`${hook} ${row.suite} ${row.name}, against what clang inlines`, ratio, 1.1)),
    ...ratios(rows, 'c-lru', ({ name }) => name.startsWith('hit')).map(({ row, ratio }) =>
      verdict(`${hook} l4lb ${row.name}, against LRU maps in C`, ratio, 0.5),
    ),
    ...ratios(rows, 'c-lru', ({ name }) => name.startsWith('new')).map(({ row, ratio }) =>
      verdict(`${hook} l4lb ${row.name}, against LRU maps in C`, ratio, 0.3),
    ),
  ];
}

/** The name of the row that holds the slope from the shortest to the longest chain. */
export const HOP = 'hop';
/** How the names of rows end whose stages are one program. */
export const FUSED = ', fused';

function ratios(rows: readonly Row[], variant: Variant, wanted: (row: Row) => boolean): readonly { row: Row; ratio: number }[] {
  return rows.flatMap((row) => (row.variant === variant && row.ratio !== null && wanted(row) ? [{ row, ratio: row.ratio }] : []));
}

function verdict(aim: string, value: number, limit: number): Judgement {
  return { aim, value, limit, met: value <= limit };
}
