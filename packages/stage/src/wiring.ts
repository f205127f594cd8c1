/**
 * How exits are wired: the checks of the types, with their messages, and the same checks at run time for what was put
 * together there.
 *
 * A misuse is reported by intersecting the argument with a string literal type that holds the message: TypeScript then
 * prints "Type 'X' is not assignable to type '"the message"'" at the guilty element.
 */
import { ArgumentError } from '@tailrace/bpf';
import { type BackTo, isBackTo } from './back-to.ts';
import { type ChainKey, type ChainOf, chainKeys, type Fits, type Hook, hookFits, verdictNames } from './hook.ts';
import type { AnyFunction, AnyFused, AnyStage, AnyTarget, ChainItem, ChainMember } from './member.ts';
import type { parts, phantom } from './resource.ts';
import type { Read, ReadsOf, Trait, Traits, TraitsOf, WritesOf } from './traits.ts';

/** The labels that a stage, or a function's part, leaves open. */
export type ExitsOf<T> = T extends { readonly [phantom]: { readonly exits: infer X } } ? X & string : never;
/** The names of the stages in a part. */
export type NamesOf<P> = P extends { readonly [phantom]: { readonly names: infer N } } ? N & string : never;

/** What a member brings to the chain `K`: a stage itself, or a function's part. */
export type PartIn<T, K> = T extends AnyFunction ? (K extends keyof T[typeof parts] ? T[typeof parts][K] : never) : T;
/** What a member brings to all chains. */
export type PartOf<T> = T extends AnyFunction ? T[typeof parts][keyof T[typeof parts]] : T;
/** The names a member has in a pipeline, with those behind its exits; `K` narrows to one chain. */
export type StageNames<T, K = ChainKey> = T extends AnyFunction
  ? `${T['name']}.${NamesOf<PartIn<T, K & keyof T[typeof parts]>>}` | Trait<PartIn<T, K & keyof T[typeof parts]>, 'behind'>
  : T extends AnyStage
    ? T['name'] | Trait<T, 'behind'>
    : never;

/** The stages and functions among items, those of fused groups too; distributes over unions. */
export type MembersOf<T> = T extends { readonly kind: 'fused'; readonly members: readonly (infer M)[] }
  ? AnyFused extends M
    ? ChainMember
    : MembersOf<M>
  : Extract<T, ChainMember>;
/** The stages and functions among the targets of a wiring, as a union. */
export type Targets<W> = { [L in keyof W]: MembersOf<W[L] extends readonly (infer T)[] ? T : W[L]> }[keyof W];

/** A member whose name is not a literal was put together at run time: load time checks it. */
export type CheckHook<T, H extends Hook> = T extends AnyStage
  ? string extends T['name']
    ? T
    : T['hook'] extends Fits[H]
      ? T
      : `stage '${T['name']}' has hook '${T['hook']}'; '${H}' is needed here`
  : T extends AnyFunction
    ? string extends T['name']
      ? T
      : ChainOf<H> extends keyof T[typeof parts]
        ? T
        : `'${T['name']}' has no stages for ${ChainOf<H>}`
    : T;
/** One target: the right hook, and no exits of its own left open. */
type CheckTarget<T, H extends Hook> = T extends AnyFused
  ? [TargetMessage<MembersOf<T>, H>] extends [never]
    ? T
    : TargetMessage<MembersOf<T>, H>
  : CheckMember<T, H>;
type CheckMember<T, H extends Hook> = CheckHook<T, H> extends string ? CheckHook<T, H> : CheckClosed<T, ChainOf<H>>;
type TargetMessage<M, H extends Hook> = M extends unknown ? Extract<CheckMember<M, H>, string> : never;
/** A fused group, or the message for one of its members. */
export type CheckedGroup<G extends AnyFused, C extends readonly unknown[]> = [Extract<C[number], string>] extends [never]
  ? G
  : Extract<C[number], string>;
type CheckClosed<T, K> = T extends ChainMember
  ? string extends T['name']
    ? T
    : [ExitsOf<PartIn<T, K>>] extends [never]
      ? T
      : Unwired<T['name'], ExitsOf<PartIn<T, K>>>
  : T;
/** A target or a sub-chain of them. */
export type CheckTargets<T, H extends Hook> = T extends readonly unknown[]
  ? { readonly [I in keyof T]: CheckTarget<T[I], H> }
  : CheckTarget<T, H>;
/** The message for an exit that is still open where none may be. */
export type Unwired<N extends string, X extends string> = `exit '${X}' of '${N}' leads nowhere; wire it with .on()`;
/** The message for a label that no exit has. */
export type NoExit<N extends string, L> = `'${N}' has no exit '${L & string}'`;
/** For `stage.on(wiring)`: every target that fits its exit, or a message. */
export type CheckWiring<N extends string, H extends Hook, X extends string, W> = {
  readonly [L in keyof W]: L extends X ? CheckTargets<W[L], H> : NoExit<N, L>;
};

