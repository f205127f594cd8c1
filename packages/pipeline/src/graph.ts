/**
 * From the members of a chain to its graph: which stages it has, under which names, and where `next()` and each exit of
 * each lead. Functions are flattened, sub-chains unrolled, `'next'` and verdicts resolved. What the types cannot tell is
 * checked here; slots, depth and metadata are left to plan.ts.
 */
import type { StageOutcomes } from '@tailrace/compiler';
import {
  type AnyFunction,
  type AnyFused,
  type AnyStage,
  type AnyTarget,
  type BackTo,
  type ChainItem,
  type ChainMember,
  chainKeys,
  hookFits,
  isBackTo,
  isFused,
  membersIn,
  withTargets,
} from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { type ChainHook, hookTitle, verdictNamesOf } from './chain-hook.ts';

/** A verdict that an edge can end a chain with. */
export type EndVerdict = 'abort' | 'drop' | 'pass' | 'tx';
/** Where an edge leads: to a place of the chain, `back` where it is declared as a loop, or out of it. */
export type Destination = { readonly place: string; readonly back?: true } | { readonly verdict: EndVerdict };

/** One stage where it stands in a chain. A place keeps its name when its stage is replaced. */
export interface Place {
  /** Unique in the chain; `function.stage` for stages of functions. */
  readonly name: string;
  /** The stage that stands there now. */
  readonly stage: AnyStage;
  /** The function that it belongs to. */
  readonly owner: AnyFunction | undefined;
  /** The outermost group that it is fused in, which stages in front of it may be fused with it by. */
  readonly group: AnyFused | undefined;
  /** Where `next()` leads. */
  readonly next: Destination;
  /** Where its exits lead, by label, sorted. */
  readonly exits: Readonly<Record<string, Destination>>;
  /** What its body does on each way out. */
  readonly outcomes: StageOutcomes;
}

/** A chain, without cycles but those that edges back make. */
export interface ChainGraph {
  readonly hook: ChainHook;
  /** The place that packets come to first. */
  readonly first: string;
  /** Every place that can be reached: along `next()` first, then behind exits. */
  readonly places: ReadonlyMap<string, Place>;
}

/** What the graph needs to know beside the members. */
export interface GraphOptions {
  readonly hook: ChainHook;
  /** What a body does on each way out. */
  readonly outcomesOf: (stage: AnyStage) => StageOutcomes;
  /** Stages that replace the declared ones, by place. Exits that they do not wire lead where the declared stage's did. */
  readonly replacements?: ReadonlyMap<string, AnyStage>;
}

/** Builds the graph of a chain. Throws ChainError. */
export function chainGraph(members: readonly ChainItem[], options: GraphOptions): ChainGraph {
  const { hook } = options;
  if (members.length === 0) throw new ChainError('empty', `the ${hook} chain has no members, expected at least one`);
  const builder = new GraphBuilder(options);
  const first = builder.list(members, pipelineScope, pass, pass);
  if (!('place' in first)) throw new ChainError('empty', `the ${hook} chain has no stages, expected at least one`);
  const places = builder.reachable(first.place);
  builder.checkLoops(places);
  // a stage that was replaced may leave others idle
  if (options.replacements === undefined || options.replacements.size === 0) builder.checkReached(places);
  return { hook, first: first.place, places };
}

/** The ways out of a place that packets take: `next()` is the label `next`, exits are `exit:label`, as in its counters. */
export function edgesOf({ next, exits, outcomes }: Place): readonly { readonly label: string; readonly to: Destination }[] {
  const behind = Object.entries(exits).map(([label, to]) => ({ label: `exit:${label}`, to }));
  return outcomes.next ? [{ label: 'next', to: next }, ...behind] : behind;
}

/** A place of a chain. Throws ChainError where there is none of that name. */
export function placeIn(places: ReadonlyMap<string, Place>, name: string): Place {
  const place = places.get(name);
  if (place === undefined) throw new ChainError('absent', `'${name}' is not in this chain`);
  return place;
}

