/**
 * node packages/testing/src/stress.ts [--updates N]: a pipeline becomes another one N times, default 10,000, while numbered datagrams
 * cross its three hooks on a veth pair; tells what was lost, missed or met two generations, and fails where anything was. Needs root.
 */
import { parseArgs } from 'node:util';
import { ArgumentError, TailraceError } from '@tailrace/bpf';
import { stressUpdates } from './update-stress.ts';

/** Updates between two lines. */
const STEP = 500;

try {
  await main();
} catch (error) {
  if (!(error instanceof TailraceError)) throw error;
  process.stderr.write(`${error.message}\n${error.hint === undefined ? '' : `${error.hint}\n`}`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  const updates = updatesOf();
  const start = performance.now();
  const report = await stressUpdates(updates, (done) => {
    if (done % STEP === 0 && done < updates) process.stdout.write(`${done} updates\n`);
  });
  const { packets, lost, missed, mixed, met } = report;
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  process.stdout.write(`${updates} updates, ${packets} datagrams in ${seconds} s: ${lost} lost, ${missed} missed, ${mixed} mixed\n`);
  process.stdout.write(`datagrams by generation: ${met.join(', ')}\n`);
  if (lost + missed + mixed > 0) process.exitCode = 1;
}

function updatesOf(): number {
  const { updates = '10000' } = parsed();
  const count = Number(updates);
  if (Number.isInteger(count) && count > 0) return count;
  throw new ArgumentError(`--updates is ${updates}, expected a number above 0`);
}

function parsed() {
  try {
    return parseArgs({ options: { updates: { type: 'string' } } }).values;
  } catch (cause) {
    throw new ArgumentError((cause as Error).message.toLowerCase(), { cause });
  }
}