/** A `tc` stage that is wired to a one-direction stage takes that direction. */
export type HookWired<H extends Hook, W> = H extends 'tc' ? Narrowed<Exclude<Extract<Targets<W>, AnyStage>['hook'], 'tc'>> : H;
type Narrowed<H> = [H] extends [never] ? 'tc' : Extract<H, Hook>;
/** Targets add what they write, and what they read unless a writer is wired in here. In which order is left to load time. */
export type Wired<M, W> =
  M extends Traits<infer R, infer F, infer B>
    ? TraitsOf<
        R | Exclude<ReadsOf<TargetParts<W>>, Read<F | WritesOf<TargetParts<W>>, string>>,
        F | WritesOf<TargetParts<W>>,
        B | StageNames<Targets<W>>
      >
    : never;
type TargetParts<W> = PartOf<Targets<W>>;

/**
 * Checks and freezes a wiring for exits of `owner`, a stage or function at one of `hooks`. Labels are not checked: only
 * the compiler knows which exits a body has. Throws ArgumentError that names label and target.
 */
export function checkWiring(
  owner: string,
  hooks: readonly Hook[],
  wiring: Readonly<Record<string, unknown>>,
): Readonly<Record<string, AnyTarget>> {
  const checked: Record<string, AnyTarget> = {};
  for (const [label, target] of Object.entries(wiring)) {
    const path = `exit '${label}' of '${owner}'`;
    if (Array.isArray(target)) {
      if (target.length === 0) throw new ArgumentError(`${path}: the sub-chain is empty, expected at least one member`);
      checked[label] = Object.freeze(target.map((member: unknown) => checkTarget(path, hooks, member)));
    } else checked[label] = checkTarget(path, hooks, target);
  }
  return Object.freeze(checked);
}

/** The hook that a `tc` stage has once it is wired; every other stage keeps its own. */
export function hookWired(hook: Hook, wiring: Readonly<Record<string, AnyTarget>>): Hook {
  if (hook !== 'tc') return hook;
  const targets = Object.values(wiring).flat().flatMap(membersIn);
  const narrowed = new Set(targets.flatMap((t) => (t.kind === 'stage' && t.hook !== 'tc' ? [t.hook] : [])));
  if (narrowed.size > 1)
    throw new ArgumentError(`the stage is wired to ${[...narrowed].sort().join(' and ')} stages, expected one direction`);
  return [...narrowed][0] ?? 'tc';
}

function checkTarget(path: string, hooks: readonly Hook[], target: unknown): ChainItem | BackTo | AnyVerdictName {
  if (isBackTo(target)) return target;
  if (typeof target === 'string') {
    const names = [...new Set<string>(['next', ...hooks.flatMap((hook) => verdictNames[hook])])];
    if (!names.includes(target))
      throw new ArgumentError(`${path}: '${target}' is no verdict, expected ${names.join(', ')}, a stage or a function`);
    return target as AnyVerdictName;
  }
  if (isFused(target)) {
    for (const member of target.members) checkTarget(path, hooks, member);
    return target;
  }
  if (!isMember(target)) throw new ArgumentError(`${path}: a target is ${typeof target}, expected a verdict's name, a stage or a function`);
  if (!hooks.some((hook) => memberFits(target, hook)))
    throw new ArgumentError(
      target.kind === 'stage'
        ? `${path}: stage '${target.name}' has hook '${target.hook}'; '${hooks.join("' or '")}' is needed here`
        : `${path}: '${target.name}' has no stages for ${hooks.join(' or ')}`,
    );
  return target;
}
type AnyVerdictName = Extract<AnyTarget, string>;

/** True where a stage fits, or a function has stages for, that hook. */
export function memberFits(member: ChainMember, hook: Hook): boolean {
  if (member.kind === 'stage') return hookFits(member.hook, hook);
  return chainKeys.some((key) => (member.stages[key]?.length ?? 0) > 0 && hookFits(key, hook));
}

/** True for stages and functions. */
export function isMember(value: unknown): value is ChainMember {
  return typeof value === 'object' && value !== null && 'kind' in value && (value.kind === 'stage' || value.kind === 'function');
}

/** True for what `fuse()` makes. */
export function isFused(value: unknown): value is AnyFused {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'fused';
}

/** The stages and functions that an item of a chain or a target stands for: itself, or the members of a fused group. */
export function membersIn(item: ChainItem | BackTo | string): readonly ChainMember[] {
  if (typeof item === 'string' || item.kind === 'backTo') return [];
  return item.kind === 'fused' ? item.members.flatMap(membersIn) : [item];
}
