/**
 * The same programs on both engines: test-run in turns, in this process, over one packet. Userspace has no harness that would
 * be taken off but its own empty program; the kernel's time is net of its empty program, as everywhere in the bench.
 */
import { setTimeout } from 'node:timers/promises';
import type { EngineInstance, LoadedProgram } from '@tailrace/bpf';
import { userspace } from '@tailrace/userspace';
import { emptyProgram, type Floor, type Loaded, openMachine, PathError, rotated, rowOf } from './contest.ts';
import type { Effort, Row, Variant } from './row.ts';

/** An engine that takes part. */
export interface Runner {
  readonly variant: Variant;
  readonly open: () => Promise<EngineInstance>;
  /** Its share of the packets of a round. */
  readonly share: number;
  /** Whether programs are attached first, which spares the kernel its waits. */
  readonly attaches: boolean;
}

/** Ours, the reference, and the kernel's JIT. */
export const RUNNERS: readonly Runner[] = [
  { variant: 'tailrace', open: () => userspace().open(), share: 1, attaches: false },
  { variant: 'interpreter', open: () => userspace({ mode: 'interpreter' }).open(), share: 1 / 500, attaches: false },
  { variant: 'kernel', open: openMachine, share: 1, attaches: true },
];

/** What is measured on every engine. */
export interface EngineContest {
  readonly name: string;
  readonly packet: Uint8Array;
  /** What every run must return. */
  readonly returnValue: number;
  readonly load: (instance: EngineInstance) => Promise<Loaded>;
  /** Programs whose mean cost is taken off; default the empty program. */
  readonly floors?: readonly Floor[];
}

/** Measures a contest: a row for each engine, ns a packet. Throws PathError where packets went another way. */
export async function measureEngines(contest: EngineContest, runners: readonly Runner[], effort: Effort): Promise<readonly Row[]> {
  const samples = new Map(runners.map(({ variant }) => [variant, [] as number[]]));
  let insns: number | null = null;
  for (let round = 0; round < effort.rounds; round++) {
    for (const runner of rotated(runners, round)) {
      const repeats = Math.max(64, Math.round(effort.repeats * runner.share));
      await using stack = new AsyncDisposableStack();
      const loaded = await enter(stack, runner, contest.load);
      const floors = await Promise.all(
        (contest.floors ?? [emptyProgram('xdp')]).map((floor) =>
          enter(stack, runner, async (instance) => ({ entry: await floor(instance) })),
        ),
      );
      await timeRun(loaded.entry, contest, Math.ceil(repeats / 4), contest.returnValue);
      const gross = await timeRun(loaded.entry, contest, repeats, contest.returnValue);
      loaded.verify(repeats);
      let floor = 0;
      for (const { entry } of floors) {
        await timeRun(entry, contest, Math.ceil(repeats / 4));
        floor += (await timeRun(entry, contest, repeats)) / floors.length;
      }
      samples.get(runner.variant)?.push(gross - floor);
      insns = loaded.insns;
    }
    await setTimeout(effort.settleMs);
  }
  return runners.map(({ variant }) => ({
    ...rowOf({ suite: 'userspace', hook: 'xdp', name: contest.name }, variant, samples.get(variant) ?? []),
    insns,
  }));
}

async function enter<T extends { readonly entry: LoadedProgram }>(
  stack: AsyncDisposableStack,
  { open, attaches }: Runner,
  load: (instance: EngineInstance) => Promise<T>,
): Promise<T> {
  const instance = stack.use(await open());
  const loaded = await load(instance);
  if (attaches) await instance.attach(loaded.entry, 'xdp');
  return loaded;
}

async function timeRun(program: LoadedProgram, { packet }: EngineContest, repeat: number, expected?: number): Promise<number> {
  const start = process.hrtime.bigint();
  const { returnValue } = await program.testRun({ packet, repeat });
  const ns = Number(process.hrtime.bigint() - start) / repeat;
  if (expected !== undefined && returnValue !== expected)
    throw new PathError(`program ${program.spec.name} returned ${returnValue}, expected ${expected}`);
  return ns;
}
