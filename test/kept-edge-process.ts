/**
 * A process that takes over the pipeline of kept-edge.ts and then makes another of it all the time, until it is killed. Arguments: the
 * pipeline's name, the path of a network namespace, the first generation.
 */
import { kernel } from '@tailrace/kernel';
import { AT, keptEdge } from './kept-edge.ts';

const [name = '', netns = '', start = ''] = process.argv.slice(2);
const { seen, edge } = keptEdge(name);
let generation = Number(start);
process.stdout.write('starting\n');
const running = await edge(generation).run(kernel({ interfaces: ['right'], netns }), { persist: true });
for (const key of Object.values(AT)) if (running.map(seen).get(key) === undefined) running.map(seen).set(key, 0n);
process.stdout.write('running\n');
for (;;) {
  generation += 1;
  await running.update(edge(generation));
}