/** True where two edges lead to the same place or end with the same verdict. */
export function sameDestination(a: Destination, b: Destination): boolean {
  if ('place' in a) return 'place' in b && a.place === b.place;
  return 'verdict' in b && a.verdict === b.verdict;
}

/** True where two stages are one program under one name; where their exits lead is not looked at. */
export function sameStage(a: AnyStage, b: AnyStage): boolean {
  if (a === b) return true;
  const fields = ['name', 'hook', 'program', 'object', 'uses', 'reads', 'writes', 'onMiss'] as const;
  return fields.every((field) => a[field] === b[field]);
}

/**
 * The functions among items, also behind exits and in other functions, each once: a function that was wired differently in
 * two chains is still one. Throws ChainError where two share a name.
 */
export function functionsIn(items: readonly ChainItem[]): readonly AnyFunction[] {
  const seen = new Set<ChainMember>();
  const visit = (members: readonly ChainMember[]): void => {
    for (const member of members) {
      if (seen.has(member)) continue;
      seen.add(member);
      if (member.kind === 'function') visit(Object.values(member.stages).flat());
      visit(Object.values(member.wiring).flat().flatMap(membersIn));
    }
  };
  visit(items.flatMap(membersIn));
  const functions = new Map<string, AnyFunction>();
  for (const member of seen) {
    if (member.kind !== 'function') continue;
    const known = functions.get(member.name);
    // .on() keeps the stages that a function was made with
    if (known !== undefined && known.stages !== member.stages)
      throw new ChainError('duplicate', `two functions are named '${member.name}'`, { hint: 'name one with .as()' });
    functions.set(member.name, known ?? member);
  }
  return [...functions.values()];
}

const pass: Destination = { verdict: 'pass' };

/** Where names and open exits of a stage are resolved. */
interface Scope {
  readonly prefix: string;
  readonly owner: AnyFunction | undefined;
  readonly group: AnyFused | undefined;
  /** Exits that were wired on the function: targets and `'next'` as seen from where the function stands. */
  readonly wired: { readonly wiring: AnyFunction['wiring']; readonly scope: Scope; readonly next: Destination } | undefined;
}
const pipelineScope: Scope = { prefix: '', owner: undefined, group: undefined, wired: undefined };

type Item = Exclude<AnyTarget, readonly unknown[]>;

class GraphBuilder {
  readonly #options: GraphOptions;
  readonly #places = new Map<string, Place>();
  /** What was declared for a place: a second visit must mean the same. */
  readonly #declared = new Map<string, { readonly stage: AnyStage; readonly owner: AnyFunction | undefined; readonly next: Destination }>();

  constructor(options: GraphOptions) {
    this.#options = options;
  }

  /** A list of members: `end` is where the last one's `next()` leads, `rejoin` what the word `'next'` in it means. */
  list(items: readonly Item[], scope: Scope, end: Destination, rejoin: Destination): Destination {
    let next = end;
    for (const [i, item] of [...items.entries()].reverse()) {
      const behind = items[i + 1];
      if (typeof item === 'string' || item.kind === 'backTo') {
        if (behind !== undefined)
          throw new ChainError('unreachable', `${describe(behind)} can never be reached: ${describe(item)} before it ends the sub-chain`);
        next = this.#end(item, scope, rejoin);
      } else next = this.#item(item, scope, next);
    }
    return next;
  }

  /** Places in reach of `first`, along `next()` before exits. */
  reachable(first: string): ReadonlyMap<string, Place> {
    const ordered = new Map<string, Place>();
    const visit = (to: Destination): void => {
      if (!('place' in to) || ordered.has(to.place)) return;
      const place = to.back ? this.#loopTo(to.place) : this.#place(to.place);
      ordered.set(place.name, place);
      for (const edge of edgesOf(place)) visit(edge.to);
    };
    visit({ place: first });
    return ordered;
  }

