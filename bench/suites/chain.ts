/** Chains of 1 to 32 light stages: what a hop costs, beside the same chain in C, also by variable slots and by calls of functions. */
import type { AttachHook } from '@tailrace/bpf';
import { FUSED, HOP } from '../aims.ts';
import { clangMissing } from '../clang.ts';
import { measure } from '../contest.ts';
import { lightChain, lightFrame, lightReturn } from '../light-chain.ts';
import { type Row, type Suite, type Variant, withRatios } from '../row.ts';
import { slope } from '../statistics.ts';

/** Lengths of chains. */
export const LENGTHS = [1, 2, 4, 8, 16, 32] as const;

/** Those that are fused too. */
export const FUSED_LENGTHS: readonly number[] = LENGTHS.filter((length) => length <= 16);

/** The suite. */
export function chain(hook: AttachHook): Suite {
  return {
    name: 'chain',
    hook,
    about:
      'light stages (a bounds check, counters) over tail calls, in C also by variable slots and as functions; and fused beside what clang inlines, ns a packet',
    cases: [...LENGTHS.map(caseName), HOP, ...FUSED_LENGTHS.map(fusedName)],
    async run(effort, wanted) {
      const lengths = LENGTHS.filter((length) => wanted(caseName(length)) || wanted(HOP));
      const rows: Row[] = [];
      for (const length of lengths) {
        const one = { hook, length, otherWays: true };
        const contest = { suite: 'chain', name: caseName(length), hook, packet: lightFrame, returnValue: lightReturn(one) };
        rows.push(...(await measure({ ...contest, entrants: lightChain(one) }, effort)));
      }
      const fused: Row[] = [];
      for (const length of FUSED_LENGTHS.filter((length) => wanted(fusedName(length)))) {
        const one = { hook, length, fused: true };
        const contest = { suite: 'chain', name: fusedName(length), hook, packet: lightFrame, returnValue: lightReturn(one) };
        fused.push(...(await measure({ ...contest, entrants: lightChain(one) }, effort)));
      }
      const reason = clangMissing();
      return { rows: withRatios([...rows, ...hops(hook, rows), ...fused]), notes: reason === null ? [] : [reason] };
    },
  };
}

/** What one more stage costs, by the least-squares line through all lengths. */
function hops(hook: AttachHook, rows: readonly Row[]): readonly Row[] {
  const variants: readonly Variant[] = ['tailrace', 'c-same', 'c-variable', 'c-calls'];
  return variants.flatMap((variant) => {
    const own = rows.filter((row) => row.variant === variant);
    if (own.length < 2) return [];
    const points = own.map((row) => [Number.parseInt(row.name, 10), row.ns] as const);
    const spread = Math.max(...own.map((row) => row.spread)) / (Math.max(...LENGTHS) - Math.min(...LENGTHS));
    return [{ suite: 'chain', hook, name: HOP, variant, ns: slope(points), ratio: null, spread, insns: null }];
  });
}

function fusedName(length: number): string {
  return `${caseName(length)}${FUSED}`;
}

function caseName(length: number): string {
  return length === 1 ? '1 stage' : `${length} stages`;
}
