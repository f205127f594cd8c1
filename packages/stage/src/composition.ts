/**
 * The types of pipelines: what may stand in a chain, and what a running pipeline is typed by. The pipeline package puts
 * them on `pipeline()` and `Running`; what they cannot tell (lists built at run time) it checks before load.
 */
import type { ChainHooks, ChainKey } from './hook.ts';
import type { AnyFunction, AnyFused, AnyStage, ChainItem, ChainMember } from './member.ts';
import type { parts, phantom } from './resource.ts';
import type { Read, ReadsOf, WritesOf } from './traits.ts';
import type { CheckedGroup, CheckHook, ExitsOf, MembersOf, PartIn, StageNames, Unwired } from './wiring.ts';

/** The members of each chain, in order. */
export type Chains = { readonly [K in ChainKey]?: readonly ChainItem[] };

type WrittenIn<L, K> = L extends readonly (infer T)[]
  ? WritesOf<MembersOf<T> extends infer M ? (M extends unknown ? PartIn<M, K> : never) : never>
  : never;

/** XDP metadata reaches TC ingress (data_meta); nothing is carried to TC egress or to sockets. */
type WrittenBefore<D, K> = K extends 'tcIngress' ? (D extends { readonly xdp: infer L } ? WrittenIn<L, 'xdp'> : never) : never;

/** Walks a chain in order, carrying the fields written and the names seen so far. Tail-recursive: 32 members cost nothing. */
type CheckChain<
  L,
  K extends ChainKey,
  D,
  Written extends string,
  Seen extends string = never,
  Out extends readonly unknown[] = [],
> = L extends readonly [infer A extends ChainMember, ...infer Rest]
  ? CheckChain<Rest, K, D, Written | WritesOf<PartIn<A, K>>, Seen | A['name'], [...Out, CheckMember<A, K, D, Written, Seen>]>
  : L extends readonly [infer G extends AnyFused, ...infer Rest]
    ? CheckChain<
        Rest,
        K,
        D,
        Written | WrittenIn<G['members'], K>,
        Seen | MembersOf<G>['name'],
        [...Out, CheckedGroup<G, CheckList<G['members'], K, D, Written, Seen>>]
      >
    : Readonly<Out>;
type CheckMember<A extends ChainMember, K extends ChainKey, D, Written extends string, Seen extends string> = string extends A['name']
  ? A
  : A['name'] extends Seen
    ? `'${A['name']}' is in this chain twice; name one with .as()`
    : [Misplaced<A, K, D>] extends [never]
      ? [ExitsOf<PartIn<A, K>>] extends [never]
        ? [Exclude<ReadsOf<PartIn<A, K>>, Read<Written, string>>] extends [never]
          ? A
          : Unwritten<Exclude<ReadsOf<PartIn<A, K>>, Read<Written, string>>>
        : Unwired<A['name'], ExitsOf<PartIn<A, K>>>
      : Misplaced<A, K, D>;
type Unwritten<R> = R extends Read<infer F, infer By> ? `stage '${By}' reads '${F}', which no earlier stage writes` : never;

/** `never` where the member may stand in the chain `K`; otherwise the message. */
type Misplaced<A, K extends ChainKey, D> = Extract<CheckHook<A, ChainHooks[K]>, string> | ForgottenChain<A, D>;
/** Chains that a function has stages for and where the pipeline does not place it, neither listed nor behind an exit. */
type ForgottenChain<A, D> = A extends AnyFunction
  ? {
      [K in keyof A[typeof parts]]: [Extract<NamesIn<D, K>, `${A['name']}.${string}`>] extends [never]
        ? `'${A['name']}' must also be placed in ${K & string}`
        : never;
    }[keyof A[typeof parts]]
  : never;
/** The names of all stages in the chain `K`. */
export type NamesIn<D, K> = K extends keyof D ? (D[K] extends readonly (infer T)[] ? StageNames<MembersOf<T>, K> : never) : never;

/** A list that is no tuple was built at run time: load time checks it. */
type CheckList<L, K extends ChainKey, D, Written extends string, Seen extends string = never> = L extends readonly unknown[]
  ? number extends L['length']
    ? L
    : CheckChain<L, K, D, Written, Seen>
  : never;
/** For `pipeline(name, chains: Checked<D, CheckChains<D>>)`: every member that may stand where it does, or a message. */
export type CheckChains<D> = {
  readonly [K in keyof D]: K extends ChainKey ? CheckList<D[K], K, D, WrittenBefore<D, K>> : `'${K & string}' is not a chain`;
};

/** The names of the stages by chain: what stats and hot swap are typed by. */
export type LayoutOf<D> = D extends unknown ? { readonly [K in keyof D]: NamesIn<D, K> } : never;
/** The functions of a layout: a stage of one is named `function.stage`. */
export type FunctionsIn<L> = L[keyof L] extends infer N ? (N extends `${infer F}.${string}` ? F : never) : never;

/** For `running.controller(of: Checked<F, CheckPlaced<F, L>>)`: only functions of the pipeline. */
export type CheckPlaced<F extends AnyFunction, L> = F['name'] extends FunctionsIn<L> ? F : `'${F['name']}' is not in this pipeline`;
/** The controller that a function's `create` returns. */
export type ControllerOf<F> = F extends { readonly [phantom]: { readonly controller: infer C } } ? C : never;
/** For the first parameter of `replace`: only stages of the pipeline. */
export type CheckKnown<A extends AnyStage, L> = A['name'] extends L[keyof L] ? A : `'${A['name']}' is not in this pipeline`;
/** For its second: same hook, no exit that the old one did not have, and the metadata that others rely on. */
export type CheckReplace<A extends AnyStage, B extends AnyStage, L> = [WrongHook<A, B, L>] extends [never]
  ? [Exclude<ExitsOf<B>, ExitsOf<A>>] extends [never]
    ? [Exclude<WritesOf<A>, WritesOf<B>>] extends [never]
      ? [Exclude<ReadsOf<B>['field'], ReadsOf<A>['field']>] extends [never]
        ? B
        : `'${B['name']}' reads '${Exclude<ReadsOf<B>['field'], ReadsOf<A>['field']>}', which '${A['name']}' does not`
      : `'${B['name']}' does not write '${Exclude<WritesOf<A>, WritesOf<B>>}', as '${A['name']}' does`
    : `'${B['name']}' adds exit '${Exclude<ExitsOf<B>, ExitsOf<A>>}'; wire it with .on()`
  : WrongHook<A, B, L>;
/** The new stage must fit every chain that the old one stands in: a `tc` stage may stand in two. */
type WrongHook<A extends AnyStage, B extends AnyStage, L> = {
  [K in keyof L]: A['name'] extends L[K] ? Extract<CheckHook<B, ChainHooks[K & ChainKey]>, string> : never;
}[keyof L];
