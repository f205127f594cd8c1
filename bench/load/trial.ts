/** The same load on several servers in turns, round by round: rows of latency, throughput, CPU time and new connections. */
import { rotated } from '../contest.ts';
import type { Effort, Row, Variant } from '../row.ts';
import { summarise } from '../statistics.ts';
import { cpuOfMachine, cpuOfProcess } from './cpu.ts';
import type { BulkResult, Generator, Target } from './generator.ts';

/** What is measured. */
export interface Contestant extends Target {
  readonly variant: Variant;
  /** The process in between, where there is one. */
  readonly pid?: number;
  /** It is good for round trips only. */
  readonly onlyRoundTrips?: boolean;
}

/** What a connection carries that is not as fast as it can be. */
const STEADY_MB = 200;

/** Names of rows. */
export const rowName = {
  roundTrip: (connections: number, figure: 'p50' | 'p99') => `round trip of 64 bytes, ${plural(connections)}: ${figure}`,
  bulk: (connections: number) => `bulk, ${plural(connections)}, a KB`,
  proxy: (connections: number) => `bulk, ${plural(connections)}, a KB: CPU of the proxy`,
  machine: (connections: number) => `bulk, ${plural(connections)}, a KB: CPU of the machine`,
  answered: (connections: number) => `a MiB and an answer, ${plural(connections)}, a KB`,
  steady: (cost: 'CPU of the proxy' | 'CPU of the machine') => `${STEADY_MB} MB/s on 1 connection, a KB: ${cost}`,
  connect: 'a connection for one byte there and back',
} as const;

function plural(connections: number): string {
  return connections === 1 ? '1 connection' : `${connections} connections`;
}

/** One load, and the rows that come of it. */
interface Load {
  readonly names: readonly string[];
  readonly isRoundTrip?: boolean;
  /** A figure for each name, ns; NaN where it has none. */
  run(generator: Generator, target: Contestant, ms: number): Promise<readonly number[]>;
}

const LOADS: readonly Load[] = [ping(1), ping(64), bulk(1), bulk(8), answered(1), steady(), connections()];

/** The names of all rows. */
export const TRIAL_ROWS: readonly string[] = LOADS.flatMap(({ names }) => names);

/** ms of one load, at the effort of a second. */
const LOAD_MS = 600;
const LEAST_MS = 50;

/** Measures those rows that are wanted. Ratios are taken within rounds. Throws TailraceError where a load fails. */
export async function runTrial(
  suite: string,
  generator: Generator,
  contestants: readonly Contestant[],
  { rounds, seconds }: Effort,
  wanted: (name: string) => boolean,
): Promise<readonly Row[]> {
  const loads = LOADS.filter(({ names }) => names.some(wanted));
  const samples = new Map(contestants.map(({ variant }) => [variant, new Map<string, number[]>()]));
  for (let round = 0; round < rounds; round++)
    for (const load of loads)
      for (const contestant of rotated(contestants, round)) {
        if (contestant.onlyRoundTrips && !load.isRoundTrip) continue;
        const figures = await load.run(generator, contestant, Math.max(LEAST_MS, LOAD_MS * seconds));
        const own = samples.get(contestant.variant);
        for (const [index, name] of load.names.entries()) own?.set(name, [...(own.get(name) ?? []), figures[index] ?? Number.NaN]);
      }
  const ours = samples.get('tailrace');
  return loads
    .flatMap(({ names }) => names)
    .filter(wanted)
    .flatMap((name) =>
      contestants.flatMap(({ variant }) => {
        const own = samples.get(variant)?.get(name) ?? [];
        return own.length === 0 || own.some(Number.isNaN)
          ? []
          : [rowOf(suite, name, variant, own, variant === 'tailrace' ? undefined : ours?.get(name))];
      }),
    );
}

function rowOf(suite: string, name: string, variant: Variant, samples: readonly number[], ours: readonly number[] | undefined): Row {
  const { median, spread } = summarise(samples);
  const row: Row = { suite, hook: null, name, variant, ns: median, ratio: null, spread, insns: null };
  const ratios = ours?.flatMap((ns, round) => (samples[round] ? [ns / samples[round]] : [])) ?? [];
  if (ratios.length === 0) return row;
  const ratio = summarise(ratios);
  return { ...row, ratio: ratio.median, ratioSpread: ratio.spread };
}

function ping(connections: number): Load {
  return {
    names: [rowName.roundTrip(connections, 'p50'), rowName.roundTrip(connections, 'p99')],
    isRoundTrip: true,
    async run(generator, target, ms) {
      const { p50, p99 } = await generator.ping(target, connections, ms);
      return [p50, p99];
    },
  };
}

function bulk(connections: number): Load {
  return {
    names: [rowName.bulk(connections), rowName.proxy(connections), rowName.machine(connections)],
    async run(generator, target, ms) {
      return costs(target, () => generator.bulk(target, connections, ms));
    },
  };
}

function answered(connections: number): Load {
  return {
    names: [rowName.answered(connections)],
    async run(generator, target, ms) {
      const { bytes, ns } = await generator.answered(target, connections, ms);
      return [(ns / bytes) * 1000];
    },
  };
}

function steady(): Load {
  return {
    names: [rowName.steady('CPU of the proxy'), rowName.steady('CPU of the machine')],
    async run(generator, target, ms) {
      return (await costs(target, () => generator.steady(target, STEADY_MB, ms))).slice(1);
    },
  };
}

/** ns a KB: that go by, of the proxy's CPU time, and of the machine's. */
async function costs(target: Contestant, send: () => Promise<BulkResult>): Promise<readonly number[]> {
  const proxy = () => (target.pid === undefined ? Number.NaN : cpuOfProcess(target.pid));
  const before = [proxy(), cpuOfMachine()] as const;
  const { bytes, ns } = await send();
  const after = [proxy(), cpuOfMachine()] as const;
  return [ns, after[0] - before[0], after[1] - before[1]].map((time) => (time / bytes) * 1000);
}

function connections(): Load {
  return {
    names: [rowName.connect],
    async run(generator, target, ms) {
      const { count, ns } = await generator.connect(target, ms);
      return [ns / count];
    },
  };
}
