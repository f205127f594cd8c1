/** What counters cost: a light chain with them, beside the same one that was compiled without. */
import type { AttachHook } from '@tailrace/bpf';
import { clangMissing } from '../clang.ts';
import { measureCost } from '../cost.ts';
import { type LightChain, lightChain, lightFrame, lightReturn } from '../light-chain.ts';
import type { Row, Suite } from '../row.ts';

const LENGTHS = [1, 8] as const;

/** The suite. */
export function counters(hook: AttachHook): Suite {
  return {
    name: 'counters',
    hook,
    about: 'bytes, outcomes and misses of each stage, ns a packet',
    cases: LENGTHS.map(caseName),
    async run(effort, wanted) {
      const rows: Row[] = [];
      for (const length of LENGTHS) {
        const name = caseName(length);
        if (!wanted(name)) continue;
        const chain: LightChain = { hook, length, end: 'drop' };
        const contest = { suite: 'counters', hook, name, packet: lightFrame, returnValue: lightReturn(chain) };
        rows.push(
          ...(await measureCost({ ...contest, without: lightChain({ ...chain, counted: false }), with: lightChain(chain) }, effort)),
        );
      }
      const reason = clangMissing();
      return { rows, notes: reason === null ? [] : [reason] };
    },
  };
}

function caseName(length: number): string {
  return length === 1 ? '1 stage' : `${length} stages`;
}
