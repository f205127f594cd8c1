/**
 * A process that takes over the pipeline of kept-edge.ts and then makes another of it all the time, until it is killed. Arguments: the
 * pipeline's name, the path of a network namespace, the first generation, and
 * what it does: `updates`, `replacements` of stages, `canaries` that begin and end, or one `canary` that stays.
 */
import { setTimeout } from 'node:timers/promises';
import { kernel } from '@tailrace/kernel';
import { AT, keptEdge } from './kept-edge.ts';

const [name = '', netns = '', start = '', work = 'updates'] = process.argv.slice(2);
const { seen, stages, edge, match } = keptEdge(name);
let generation = Number(start);
process.stdout.write('starting\n');
const observe = work.startsWith('canar') ? { trace: { every: 10 } } : {};
const running = await edge(generation).run(kernel({ interfaces: ['right'], netns }), { persist: true, observe });
for (const key of Object.values(AT)) if (running.map(seen).get(key) === undefined) running.map(seen).set(key, 0n);
process.stdout.write('running\n');
for (;;) {
  if (work === 'replacements') {
    const { last, out } = stages(generation);
    await running.replace(last, last);
    await running.replace(out, out);
    continue;
  }
  generation += 1;
  if (work === 'updates') {
    await running.update(edge(generation));
    continue;
  }
  const trial = await running.canary(edge(generation), { match });
  process.stdout.write('canary\n');
  // until it is killed
  if (work === 'canary') await setTimeout(60_000);
  await setTimeout(Math.random() * 20);
  if (generation % 2 === 0) await trial.promote();
  else await trial.rollBack();
  await running.observe({ trace: generation % 3 === 0 && { every: 10 } });
}
