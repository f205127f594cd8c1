/** Network functions: stages for one or several hooks, and the controller that fills their maps, as one value. */
import { ArgumentError } from '@tailrace/bpf';
import type { ContainerModule } from 'inversify';
import { type ChainHooks, type ChainKey, chainKeys, type Hook, hookFits } from './hook.ts';
import type { AnyFunction, AnyParts, AnyStage, AnyTarget, ChainMember, ControllerRecipe, FunctionStages, Part, Target } from './member.ts';
import type { Checked, Empty, parts, phantom } from './resource.ts';
import type { Stage, Uses } from './stage.ts';
import { checkStageName } from './stage-value.ts';
import type { Given, Need } from './token.ts';
import type { AnyTraits, Read, ReadsOf, Trait, TraitsOf, WritesOf } from './traits.ts';
import {
  type CheckHook,
  type CheckTargets,
  checkWiring,
  type ExitsOf,
  membersIn,
  type NamesOf,
  type NoExit,
  type Wired,
} from './wiring.ts';

/** Stages for one or several hooks and the controller `C` that fills their maps. `P` says what goes into each chain. Frozen. */
export interface NetworkFunction<N extends string, C, P extends AnyParts> extends AnyFunction {
  readonly name: N;
  readonly [parts]: P;
  readonly [phantom]: { readonly controller: C };
  /** Wires exits that the stages left open. Throws ArgumentError for a target that does not fit. */
  on<const W extends { readonly [L in ExitsOf<P[keyof P]>]?: Target<HookOfExit<P, L>> }>(
    wiring: Checked<W, CheckFunctionWiring<N, P, W>>,
  ): NetworkFunction<N, C, WiredParts<P, W>>;
  /** The same under another name. Whoever wants maps of its own calls the function's factory again. */
  as<const As extends string>(name: As): NetworkFunction<As, C, P>;
  /** One of its stages under the name that it has in a pipeline, e.g. `'l4lb.encap'`: what hot swap takes. */
  stage<S extends AnyStage>(stage: Checked<S, CheckMemberOf<N, P, S>>): Qualified<N, S>;
}

/** For `function.stage(stage)`: only its own stages. */
export type CheckMemberOf<N extends string, P, S extends AnyStage> =
  S['name'] extends NamesOf<P[keyof P]> ? S : `'${S['name']}' is not a stage of '${N}'`;
type Qualified<N extends string, S> =
  S extends Stage<infer Own, infer H, infer X, infer M extends AnyTraits, infer U extends Uses> ? Stage<`${N}.${Own}`, H, X, M, U> : never;
/** The parts of a function once some exits are wired. */
export type WiredParts<P extends AnyParts, W> = P extends unknown ? { readonly [K in keyof P]: WiredPart<P[K], W> } : never;
type WiredPart<P, W> =
  P extends Part<infer Names, infer X, infer M> ? Part<Names, Exclude<X, keyof W>, Wired<M, Pick<W, X & keyof W>>> : never;
/** The hook whose stages leave through `L`. */
type HookOfExit<P, L> = { [K in keyof P]: L extends ExitsOf<P[K]> ? ChainHooks[K & ChainKey] : never }[keyof P];
/** For `function.on(wiring)`: every target that fits its exit, or a message. */
export type CheckFunctionWiring<N extends string, P, W> = {
  readonly [L in keyof W]: L extends ExitsOf<P[keyof P]> ? CheckTargets<W[L], HookOfExit<P, L>> : NoExit<N, L>;
};

/** Sums up the stages of each chain. */
export type PartsOfStages<S> = S extends unknown ? { readonly [K in keyof S]: PartOfList<S[K]> } : never;
type PartOfList<L> = L extends readonly (infer T extends AnyStage)[]
  ? Part<T['name'] | Trait<T, 'behind'>, ExitsOf<T>, TraitsOf<Unmet<L>, WritesOf<T>, never>>
  : never;
/** Reads that no earlier member of the same list writes. */
type Unmet<L, Written extends string = never> = L extends readonly [infer A, ...infer Rest]
  ? Exclude<ReadsOf<A>, Read<Written, string>> | Unmet<Rest, Written | WritesOf<A>>
  : never;
/** For `defineFunction`: stages under a chain of their hook, or a message. */
export type CheckStages<S> = { readonly [K in keyof S]: { readonly [I in keyof S[K]]: CheckHook<S[K][I], ChainHooks[K & ChainKey]> } };

