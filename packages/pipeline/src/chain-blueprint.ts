/** What a chain is before any engine has it: its programs, the root, and the maps that they need. */
import type { MapSpec, ProgramSpec } from '@tailrace/bpf';
import { mapsIn } from '@tailrace/stage';
import { type ChainHook, isPacketHook } from './chain-hook.ts';
import { type CompiledChain, reference } from './generation.ts';
import type { ChainPlan } from './plan.ts';
import type { MapClaim } from './registry.ts';
import type { StageCompiler } from './service.ts';
import { LENGTH_OFFSET, MISSES_OFFSET } from './state.ts';

/** A chain that is planned and compiled: everything that needs no engine. */
export interface ChainBlueprint {
  readonly hook: ChainHook;
  /** First part of the names of the chain's own maps, e.g. `edge/xdp`. */
  readonly name: string;
  readonly compiled: CompiledChain;
  readonly root: ProgramSpec;
}

/** The root of a chain: a small stable program that is attached. */
export function rootOf(compiler: StageCompiler, hook: ChainHook, name: string): ProgramSpec {
  const array = reference.entry;
  const state = { map: reference.state, misses: MISSES_OFFSET };
  if (!isPacketHook(hook)) return compiler.compileRoot({ hook, name, array, state });
  if (hook === 'xdp') return compiler.compileRoot({ name, array, state: { ...state, length: LENGTH_OFFSET } });
  return compiler.compileRoot({ hook: 'tc', name, array, state });
}

/** The array whose one slot a root jumps through; `name` is the chain's, e.g. `edge/xdp`. */
export function entrySpec(name: string): MapSpec {
  return { name: `${name}.entry`, type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 };
}

/** The maps that a plan's stages use. Those of a function are scoped by its name, all others by the pipeline's. */
export function claimsOf(plan: ChainPlan, pipeline: string): readonly MapClaim[] {
  return [...plan.places.values()].flatMap(({ name, owner, stage }) => {
    const scope = owner === undefined ? pipeline : name.slice(0, name.lastIndexOf('.'));
    return mapsIn(stage.uses).map((map) => ({ map, scope, user: owner === undefined ? name : scope }));
  });
}
