/**
 * How the chains of a running pipeline get to another plan: which of them change and by what, where counters and metadata come
 * to lie, and how packets that are between XDP and TC ingress meanwhile stay with the chains that they began with. Planned and
 * compiled, and not loaded.
 */
import type { ProgramSpec } from '@tailrace/bpf';
import type { CompiledStage, Crossing } from '@tailrace/compiler';
import { type ChainHook, isPacketHook } from './chain-hook.ts';
import { crossingOf } from './crossing.ts';
import { type CompiledChain, compileChain, reference } from './generation.ts';
import type { Observation } from './observation.ts';
import type { PipelinePlan } from './pipeline-plan.ts';
import { type ChainPlan, type Change, changeOf, checkDepth } from './plan.ts';
import { CANARY_EXIT, type CanaryTraffic, selectorAt } from './selector.ts';
import type { StageCompiler } from './service.ts';
import { type LayoutOptions, LENGTH_OFFSET, layoutState, MISSES_OFFSET, type StateLayout } from './state.ts';

/** The chains of a pipeline as they are compiled, and what has to do with them all. */
export interface CompiledPipeline {
  /** The pipeline's. */
  readonly name: string;
  readonly chains: ReadonlyMap<ChainHook, CompiledChain>;
  /** What it tells of packets. */
  readonly observation: Observation;
  /** Fields that TC ingress gets from XDP, and how. */
  readonly crossing: { readonly version: number; readonly names: readonly string[]; readonly way: Crossing | undefined };
}

/** The plan that it was compiled from. */
export function planOf({ chains, crossing }: CompiledPipeline): PipelinePlan {
  return { chains: new Map([...chains].map(([hook, { plan }]) => [hook, plan])), crossing: crossing.names };
}

/** What becomes of one chain. */
export interface ChainChange {
  readonly change: Change;
  readonly compiled: CompiledChain;
  /** Stands between the root and both chains while packets of both are under way. */
  readonly front: Pick<CompiledStage, 'program' | 'maps'> | undefined;
}

/** What becomes of a pipeline. */
export interface PipelineChange {
  readonly compiled: CompiledPipeline;
  /** In the order in which packets meet them. */
  readonly chains: ReadonlyMap<ChainHook, ChainChange>;
}

/** What is compiled for a change beside the plan. */
export interface ChangeOptions {
  /** Packets go to the old chains and the new ones for a while, as it says: every chain that differs gets a front. */
  readonly canary?: CanaryTraffic | undefined;
  /** What it tells of packets from then on; default what it tells of them now. */
  readonly observation?: Observation;
  /** Every chain that differs is built anew, so that what its root leads to tells whether packets were led over. */
  readonly anew?: boolean;
}

/** Slots of the array in front of two chains. */
export const frontSlot = { old: 0, new: 1 } as const;

/** Compiles a plan, all of it. Throws CompileError, and ChainError where there is no room. */
export function compilePipeline(compiler: StageCompiler, name: string, plan: PipelinePlan, observation: Observation): CompiledPipeline {
  const states = new Map([...plan.chains].map(([hook, chain]) => [hook, layoutState(chain, layoutFor(hook, plan, observation))]));
  const way = crossingOf({ pipeline: name, version: 0 }, plan.crossing, states.get('xdp'), states.get('tcIngress'));
  const chains = [...plan.chains].map(([hook, chain]) => {
    return [hook, compileChain(compiler, chain, states.get(hook) as StateLayout, { pipeline: name, crossing: way, observation })] as const;
  });
  return { name, chains: new Map(chains), observation, crossing: { version: 0, names: plan.crossing, way } };
}

/**
 * Tells how to get from what runs to `plan`, which has the same hooks. Where metadata cross, XDP and TC ingress change together:
 * behind the new XDP chain comes the new one at TC ingress, behind the old the old. Throws CompileError and ChainError.
 */
