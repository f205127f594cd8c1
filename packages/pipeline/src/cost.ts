/** What chains take, to weigh fused programs against tail calls. */
import type { ChainHook } from './chain-hook.ts';
import { isJump } from './fusion.ts';
import type { CompiledChain } from './generation.ts';
import { edgesOf, placeIn } from './graph.ts';
import type { PipelineBlueprint } from './live-pipeline.ts';

/** What a chain takes. Its root is not counted, but for the tail call that it makes. */
export interface ChainCost {
  readonly hook: ChainHook;
  readonly programs: number;
  /** Of all programs together. */
  readonly instructions: number;
  /** That one packet can meet at most, loops counted once: the longest way through each program, along the worst edges. */
  readonly longest: number;
  /** Bytes of stack, of the program that needs most. */
  readonly stackSize: number;
  /** That one packet can make at most, the root's included. */
  readonly tailCalls: number;
}

/** What the chains of a pipeline take, in the order in which packets meet them. */
export function costOf({ compiled: { chains } }: PipelineBlueprint): readonly ChainCost[] {
  return [...chains].map(([hook, chain]) => {
    const programs = [...chain.programs.values()].map(({ compiled }) => compiled);
    return {
      hook,
      programs: programs.length,
      instructions: programs.reduce((sum, { program }) => sum + program.instructions.length, 0),
      longest: longestFrom(chain, chain.plan.first, new Map()),
      stackSize: Math.max(...programs.map(({ stackSize }) => stackSize)),
      tailCalls: chain.plan.depth,
    };
  });
}

function longestFrom(chain: CompiledChain, entry: string, known: Map<string, number>): number {
  const before = known.get(entry);
  if (before !== undefined) return before;
  // a way back adds nothing
  known.set(entry, 0);
  const { places, programs } = chain.plan;
  const own = programs.get(entry) ?? [];
  const behind = own.flatMap((name) =>
    edgesOf(placeIn(places, name)).flatMap(({ to }) =>
      'place' in to && !isJump(programs, name, to) ? [longestFrom(chain, to.place, known)] : [],
    ),
  );
  const longest = (chain.programs.get(entry)?.compiled.longest ?? 0) + Math.max(0, ...behind);
  known.set(entry, longest);
  return longest;
}
