/**
 * A process that runs the pipeline of kept-edge.ts whenever it is told to `go`, says what came of it, and leaves when it is told to.
 * Arguments: the pipeline's name, the path of a network namespace.
 */
import { createInterface } from 'node:readline';
import { TailraceError } from '@tailrace/bpf';
import { kernel, PinsTakenError } from '@tailrace/kernel';
import { keptEdge } from './kept-edge.ts';

const [name = '', netns = ''] = process.argv.slice(2);
const { edge } = keptEdge(name);
const run = () => edge(process.pid).run(kernel({ interfaces: ['right'], netns }), { persist: true });
let running: Awaited<ReturnType<typeof run>> | undefined;
const say = (word: string): boolean => process.stdout.write(`${word}\n`);

say('ready');
for await (const line of createInterface({ input: process.stdin })) {
  const [order, round = ''] = line.split(' ');
  if (order === 'leave') {
    await running?.leave();
    running = undefined;
    say(`left ${round}`);
    continue;
  }
  try {
    running = await run();
    say(`runs ${round}`);
  } catch (error) {
    if (!(error instanceof TailraceError)) throw error;
    say(`refused ${round} ${error.code} ${error instanceof PinsTakenError ? error.pid : error.message}`);
  }
}
