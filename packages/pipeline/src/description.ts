/** A chain as data, for pictures and reports. */
import { outcomeNamed } from '@tailrace/compiler';
import { mapsIn } from '@tailrace/stage';
import type { ChainHook } from './chain-hook.ts';
import { entryOf } from './fusion.ts';
import { edgesOf } from './graph.ts';
import type { PipelinePlan } from './pipeline-plan.ts';
import { type ChainPlan, edgeKey } from './plan.ts';

/** One edge of a chain. */
export interface EdgeDescription {
  /** `next`, or an exit's label. */
  readonly label: string;
  readonly kind: 'next' | 'exit';
  /** The stage that it leads to; absent where it ends the chain. */
  readonly to?: string;
  /** It leads to a stage that the packet has passed. */
  readonly back?: true;
  /** The verdict that it ends the chain with. */
  readonly verdict?: string;
  /** Its slot in the chain's program array; absent where it is a jump within a fused program too. */
  readonly slot?: number;
}

/** One place of a chain and the stage that stands there. */
export interface StageDescription {
  /** The place's name, as in stats. */
  readonly name: string;
  /** Name of the stage that stands there now: another one after a swap. */
  readonly stage: string;
  /** The network function that it belongs to. */
  readonly function?: string;
  /** Where it is fused: the place that its program begins at. */
  readonly program?: string;
  /** `next` first, where the stage goes on, then exits by label. */
  readonly edges: readonly EdgeDescription[];
  /** Why it drops or aborts packets, where it says so, sorted. */
  readonly reasons: readonly string[];
  /** Metadata. */
  readonly reads: readonly string[];
  readonly writes: readonly string[];
  /** Names of the maps that it uses, as declared. */
  readonly maps: readonly string[];
}

/** A chain. */
export interface ChainDescription {
  readonly hook: ChainHook;
  /** The stage that packets come to first. */
  readonly first: string;
  /** Along `next` first, then behind exits. */
  readonly stages: readonly StageDescription[];
  /** The most tail calls that one packet can take, the root's included. */
  readonly depth: number;
  /** Some edge leads back: the limit of tail calls ends what goes round for ever. */
  readonly loops?: true;
}

/** Describes a plan. */
export function describeChain(plan: ChainPlan): ChainDescription {
  const stages = [...plan.places.values()].map((place): StageDescription => {
    const { name, stage, owner } = place;
    const edges = edgesOf(place).map(({ label, to }): EdgeDescription => {
      const slot = plan.slots.get(edgeKey(name, label));
      const named = label === 'next' ? ({ kind: 'next', label } as const) : ({ kind: 'exit', label: label.slice('exit:'.length) } as const);
      return 'verdict' in to
        ? { ...named, verdict: to.verdict }
        : { ...named, to: to.place, ...(to.back ? { back: true } : {}), ...(slot === undefined ? {} : { slot }) };
    });
    return {
      name,
      stage: stage.name,
      ...(owner ? { function: owner.name } : {}),
      ...fusedIn(plan, name),
      edges,
      reasons: [...new Set(place.outcomes.reasons.flatMap((name) => outcomeNamed(name).reason ?? []))].sort(),
      reads: Object.keys(stage.reads),
      writes: Object.keys(stage.writes),
      maps: mapsIn(stage.uses).map((map) => map.name),
    };
  });
  return { hook: plan.hook, first: plan.first, stages, depth: plan.depth, ...(plan.loops ? { loops: true } : {}) };
}

function fusedIn({ programs }: ChainPlan, place: string): { readonly program?: string } {
  const program = entryOf(programs, place);
  return (programs.get(program)?.length ?? 0) > 1 ? { program } : {};
}

/** A pipeline. `L` holds the names of its stages by chain. */
export interface PipelineDescription<L> {
  readonly name: string;
  readonly chains: { readonly [K in keyof L]: ChainDescription };
  /** Metadata that TC ingress gets from XDP. */
  readonly crossing: readonly string[];
}

/** Describes the plan of a pipeline. */
export function describePipeline<L>(name: string, { chains, crossing }: PipelinePlan): PipelineDescription<L> {
  const described = Object.fromEntries([...chains].map(([hook, plan]) => [hook, describeChain(plan)]));
  return { name, chains: described as PipelineDescription<L>['chains'], crossing };
}
