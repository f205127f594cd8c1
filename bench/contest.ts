/**
 * A contest: programs that do the same work at one hook, test-run in turns over one packet. Each has an engine of its own,
 * in a namespace of its own; XDP programs are attached to that namespace's `lo` before they run, which spares them the RCU
 * waits of entering the kernel's dispatcher (TC has none). Time is the wall's around a whole run, because the kernel's own figure is whole
 * nanoseconds; that figure tells which runs were disturbed.
 */
import { setTimeout } from 'node:timers/promises';
import {
  type AttachHook,
  type EngineInstance,
  insn,
  type LoadedMap,
  type LoadedProgram,
  type ProgramSpec,
  TailraceError,
} from '@tailrace/bpf';
import { createNamespace, kernel } from '@tailrace/kernel';
import { programKind, verdictNumber } from './hook.ts';
import type { Effort, Row, Variant } from './row.ts';
import { summarise } from './statistics.ts';

/** One program in a contest. */
export interface Entrant {
  readonly variant: Variant;
  /** Makes maps, fills them, loads programs; all of it is closed with the instance. */
  load(instance: EngineInstance): Promise<Loaded>;
}

/** An entrant, ready to run. */
export interface Loaded {
  /** The program that is run. */
  readonly entry: LoadedProgram;
  /** Instruction slots of all programs that a packet may pass. */
  readonly insns: number;
  /** Its maps, by names that equal maps of all entrants share. */
  readonly maps: ReadonlyMap<string, LoadedMap>;
  /**
   * Checks by counters that all packets, `runs` or more, went the way that the contest is about. There are more where a
   * signal cut a run short and it began anew. Throws PathError where they did not.
   */
  verify(runs: number): void;
}

/** What is measured. */
export interface Contest {
  readonly suite: string;
  readonly name: string;
  /** Where all programs run. */
  readonly hook: AttachHook;
  readonly packet: Uint8Array;
  /** What every run must return. */
  readonly returnValue: number;
  readonly entrants: readonly Entrant[];
  /** Programs whose mean cost is taken off: what the harness itself costs. Default the empty program. */
  readonly floors?: readonly Floor[];
}

/** Loads a program that costs what the harness costs, for the contest's packet. */
export type Floor = (instance: EngineInstance) => Promise<LoadedProgram>;

/** A program went another way than the one that was to be measured. */
export class PathError extends TailraceError {
  constructor(message: string) {
    super('conflict', message);
  }
}

/** Measures all entrants of a contest: a row for each. Throws as `measureRounds` does. */
export async function measure(contest: Contest, effort: Effort): Promise<readonly Row[]> {
  const rounds = await measureRounds(contest, effort);
  return contest.entrants.map(({ variant }, index) => ({
    ...rowOf(
      contest,
      variant,
      rounds.map(({ net }) => net[index] ?? Number.NaN),
    ),
    insns: rounds[0]?.insns[index] ?? null,
  }));
}

/** A row of samples, in nanoseconds. */
export function rowOf({ suite, hook, name }: Pick<Contest, 'suite' | 'hook' | 'name'>, variant: Variant, samples: readonly number[]): Row {
  const { median, spread } = summarise(samples);
  return { suite, hook, name, variant, ns: median, ratio: null, spread, insns: null };
}

/**
 * Runs the rounds of a contest. Each loads all entrants anew: where the kernel puts code and data decides about a chain's
 * time (the same programs differ by half), and a ratio of two lucky places says nothing.
 * Throws PathError where a program does not do what is measured.
 */
export async function measureRounds(contest: Contest, { repeats, rounds, settleMs }: Effort): Promise<readonly RoundResult[]> {
  const measured: RoundResult[] = [];
  for (let index = 0; index < rounds; index++) {
    measured.push(await measureRound(contest, repeats, index));
    await setTimeout(settleMs);
  }
  return measured;
}

/** What one round found, entrant by entrant: nanoseconds net of the floors, and instructions. */
export interface RoundResult {
  readonly net: readonly number[];
  readonly insns: readonly number[];
}

