/** How long the compiler takes for each stage, from the source text to a program spec; and how long until the balancer runs. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { slotCount } from '@tailrace/bpf';
import { compileStage } from '@tailrace/compiler';
import { aclStage } from '@tailrace/functions/acl';
import { decapStage } from '@tailrace/functions/decap';
import { encap, pick, tooBig, vip } from '@tailrace/functions/l4lb';
import type { AnyStage } from '@tailrace/stage';
import { light } from '../light-chain.ts';
import { measureTask } from '../node-run.ts';
import type { Effort, Row, Suite } from '../row.ts';
import { summarise } from '../statistics.ts';
import { countFlows } from './count.ts';

const stages: readonly AnyStage[] = [light, countFlows, aclStage, vip, pick, encap, tooBig, decapStage];
/** A new process: modules read, all stages of the balancer compiled, loaded in userspace. */
const START = 'start of l4lb';

/** The suite. */
export const compile: Suite = {
  name: 'compile',
  hook: null,
  about: 'a stage from its source to its program, ns',
  cases: [...stages.map(({ name }) => name), START],
  async run(effort, wanted) {
    const rows = stages
      .filter(({ name }) => wanted(name))
      .map((stage) => {
        const row = measureTask({ suite: 'compile', name: stage.name, work: () => compileStage(stage) }, effort);
        return { ...row, insns: slotCount(compileStage(stage).program.instructions) };
      });
    return { rows: wanted(START) ? [...rows, startRow(effort)] : rows, notes: [] };
  },
};

function startRow({ rounds }: Effort): Row {
  const script = fileURLToPath(new URL('../start-balancer.ts', import.meta.url));
  const samples = Array.from({ length: rounds }, () => Number(execFileSync(process.execPath, [script], { encoding: 'utf8' })));
  const { median, spread } = summarise(samples);
  return { suite: 'compile', hook: null, name: START, variant: 'tailrace', ns: median, ratio: null, spread, insns: null };
}