  /** Throws ChainError for an edge back to what is not there, or to what does not lead to it. */
  checkLoops(reached: ReadonlyMap<string, Place>): void {
    for (const place of reached.values())
      for (const { label, to } of edgesOf(place)) {
        const { name } = place;
        if (!('place' in to) || !to.back || leadsTo(reached, to.place, name)) continue;
        const exit = label === 'next' ? `the sub-chain that ends with '${name}'` : `exit '${label.slice('exit:'.length)}' of '${name}'`;
        throw new ChainError('cycle', `${exit} leads back to '${to.place}', which does not lead there`, {
          hint: 'backTo() takes the name of a stage that packets have passed',
        });
      }
  }

  /** Throws ChainError for a member that no packet gets to. */
  checkReached(reached: ReadonlyMap<string, Place>): void {
    // members are placed from the last to the first
    for (const name of [...this.#places.keys()].reverse()) {
      if (reached.has(name)) continue;
      const before = [...reached.values()].find(({ next }) => 'place' in next && next.place === name);
      const why = before ? `: '${before.name}' before it never calls next()` : '';
      throw new ChainError('unreachable', `'${name}' can never be reached${why}`);
    }
  }

  #loopTo(name: string): Place {
    const place = this.#places.get(name);
    if (place !== undefined) return place;
    const names = [...this.#places.keys()].reverse().map((known) => `'${known}'`);
    throw new ChainError('absent', `an exit leads back to '${name}', which is not in this chain`, { hint: `it has ${names.join(', ')}` });
  }

  #place(name: string): Place {
    const place = this.#places.get(name);
    if (place === undefined) throw new ChainError('cycle', `'${name}' leads back to itself`);
    return place;
  }

