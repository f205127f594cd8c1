/** Chains of 1 to 32 light stages: what a hop costs, beside the same chain in C. */
import type { EngineInstance, MapSpec, ProgramSpec } from '@tailrace/bpf';
import { compileRoot, compileStage, counterNames } from '@tailrace/compiler';
import { stage } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { HOP } from '../aims.ts';
import { assemble, mapOf } from '../assembly.ts';
import { clangMissing, compileTwin, twinProgram } from '../clang.ts';
import { perCpuSum } from '../contents.ts';
import { type Entrant, type Loaded, measure, PathError } from '../contest.ts';
import { type Row, type Suite, type Variant, withRatios } from '../row.ts';
import { slope } from '../statistics.ts';

/** Lengths of chains; a kernel takes 33 tail calls, and the root makes the first. */
export const LENGTHS = [1, 2, 4, 8, 16, 32] as const;

const MAX_STAGES = 32;
const COUNTERS = counterNames('xdp', []);
const LENGTH_OFFSET = 0;
const MISSES_OFFSET = 8;
const STAGES_OFFSET = 16;

/** Checks that there is an Ethernet header, drops LLDP, goes on. Its twin is `light` in twins/chain.c. */
export const light = stage({
  name: 'light',
  hook: 'xdp',
  program(ctx) {
    const ethernet = ctx.ethernet();
    if (!ethernet || ethernet.etherType === 0x88cc) return ctx.drop();
    return ctx.next();
  },
});

/** The suite. */
export const chain: Suite = {
  name: 'chain',
  about: 'light stages (a bounds check, counters) over tail calls, ns a packet',
  cases: [...LENGTHS.map(caseName), HOP],
  async run(effort, wanted) {
    const lengths = LENGTHS.filter((length) => wanted(caseName(length)) || wanted(HOP));
    const rows: Row[] = [];
    for (const length of lengths)
      rows.push(
        ...(await measure({ suite: 'chain', name: caseName(length), packet: frame, returnValue: 2, entrants: entrants(length) }, effort)),
      );
    const reason = clangMissing();
    return { rows: withRatios([...rows, ...hops(rows)]), notes: reason === null ? [] : [reason] };
  },
};

/** Both sides of a chain of that length. */
export function entrants(length: number): readonly Entrant[] {
  const ours: Entrant = { variant: 'tailrace', load: (instance) => load(instance, compiledChain(length), length) };
  const twin: Entrant = { variant: 'c-same', load: (instance) => load(instance, twinChain(length), length) };
  return clangMissing() === null ? [ours, twin] : [ours];
}

/** A root and its stages by slot. */
interface Chain {
  readonly root: ProgramSpec;
  readonly stages: readonly ProgramSpec[];
}

/** The chain in TypeScript. */
export function compiledChain(length: number): Chain {
  const stages = Array.from({ length }, (_, index) => {
    const state = { map: 'state', length: LENGTH_OFFSET, counters: STAGES_OFFSET + index * COUNTERS.length * 8 };
    const next = index + 1 < length ? ({ slot: index + 1 } as const) : ({ verdict: 'pass' } as const);
    return compileStage(light.as(`light${index}`), { placement: { array: 'chain', next, exits: {}, state } }).program;
  });
  return {
    root: compileRoot({ name: 'root', array: 'chain', state: { map: 'state', length: LENGTH_OFFSET, misses: MISSES_OFFSET } }),
    stages,
  };
}

/** The chain in C. */
export function twinChain(length: number): Chain {
  const programs = compileTwin('chain', { STAGES: length });
  const stages = Array.from({ length }, (_, index) => twinProgram(programs, `stage${index}`));
  return { root: twinProgram(programs, 'root'), stages };
}

async function load(instance: EngineInstance, { root, stages }: Chain, length: number): Promise<Loaded> {
  const assembled = await assemble(instance, { maps, entry: root, slots: { array: 'chain', programs: stages } });
  return {
    entry: assembled.entry,
    insns: assembled.insns,
    maps: assembled.maps,
    verify(runs) {
      const state = mapOf(assembled, 'state').lookup(new Uint8Array(4));
      const counter = (index: number, name: string) =>
        perCpuSum(state, stateBytes, STAGES_OFFSET + (index * COUNTERS.length + COUNTERS.indexOf(name)) * 8);
      const entered = counter(0, 'bytes') / BigInt(frame.length);
      const ended = counter(length - 1, 'next');
      if (ended !== entered || ended < runs)
        throw new PathError(`${ended} of ${entered} packets reached the end of a chain of ${length}, expected all of ${runs} or more`);
    },
  };
}

const stateBytes = STAGES_OFFSET + MAX_STAGES * COUNTERS.length * 8;

const maps: ReadonlyMap<string, MapSpec> = new Map<string, MapSpec>([
  ['state', { name: 'bench/state', type: 'perCpuArray', keySize: 4, valueSize: stateBytes, maxEntries: 1, flags: 0 }],
  ['chain', { name: 'bench/chain', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: MAX_STAGES, flags: 0 }],
]);

const frame = packet().ipv4().tcp({ dport: 80 }).padTo(64).bytes();

/** What one more stage costs, by the least-squares line through all lengths. */
function hops(rows: readonly Row[]): readonly Row[] {
  const variants: readonly Variant[] = ['tailrace', 'c-same'];
  return variants.flatMap((variant) => {
    const own = rows.filter((row) => row.variant === variant);
    if (own.length < 2) return [];
    const points = own.map((row) => [Number.parseInt(row.name, 10), row.ns] as const);
    const spread = Math.max(...own.map((row) => row.spread)) / (Math.max(...LENGTHS) - Math.min(...LENGTHS));
    return [{ suite: 'chain', name: HOP, variant, ns: slope(points), ratio: null, spread, insns: null }];
  });
}

function caseName(length: number): string {
  return length === 1 ? '1 stage' : `${length} stages`;
}
