/**
 * Two processes begin to run one persistent pipeline at the same time, again and again; in every fifth round one of them dies at a random
 * moment. One has it, the other is told who, and where the owner died the other gets it. `TAILRACE_RACES=N` runs N rounds, default 20.
 */
import { createNamespace, kernel, Rtnetlink } from '@tailrace/kernel';
import { keptPipelines } from '@tailrace/pipeline';
import { eventually } from '@tailrace/testing';
import { afterEach, expect, test } from 'vitest';
import { killAll, type ProcessToKill, start } from './killed-process.ts';
import { stopLeft } from './pipeline-objects.ts';

const rounds = Number(process.env.TAILRACE_RACES ?? 20);
/** About as long as starting it takes. */
const STARTING_MS = 200;

const name = `race-${process.pid}`;

afterEach(async () => {
  killAll();
  await using outside = await kernel({ interfaces: [] }).open();
  await eventually(() => keptPipelines(outside).every((kept) => kept.name !== name || kept.owner === undefined), 5_000, 'the end of them');
  await stopLeft(name);
});

/** What a process said in a round: undefined until it has. */
function said({ output }: ProcessToKill, round: number): string | undefined {
  return new RegExp(`^(?:runs|refused) ${round}\\.(?: .*)?$`, 'm').exec(output)?.[0];
}

const has = (one: ProcessToKill, round: number): boolean => said(one, round) === `runs ${round}.`;

test('two never have it, and the one that is refused is told who has', { timeout: 60_000 + 2_000 * rounds }, async () => {
  using namespace = createNamespace();
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'left' }, { name: 'right' });
  await using outside = await kernel({ interfaces: [] }).open();
  const owner = () => keptPipelines(outside).find((kept) => kept.name === name)?.owner;
  const born = async (): Promise<ProcessToKill> => {
    const process = start('racing-process.ts', [name, namespace.path]);
    await process.says('ready');
    return process;
  };
  const both = [await born(), await born()];
  for (let round = 1; round <= rounds; round++) {
    // whoever is told first
    for (const one of round % 2 === 0 ? both : both.toReversed()) one.tell(`go ${round}.`);
    if (round % 5 === 0) {
      const at = Math.random() < 0.5 ? 0 : 1;
      const [victim, survivor] = [both[at], both[1 - at]] as [ProcessToKill, ProcessToKill];
      await victim.kill(Math.random() * STARTING_MS);
      const answer = await eventually(() => said(survivor, round), 10_000, `what came of round ${round}`);
      if (!has(survivor, round)) {
        expect(answer).toBe(`refused ${round}. conflict ${victim.pid}`);
        survivor.tell(`go ${round}.5`);
        await survivor.says(`runs ${round}.5`);
      }
      expect(owner()).toBe(survivor.pid);
      survivor.tell(`leave ${round}.`);
      await survivor.says(`left ${round}.`);
      both[at] = await born();
      continue;
    }
    await eventually(() => both.every((one) => said(one, round)), 10_000, `what came of round ${round}`);
    const winners = both.filter((one) => has(one, round));
    expect(winners).toHaveLength(1);
    const [winner] = winners as [ProcessToKill];
    const loser = both.find((one) => one !== winner) as ProcessToKill;
    expect(said(loser, round)).toBe(`refused ${round}. conflict ${winner.pid}`);
    expect(owner()).toBe(winner.pid);
    winner.tell(`leave ${round}.`);
    await winner.says(`left ${round}.`);
  }
  expect(owner()).toBeUndefined();
});
