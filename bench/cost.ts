/**
 * What a feature costs: the same work without it and with it, all programs in the same rounds, so that what moves between
 * rounds falls out of the difference.
 */
import { type Contest, type Entrant, measureRounds, rowOf } from './contest.ts';
import { type Effort, type Row, withRatios } from './row.ts';

/** A contest of two sets of entrants, both in the same order of variants. */
export interface CostContest extends Omit<Contest, 'entrants'> {
  readonly without: readonly Entrant[];
  readonly with: readonly Entrant[];
}

/**
 * Measures a cost: rows `NAME, without` and `NAME, with`, and `NAME, cost`, the median of the rounds' differences, which has
 * no ratio: one of two small differences says nothing. Throws as `measureRounds` does.
 */
export async function measureCost(contest: CostContest, effort: Effort): Promise<readonly Row[]> {
  const { without, with: having, ...rest } = contest;
  const rounds = await measureRounds({ ...rest, entrants: [...without, ...having] }, effort);
  const part = (name: string, of: (numbers: readonly number[], index: number) => number): readonly Row[] =>
    without.map(({ variant }, index) => {
      const about = { ...contest, name: `${contest.name}, ${name}` };
      const samples = rounds.map(({ net }) => of(net, index));
      return { ...rowOf(about, variant, samples), insns: of(rounds[0]?.insns ?? [], index) };
    });
  const plain = (numbers: readonly number[], index: number): number => numbers[index] ?? Number.NaN;
  const more = (numbers: readonly number[], index: number): number => numbers[without.length + index] ?? Number.NaN;
  return [
    ...withRatios([...part('without', plain), ...part('with', more)]),
    ...part('cost', (numbers, index) => more(numbers, index) - plain(numbers, index)),
  ];
}