export function planChange(
  compiler: StageCompiler,
  from: CompiledPipeline,
  plan: PipelinePlan,
  { canary, observation = from.observation, anew = canary !== undefined }: ChangeOptions = {},
): PipelineChange {
  const { name } = from;
  const tellsOtherwise = (hook: ChainHook): boolean =>
    observation !== from.observation && (isPacketHook(hook) || observation.counters !== from.observation.counters);
  const before = (hook: ChainHook): CompiledChain => from.chains.get(hook) as CompiledChain;
  const countsApart = canary !== undefined;
  const changes = new Map(
    [...plan.chains].map(([hook, chain]): readonly [ChainHook, Change] => {
      const change = changeOf(before(hook).plan, chain);
      const isWhole = tellsOtherwise(hook) || (anew && change.kind !== 'none');
      return [hook, isWhole ? { kind: 'generation', plan: chain } : change];
    }),
  );
  const layouts = (): ReadonlyMap<ChainHook, StateLayout> =>
    new Map(
      [...changes].map(([hook, { kind, plan: chain }]) => {
        const { state: previous } = before(hook);
        return [
          hook,
          kind === 'none'
            ? previous
            : layoutState(chain, { ...layoutFor(hook, plan, observation), previous, apart: kind === 'generation', countsApart }),
        ];
      }),
    );
  let states = layouts();
  let { version } = from.crossing;
  const crossing = (): Crossing | undefined =>
    crossingOf({ pipeline: name, version }, plan.crossing, states.get('xdp'), states.get('tcIngress'));
  let way = crossing();
  const isSame = JSON.stringify(way) === JSON.stringify(from.crossing.way);
  const bothChange = joined.every((hook) => (changes.get(hook)?.kind ?? 'none') !== 'none');
  const together = !isSame || (bothChange && way !== undefined);
  if (together) {
    for (const hook of joined) changes.set(hook, { kind: 'generation', plan: plan.chains.get(hook) as ChainPlan });
    states = layouts();
    // two take turns: a program that was compiled for one of them can come back
    version = (version + 1) % 2;
    way = crossing();
    if (way !== undefined && way.tag === from.crossing.way?.tag) way = { ...way, tag: ~way.tag >>> 0 };
  }
  const chains = new Map(
    [...changes].map(([hook, change]): readonly [ChainHook, ChainChange] => {
      const options = { pipeline: name, crossing: way, observation, before: before(hook) };
      const compiled = compileChain(compiler, change.plan, states.get(hook) as StateLayout, options);
      const sorts = together && hook === 'tcIngress';
      const selects = canary !== undefined && change.kind !== 'none' && !sorts;
      if (sorts || selects) checkFront(before(hook), compiled);
      const gate = sorts ? gateOf(compiler, from.crossing.way, way) : undefined;
      const front = selects ? selectorOf(compiler, hook, canary) : gate && { program: gate, maps: new Map() };
      return [hook, { change, compiled, front }];
    }),
  );
  const compiled = new Map([...chains].map(([hook, chain]) => [hook, chain.compiled]));
  return { compiled: { name, chains: compiled, observation, crossing: { version, names: plan.crossing, way } }, chains };
}

/** The chains that metadata go between. */
const joined: readonly ChainHook[] = ['xdp', 'tcIngress'];

function layoutFor(hook: ChainHook, { crossing }: PipelinePlan, observation: Observation): LayoutOptions {
  return hook === 'tcIngress' ? { crossing, observation } : { observation };
}

/** Throws ChainError where a front is one tail call too many. */
function checkFront(...chains: readonly CompiledChain[]): void {
  for (const { plan, lead } of chains) checkDepth(plan, lead ? 2 : 1);
}

/** Leads packets on as a selector says. */
function selectorOf(compiler: StageCompiler, hook: ChainHook, canary: CanaryTraffic): CompiledStage {
  const selector = selectorAt(hook, canary);
  const others = compiler.outcomesOf(selector).exits.filter((label) => label !== CANARY_EXIT);
  const stays = { slot: frontSlot.old };
  const exits = { ...Object.fromEntries(others.map((label) => [label, stays])), [CANARY_EXIT]: { slot: frontSlot.new } };
  const state = { map: reference.state, ...(hook === 'xdp' ? { length: LENGTH_OFFSET } : {}) };
  return compiler.compileStage(selector, { name: 'canary', placement: { array: reference.front, next: stays, exits, state } });
}

/** Leads packets on by what XDP put in front of them. */
function gateOf(compiler: StageCompiler, old: Crossing | undefined, now: Crossing | undefined): ProgramSpec {
  const state = { map: reference.state, misses: MISSES_OFFSET };
  const sorted = now
    ? { slot: frontSlot.old, tagged: { tag: now.tag, slot: frontSlot.new } }
    : { slot: frontSlot.new, tagged: { tag: (old as Crossing).tag, slot: frontSlot.old } };
  return compiler.compileRoot({ hook: 'tc', name: 'gate', array: reference.front, state, ...sorted });
}
