/**
 * Chains of light stages over tail calls, in TypeScript and in C (twins/chain.c): as they are, fused, without counters, with
 * metadata that every stage reads and writes, with metadata that leave XDP for TC.
 */
import type { AttachHook, EngineInstance, MapSpec, ProgramSpec } from '@tailrace/bpf';
import {
  CB_BYTES,
  type Crossing,
  compileFused,
  compileRoot,
  compileStage,
  counterNames,
  type FusedPart,
  type ObservePlacement,
  type Placement,
  type StatePlacement,
} from '@tailrace/compiler';
import { type AnyStage, stage, u32 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { assemble, mapOf } from './assembly.ts';
import { clangMissing, compileTwin, twinProgram } from './clang.ts';
import { perCpuSum } from './contents.ts';
import { type Entrant, type Loaded, PathError } from './contest.ts';
import { chainKind, returnValue, verdictNumber } from './hook.ts';
import type { Variant } from './row.ts';

/** As many stages as a chain may have here; a kernel takes 33 tail calls, and the root makes the first. */
export const MAX_STAGES = 32;

/** Which chain. */
export interface LightChain {
  readonly hook: AttachHook;
  /** 1..MAX_STAGES. */
  readonly length: number;
  /** All stages are one program; in C they are inlined. */
  readonly fused?: boolean;
  /** Default true. */
  readonly counted?: boolean;
  /** Every stage takes a sum further that travels with the packet; the last one drops packets whose sum is wrong. */
  readonly metadata?: boolean;
  /** XDP, with metadata: packets that pass carry them on to TC. */
  readonly crossing?: boolean;
  /** What the last stage's edge leads to; default pass. As misses pass, drop proves without counters that a chain was gone through. */
  readonly end?: 'pass' | 'drop';
  /** Tells the ways of one packet in so many; there is no twin of it. */
  readonly trace?: number;
  /** Tells of each packet that is dropped; there is no twin of it. */
  readonly drops?: boolean;
  /** Beside its twin there are those that reach their stages by variable slots and by calls of functions. */
  readonly otherWays?: boolean;
}

/** What chains are measured with. */
export const lightFrame: Uint8Array = packet().ipv4().tcp({ dport: 80 }).padTo(64).bytes();

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

/** As `light`, and begins the sum: with the EtherType. */
const first = stage({
  name: 'first',
  hook: 'xdp',
  writes: { sum: u32 },
  program(ctx) {
    const ethernet = ctx.ethernet();
    if (!ethernet || ethernet.etherType === 0x88cc) return ctx.drop();
    ctx.meta.sum = ethernet.etherType;
    return ctx.next();
  },
});

/** As `light`, and adds to the sum. */
const middle = stage({
  name: 'middle',
  hook: 'xdp',
  reads: { sum: u32 },
  writes: { sum: u32 },
  program(ctx) {
    const ethernet = ctx.ethernet();
    if (!ethernet || ethernet.etherType === 0x88cc) return ctx.drop();
    ctx.meta.sum += 1;
    return ctx.next();
  },
});

/** As `middle`, and drops what has another sum than an IPv4 packet that came through three stages before. */
const last = stage({
  name: 'last',
  hook: 'xdp',
  reads: { sum: u32 },
  writes: { sum: u32 },
  program(ctx) {
    const ethernet = ctx.ethernet();
    if (!ethernet || ethernet.etherType === 0x88cc) return ctx.drop();
    ctx.meta.sum += 1;
    if (ctx.meta.sum !== 0x0803) return ctx.drop();
    return ctx.next();
  },
});

/** The chain length that `last` knows the sum of. */
export const METADATA_STAGES = 4;

/** Both sides of a chain. Throws PathError for a chain that cannot be. */
export function lightChain(chain: LightChain): readonly Entrant[] {
  const { length, metadata = false, crossing = false, counted = true } = chain;
  if (metadata && (length !== METADATA_STAGES || !counted))
    throw new PathError(`a chain with metadata has ${METADATA_STAGES} stages, counted`);
  if (crossing && (!metadata || chain.hook !== 'xdp')) throw new PathError('a chain whose metadata cross has some, at xdp');
  const programs = compiledChain(chain);
  const ours: Entrant = { variant: 'tailrace', load: (instance) => load(instance, programs, chain) };
  if (clangMissing() !== null || chain.trace !== undefined || chain.drops) return [ours];
  const twin = (variant: Variant, defines: Defines = {}): Entrant => {
    const programs = twinChain(chain, defines);
    return { variant, load: (instance) => load(instance, programs, chain) };
  };
  const others = chain.otherWays ? [twin('c-variable', { VARIABLE: 1 }), twin('c-calls', { CALLS: 1 })] : [];
  return [ours, twin('c-same'), ...others];
}

type Defines = Readonly<Record<string, number>>;

/** What every run of a chain returns for `lightFrame`. */
export function lightReturn({ hook, end = 'pass' }: LightChain): number {
  return returnValue(hook, end);
}

/** A root and its stages by slot. */
interface Programs {
  readonly root: ProgramSpec;
  readonly stages: readonly ProgramSpec[];
}

/** Offsets in the chain's state, as in twins/chain.c. */
const LENGTH_OFFSET = 0;
const MISSES_OFFSET = 8;
const SUM_OFFSET = 16;
const STAGES_OFFSET = 24;
/** Words of the state before the counters of the stages. */
export const SCRATCH_WORDS = STAGES_OFFSET / 8;

/** What traces and drops keep behind the counters. */
const OBSERVED_BYTES = 32;
/** Room for all records of a round. */
const RING_BYTES = 2 ** 26;

/** CROSSING_TAG in twins/chain.c. */
const crossingOfSum: Crossing = { tag: 0x6c69_6768, words: 1, fields: [{ name: 'sum', from: SUM_OFFSET, to: 0, size: 4 }] };

/** Bytes that metadata take in front of a packet that crosses. */
export const CROSSING_BYTES = 4 + 4 * crossingOfSum.words;

function compiledChain(chain: LightChain): Programs {
  const { hook, length, fused = false, counted = true, metadata = false, crossing = false, end = 'pass', trace, drops = false } = chain;
  const isXdp = hook === 'xdp';
  const common = {
    array: 'chain',
    exits: {},
    ...(metadata ? { metadata: { sum: { layout: u32.layout, offset: isXdp ? SUM_OFFSET : 0 } } } : {}),
    ...(crossing ? { crossing: crossingOfSum } : {}),
  };
  const parts = Array.from({ length }, (_, index): FusedPart => {
    const state: StatePlacement = { map: 'state', ...(isXdp ? { length: LENGTH_OFFSET } : {}), counters: countersOf(hook, index) };
    const on: Placement['next'] = fused ? { part: `light${index + 1}` } : { slot: index + 1 };
    const observe = trace === undefined && !drops ? {} : { observe: observed(chain, index) };
    const placement = { ...common, ...observe, next: index + 1 < length ? on : { verdict: end }, ...(counted ? { state } : {}) };
    return { name: `light${index}`, stage: stageOf(chain, index), placement };
  });
  const stages = fused
    ? [compileFused(parts as [FusedPart, ...FusedPart[]], { name: 'light' }).program]
    : parts.map(({ name, stage: one, placement }) => compileStage(one, { name, placement }).program);
  const [map, misses] = ['state', MISSES_OFFSET];
  if (trace !== undefined) stages.push(leadOf(hook, trace));
  const own = { name: 'root', array: 'chain', slot: trace === undefined ? 0 : stages.length - 1 };
  const root = isXdp
    ? compileRoot({ ...own, ...(counted ? { state: { map, misses, length: LENGTH_OFFSET } } : {}) })
    : compileRoot({ ...own, hook: 'tc', ...(counted ? { state: { map, misses } } : {}) });
  return { root, stages };
}

/** Marks packets in front of the first stage; it stands behind the last one's slot. */
function leadOf(hook: AttachHook, every: number): ProgramSpec {
  const state = { map: 'state', misses: MISSES_OFFSET, trace: { every, mark: markOf(hook), ...marking(hook) } };
  const own = { name: 'lead', array: 'chain', state };
  return hook === 'xdp' ? compileRoot(own) : compileRoot({ ...own, hook: 'tc' });
}

/** What a stage tells; its words stand behind the counters. */
function observed({ hook, trace, drops = false }: LightChain, place: number): ObservePlacement {
  const words = countersOf(hook, MAX_STAGES);
  const ring = (map: string, at: number) => ({ map, lost: words + at, headerBytes: 0 });
  return {
    place,
    ...(trace === undefined ? {} : { trace: { ...ring('trace', 0), mark: markOf(hook) } }),
    ...(drops ? { drops: { ...ring('drops', 8), every: 1, countdown: words + 28 } } : {}),
  };
}

const marking = (hook: AttachHook) => ({ countdown: countersOf(hook, MAX_STAGES) + 16, sequence: countersOf(hook, MAX_STAGES) + 20 });
const markOf = (hook: AttachHook): number => (hook === 'xdp' ? countersOf(hook, MAX_STAGES) + 24 : CB_BYTES - 4);

function stageOf({ hook, length, metadata = false }: LightChain, index: number): AnyStage {
  const body = !metadata ? light : index === 0 ? first : index + 1 < length ? middle : last;
  return hook === 'xdp' ? body : body.at(hook);
}

function twinChain(
  { hook, length, fused = false, counted = true, metadata = false, crossing = false, end = 'pass' }: LightChain,
  defines: Defines,
): Programs {
  const programs = compileTwin('chain', hook, {
    STAGES: length,
    END: verdictNumber(hook, end),
    ...(fused ? { FUSED: 1 } : {}),
    ...(counted ? {} : { UNCOUNTED: 1 }),
    ...(metadata ? { METADATA: 1 } : {}),
    ...(crossing ? { CROSSING: 1 } : {}),
    ...defines,
  });
  const stages = Array.from({ length: fused || defines.CALLS ? 1 : length }, (_, index) => twinProgram(programs, `stage${index}`));
  return { root: twinProgram(programs, 'root'), stages };
}

async function load(instance: EngineInstance, { root, stages }: Programs, { hook, length, counted = true }: LightChain): Promise<Loaded> {
  const assembled = await assemble(instance, { maps: mapsOf(hook), entry: root, slots: { array: 'chain', programs: stages } });
  return {
    entry: assembled.entry,
    insns: assembled.insns,
    maps: assembled.maps,
    verify(runs) {
      if (!counted) return;
      const state = mapOf(assembled, 'state').lookup(new Uint8Array(4));
      const names = counterNames(chainKind(hook), []);
      const counter = (index: number, name: string) =>
        perCpuSum(state, stateBytes(hook), countersOf(hook, index) + names.indexOf(name) * 8);
      const entered = counter(0, 'bytes') / BigInt(lightFrame.length);
      const ended = counter(length - 1, 'next');
      if (ended !== entered || ended < runs)
        throw new PathError(`${ended} of ${entered} packets reached the end of a chain of ${length}, expected all of ${runs} or more`);
    },
  };
}

function countersOf(hook: AttachHook, index: number): number {
  return STAGES_OFFSET + index * counterNames(chainKind(hook), []).length * 8;
}

function stateBytes(hook: AttachHook): number {
  return countersOf(hook, MAX_STAGES) + OBSERVED_BYTES;
}

function mapsOf(hook: AttachHook): ReadonlyMap<string, MapSpec> {
  return new Map<string, MapSpec>([
    ['state', { name: 'bench/state', type: 'perCpuArray', keySize: 4, valueSize: stateBytes(hook), maxEntries: 1, flags: 0 }],
    ['trace', { name: 'bench/trace', type: 'ringBuffer', keySize: 0, valueSize: 0, maxEntries: RING_BYTES, flags: 0 }],
    ['drops', { name: 'bench/drops', type: 'ringBuffer', keySize: 0, valueSize: 0, maxEntries: RING_BYTES, flags: 0 }],
    ['chain', { name: 'bench/chain', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: MAX_STAGES + 1, flags: 0 }],
  ]);
}