  #item(item: ChainItem, scope: Scope, next: Destination): Destination {
    if (!isFused(item)) return this.#member(item, scope, next);
    return this.list(item.members, { ...scope, group: scope.group ?? item }, next, next);
  }

  #member(member: ChainMember, scope: Scope, next: Destination): Destination {
    if (member.kind === 'stage') return this.#stage(member, scope, next);
    const stages = member.stages[this.#options.hook];
    if (stages === undefined) throw new ChainError('hook', `'${member.name}' has no stages for ${this.#options.hook}`);
    const wired = { wiring: member.wiring, scope, next };
    const inner: Scope = { prefix: `${scope.prefix}${member.name}.`, owner: member, group: scope.group, wired };
    const first = this.list(stages, inner, next, next);
    this.#checkLabels(member);
    return first;
  }

  #stage(declared: AnyStage, scope: Scope, next: Destination): Destination {
    const name = scope.prefix + declared.name;
    const before = this.#declared.get(name);
    if (before !== undefined) {
      if (before.stage !== declared || before.owner !== scope.owner || !sameDestination(before.next, next))
        throw new ChainError('duplicate', `'${name}' is in this chain twice`, {
          hint: scope.owner ? `name one '${scope.owner.name}' with .as()` : 'name one with .as()',
        });
      const place = this.#place(name);
      // packets come to it from elsewhere too
      if (place.group !== scope.group) this.#places.set(name, { ...place, group: undefined });
      return { place: name };
    }
    const stage = this.#options.replacements?.get(name) ?? declared;
    for (const { hook } of [declared, stage])
      if (!hookFits(hook, this.#options.hook))
        throw new ChainError('hook', `stage '${name}' has hook '${hook}'; '${this.#options.hook}' is needed here`);
    this.#declared.set(name, { stage: declared, owner: scope.owner, next });
    const outcomes = this.#options.outcomesOf(stage);
    const exits = Object.fromEntries(outcomes.exits.map((label) => [label, this.#exit(label, stage, declared, scope, next)]));
    for (const label of Object.keys(stage.wiring))
      if (!Object.hasOwn(exits, label)) throw new ChainError('exit', `'${name}' has no exit '${label}'`, hasHint(Object.keys(exits)));
    this.#places.set(name, { name, stage, owner: scope.owner, group: scope.group, next, exits, outcomes });
    return { place: name };
  }

  /** Where an exit leads: as the stage that stands there wires it, or the declared one, or the function around it. */
  #exit(label: string, stage: AnyStage, declared: AnyStage, scope: Scope, next: Destination): Destination {
    const own = stage.wiring[label];
    const before = declared.wiring[label];
    // A variant of the declared stage brings the same targets: they are still the function's.
    const outer = { ...pipelineScope, group: scope.group };
    if (own !== undefined) return this.#target(own, stage === declared || own === before ? scope : outer, next);
    if (before !== undefined) return this.#target(before, scope, next);
    const wired = scope.wired;
    const outside = wired?.wiring[label];
    if (wired !== undefined && outside !== undefined) return this.#target(outside, wired.scope, wired.next);
    const owner = scope.owner?.name ?? declared.name;
    throw new ChainError('open', `exit '${label}' of '${scope.prefix}${declared.name}' leads nowhere`, {
      hint: `wire it with ${owner}.on({ ${label}: … })`,
    });
  }

  #target(target: AnyTarget, scope: Scope, next: Destination): Destination {
    if (typeof target === 'string' || isBackTo(target)) return this.#end(target, scope, next);
    return isList(target) ? this.list(target, scope, pass, next) : this.#item(target, scope, pass);
  }

  /** What can only stand last. Places before it are not there yet: `checkLoops` looks for them. */
  #end(target: Extract<Item, string> | BackTo, scope: Scope, rejoin: Destination): Destination {
    if (typeof target !== 'string') return { place: scope.prefix + target.name, back: true };
    return target === 'next' ? rejoin : this.#verdict(target);
  }

  #verdict(name: EndVerdict): Destination {
    const { hook } = this.#options;
    const names = verdictNamesOf(hook).filter((verdict) => verdict !== 'redirect');
    if (!names.includes(name))
      throw new ChainError('hook', `'${name}' is no verdict of ${hookTitle[hook]}`, { hint: `it has ${names.join(', ')}` });
    return { verdict: name };
  }

  /** A label wired on a function must be an exit of one of its stages, at whatever hook, as declared or as they stand here. */
  #checkLabels(member: AnyFunction): void {
    const here = [...this.#places.values()].filter(({ owner }) => owner === member).flatMap(({ exits }) => Object.keys(exits));
    const declared = chainKeys.flatMap((key) => withTargets(member.stages[key] ?? [])).flatMap((s) => this.#options.outcomesOf(s).exits);
    const labels = new Set([...here, ...declared]);
    for (const label of Object.keys(member.wiring))
      if (!labels.has(label)) throw new ChainError('exit', `'${member.name}' has no exit '${label}'`, hasHint([...labels]));
  }
}

/** True where packets get from a place to another, or it is the same one. */
function leadsTo(places: ReadonlyMap<string, Place>, from: string, to: string): boolean {
  const seen = new Set<string>();
  const visit = (name: string): boolean => {
    if (name === to) return true;
    if (seen.has(name)) return false;
    seen.add(name);
    return edgesOf(placeIn(places, name)).some((edge) => 'place' in edge.to && visit(edge.to.place));
  };
  return visit(from);
}

function isList(target: AnyTarget): target is Extract<AnyTarget, readonly unknown[]> {
  return Array.isArray(target);
}

function describe(item: Item): string {
  if (typeof item === 'string') return `'${item}'`;
  if (isFused(item)) return `a fused group of ${item.members.map(describe).join(', ')}`;
  return item.kind === 'backTo' ? `backTo('${item.name}')` : `${item.kind} '${item.name}'`;
}

function hasHint(labels: readonly string[]): { readonly hint: string } {
  return { hint: labels.length === 0 ? 'it has no exits' : `it has ${labels.map((label) => `'${label}'`).join(', ')}` };
}
