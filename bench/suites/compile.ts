/** How long the compiler takes for each stage: from the source text to a program spec. */
import { slotCount } from '@tailrace/bpf';
import { compileStage } from '@tailrace/compiler';
import { aclStage } from '@tailrace/functions/acl';
import { decapStage } from '@tailrace/functions/decap';
import { encap, pick, tooBig, vip } from '@tailrace/functions/l4lb';
import type { AnyStage } from '@tailrace/stage';
import { light } from '../light-chain.ts';
import { measureTask } from '../node-run.ts';
import type { Suite } from '../row.ts';
import { countFlows } from './count.ts';

const stages: readonly AnyStage[] = [light, countFlows, aclStage, vip, pick, encap, tooBig, decapStage];

/** The suite. */
export const compile: Suite = {
  name: 'compile',
  hook: null,
  about: 'a stage from its source to its program, ns',
  cases: stages.map(({ name }) => name),
  async run(effort, wanted) {
    const rows = stages
      .filter(({ name }) => wanted(name))
      .map((stage) => {
        const row = measureTask({ suite: 'compile', name: stage.name, work: () => compileStage(stage) }, effort);
        return { ...row, insns: slotCount(compileStage(stage).program.instructions) };
      });
    return { rows, notes: [] };
  },
};
