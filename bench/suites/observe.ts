/**
 * What telling of single packets costs a light chain that counts, nobody reading: traces that are compiled in and taken of no
 * packet, of one in a thousand, and a record for each packet that is dropped.
 */
import type { AttachHook } from '@tailrace/bpf';
import { measureCost } from '../cost.ts';
import { type LightChain, lightChain, lightFrame, lightReturn } from '../light-chain.ts';
import type { Row, Suite } from '../row.ts';

const LENGTHS = [1, 8] as const;
const KINDS = {
  'traces, of none': { trace: 2 ** 32 - 1 },
  'traces, of 1 in 1000': { trace: 1000 },
  'drops, all': { drops: true },
} as const;
type Kind = keyof typeof KINDS;

/** So many that the ring takes ten runs and ten to warm up, as in event.ts. */
const MOST_REPEATS = 150_000;

/** The suite. */
export function observe(hook: AttachHook): Suite {
  const cases = LENGTHS.flatMap((length) => (Object.keys(KINDS) as Kind[]).map((kind) => ({ length, kind, name: caseName(length, kind) })));
  return {
    name: 'observe',
    hook,
    about: 'a chain that counts, and tells of single packets, ns a packet',
    cases: cases.map(({ name }) => name),
    async run(effort, wanted) {
      const rows: Row[] = [];
      for (const { length, kind, name } of cases) {
        if (!wanted(name)) continue;
        const chain: LightChain = { hook, length, end: 'drop' };
        const contest = { suite: 'observe', hook, name, packet: lightFrame, returnValue: lightReturn(chain) };
        const sides = { without: lightChain(chain).slice(0, 1), with: lightChain({ ...chain, ...KINDS[kind] }) };
        const less = kind === 'drops, all' ? { ...effort, repeats: Math.min(effort.repeats, MOST_REPEATS) } : effort;
        rows.push(...(await measureCost({ ...contest, ...sides }, less)));
      }
      return { rows, notes: [] };
    },
  };
}

function caseName(length: number, kind: Kind): string {
  return `${length === 1 ? '1 stage' : `${length} stages`}, ${kind}`;
}