async function measureRound(contest: Contest, repeats: number, index: number): Promise<RoundResult> {
  await using stack = new AsyncDisposableStack();
  const enter = async <T extends { readonly entry: LoadedProgram }>(load: (instance: EngineInstance) => Promise<T>) => {
    const instance = stack.use(await openMachine());
    const loaded = await load(instance);
    if (contest.hook === 'xdp') await instance.attach(loaded.entry, contest.hook);
    return loaded;
  };
  const floors: { readonly entry: LoadedProgram }[] = [];
  for (const load of contest.floors ?? [emptyProgram(contest.hook)])
    floors.push(await enter(async (instance) => ({ entry: await load(instance) })));
  const entrants: Loaded[] = [];
  for (const { load } of contest.entrants) entrants.push(await enter(load));

  const times = new Map<LoadedProgram, number>();
  for (const { entry } of rotated([...floors, ...entrants], index)) {
    const expected = entrants.some((loaded) => loaded.entry === entry) ? contest.returnValue : undefined;
    // Warms caches and branch predictors, and makes the state that a known flow has.
    await timeRun(entry, contest, Math.ceil(repeats / 4), expected);
    times.set(entry, await timeRun(entry, contest, repeats, expected));
  }
  for (const { verify } of entrants) verify(repeats);

  const time = ({ entry }: { readonly entry: LoadedProgram }) => times.get(entry) ?? Number.NaN;
  const floor = floors.reduce((sum, one) => sum + time(one), 0) / floors.length;
  return { net: entrants.map((one) => time(one) - floor), insns: entrants.map(({ insns }) => insns) };
}

/** An engine in a private namespace whose only interface is `lo`; both are gone once it is closed. */
export async function openMachine(): Promise<EngineInstance> {
  using namespace = createNamespace();
  return await kernel({ interfaces: ['lo'], netns: namespace }).open();
}

/** A program of the bench's own for a hook, without maps unless named. */
export function programSpec(
  hook: AttachHook,
  name: string,
  instructions: ProgramSpec['instructions'],
  mapReferences: ProgramSpec['mapReferences'] = [],
): ProgramSpec {
  return {
    name,
    ...programKind(hook),
    license: 'Dual MIT/GPL',
    instructions,
    mapReferences,
    functions: [{ pc: 0, name: 'main' }],
    lines: [],
  };
}

/** The floor of all floors: passes. */
export function emptyProgram(hook: AttachHook): Floor {
  const empty = programSpec(hook, 'empty', [insn.mov32(0, verdictNumber(hook, 'pass')), insn.exit()]);
  return (instance) => instance.loadProgram(empty, new Map());
}

/** Nanoseconds for each packet, of a run that nothing disturbed. */
async function timeRun(program: LoadedProgram, { packet }: Contest, repeat: number, expected: number | undefined): Promise<number> {
  let ns = 0;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const start = process.hrtime.bigint();
    const { returnValue, durationNs } = await program.testRun({ packet, repeat });
    ns = Number(process.hrtime.bigint() - start) / repeat;
    if (expected !== undefined && returnValue !== expected)
      throw new PathError(`program ${program.spec.name} returned ${returnValue}, expected ${expected}`);
    // The kernel's figure is rounded down and leaves out the times when it let others run. A run that took longer was
    // one in which they did, or one that a signal cut short and that began anew.
    if (ns < durationNs * 1.02 + 1 + OVERHEAD_NS / repeat) return ns;
  }
  return ns;
}

/** Runs that may be disturbed before one is taken as it is: the median forgives some. */
const ATTEMPTS = 10;

/** What a test run may cost beside its packets: the system call, a copy in and out. */
const OVERHEAD_NS = 500_000;

/** The same list, begun elsewhere each time, so that nobody always runs behind the same neighbour. */
export function rotated<T>(list: readonly T[], by: number): readonly T[] {
  const start = (by + list.length) % list.length;
  return [...list.slice(start), ...list.slice(0, start)];
}