/**
 * Declares a network function. Its exits may stay open: whoever places it wires them. A function that can be used twice
 * is a factory that calls this each time with fresh maps.
 * Throws ArgumentError for a name that is no identifier, a chain that there is none of, a stage under the wrong hook and
 * two stages of one name in a chain.
 */
export function defineFunction<
  const N extends string,
  const S extends FunctionStages,
  Needs extends Readonly<Record<string, Need>> = Empty,
  C = undefined,
>(definition: {
  /** Prefix of its stages' names in a pipeline, and of its maps'. */
  readonly name: N;
  readonly stages: Checked<S, CheckStages<S>>;
  /** How the controller is made; everything that it needs is injected, by name. */
  readonly controller?: {
    readonly needs: Needs;
    readonly create: (this: void, needs: { readonly [K in keyof Needs]: Given<Needs[K]> }) => C;
  };
  /** Default bindings of the function's services; a user may replace each. */
  readonly services?: ContainerModule;
}): NetworkFunction<N, C, PartsOfStages<S>> {
  const { name, controller, services } = definition;
  const stages = definition.stages as FunctionStages;
  checkStageName(name);
  const recipe = controller && { needs: Object.freeze({ ...controller.needs }), create: controller.create };
  return functionOf({
    name,
    stages: checkStages(name, stages),
    wiring: Object.freeze({}),
    controller: recipe && (Object.freeze(recipe) as unknown as ControllerRecipe),
    services,
  }) as unknown as NetworkFunction<N, C, PartsOfStages<S>>;
}

type FunctionData = Pick<AnyFunction, 'name' | 'stages' | 'wiring' | 'controller' | 'services'>;
/** A function at run time, before the types are put on. */
interface PlainFunction extends FunctionData {
  readonly kind: 'function';
  on(wiring: Readonly<Record<string, AnyTarget>>): PlainFunction;
  as(name: string): PlainFunction;
  stage(stage: AnyStage): AnyStage;
}

function functionOf(data: FunctionData): PlainFunction {
  return Object.freeze<PlainFunction>({
    kind: 'function',
    ...data,
    on(wiring) {
      const added = checkWiring(
        data.name,
        chainKeys.filter((key) => data.stages[key] !== undefined),
        wiring,
      );
      return functionOf({ ...data, wiring: Object.freeze({ ...data.wiring, ...added }) });
    },
    as(name) {
      checkStageName(name);
      return functionOf({ ...data, name });
    },
    stage({ name }) {
      const own = chainKeys.flatMap((key) => withTargets(data.stages[key] ?? [])).find((stage) => stage.name === name);
      if (own === undefined) throw new ArgumentError(`'${name}' is not a stage of '${data.name}'`);
      return qualified(own, `${data.name}.${name}`);
    },
  });
}

/** The stages of a list and those wired behind their own exits: all of them are the function's. */
export function withTargets(members: readonly ChainMember[]): readonly AnyStage[] {
  return members.flatMap((member) =>
    member.kind === 'function' ? [] : [member, ...withTargets(Object.values(member.wiring).flat().flatMap(membersIn))],
  );
}

function qualified(stage: AnyStage, name: string): AnyStage {
  if (!('as' in stage) || typeof stage.as !== 'function') throw new ArgumentError(`'${stage.name}' was not made by stage()`);
  const renamed: unknown = stage.as(name);
  return renamed as AnyStage;
}

function checkStages(owner: string, stages: FunctionStages): FunctionStages {
  const checked: { [K in ChainKey]?: readonly AnyStage[] } = {};
  for (const [key, list] of Object.entries(stages)) {
    const chain = chainKeys.find((known) => known === key);
    if (chain === undefined) throw new ArgumentError(`function '${owner}': '${key}' is not a chain, expected ${chainKeys.join(', ')}`);
    if (list.length === 0) throw new ArgumentError(`function '${owner}': no stages for ${key}, expected at least one`);
    const seen = new Set<string>();
    for (const { name, hook } of list) {
      checkHook(owner, name, hook, chain);
      if (seen.has(name)) throw new ArgumentError(`function '${owner}': '${name}' is in ${key} twice; name one with .as()`);
      seen.add(name);
    }
    checked[chain] = Object.freeze([...list]);
  }
  if (Object.keys(checked).length === 0) throw new ArgumentError(`function '${owner}': no stages, expected at least one`);
  return Object.freeze(checked);
}

function checkHook(owner: string, name: string, hook: Hook, needed: Hook): void {
  if (!hookFits(hook, needed))
    throw new ArgumentError(`function '${owner}': stage '${name}' has hook '${hook}'; '${needed}' is needed here`);
}
