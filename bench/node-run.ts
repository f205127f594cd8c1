/** What runs in Node, measured by benchmark.js: it repeats a function until its samples are long enough for the clock. */

import { TailraceError } from '@tailrace/bpf';
import Benchmark from 'benchmark';
import type { Effort, Row } from './row.ts';
import { summarise } from './statistics.ts';

/** A function to measure. */
export interface Task {
  readonly suite: string;
  readonly name: string;
  /** Does the work once. */
  readonly work: () => unknown;
  /** Operations in one call, by which its time is divided; default 1. */
  readonly operations?: number;
}

/** Measures a task: nanoseconds an operation. Throws what the task throws. */
export function measureTask({ suite, name, work, operations = 1 }: Task, effort: Effort): Row {
  // benchmark.js keeps errors to itself, so that the first one is looked for here.
  work();
  const benchmark = new Benchmark(name, work, { maxTime: effort.seconds, minSamples: effort.rounds });
  benchmark.run({ async: false });
  if (benchmark.error !== undefined)
    throw new TailraceError('argument', `${suite} ${name} failed while it was measured`, { cause: benchmark.error });
  const { median, spread } = summarise(benchmark.stats.sample.map((seconds) => (seconds * 1e9) / operations));
  return { suite, hook: null, name, variant: 'tailrace', ns: median, ratio: null, spread, insns: null };
}
