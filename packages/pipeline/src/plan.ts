/**
 * The plan of a chain: its graph with a slot of the program array for each edge that leads to a stage, and how one plan
 * becomes another. A plan is a blueprint; generation.ts loads it. What chains have to do with one another is
 * pipeline-plan.ts.
 */
import type { Edge } from '@tailrace/compiler';
import type { ChainItem, Layout } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { entryOf, fieldsFrom, isJump, type Programs, programsIn } from './fusion.ts';
import {
  type ChainGraph,
  chainGraph,
  type Destination,
  edgesOf,
  type GraphOptions,
  type Place,
  placeIn,
  sameDestination,
  sameStage,
} from './graph.ts';
import { metadataFields } from './metadata.ts';

/** Tail calls that the kernel makes for one packet, the root's included (MAX_TAIL_CALL_CNT, include/linux/bpf.h). */
export const MAX_TAIL_CALLS = 33;

/** A chain with its slots. */
export interface ChainPlan extends ChainGraph {
  /** The programs that its places are compiled into. */
  readonly programs: Programs;
  /** Slot of each edge that leads to another program, by `edgeKey`. Slots from 0. */
  readonly slots: ReadonlyMap<string, number>;
  /** Entries that the program array needs. */
  readonly slotCount: number;
  /** The most tail calls that one packet can take, the root's included: with loops, as many as there are. */
  readonly depth: number;
  /** True where an edge leads back: packets may come to the limit of tail calls. */
  readonly loops: boolean;
  /** Layouts of all metadata fields, by name. */
  readonly fields: ReadonlyMap<string, Layout>;
}

/** Plans a chain; whether its metadata are written is not looked at. Throws ChainError for whatever would not work when loaded. */
export function planChain(members: readonly ChainItem[], options: GraphOptions): ChainPlan {
  const graph = chainGraph(members, options);
  const fields = metadataFields(graph);
  const programs = programsIn(graph);
  const slots = new Map<string, number>();
  for (const place of graph.places.values())
    for (const { label, to } of edgesOf(place))
      if ('place' in to && !isJump(programs, place.name, to)) slots.set(edgeKey(place.name, label), slots.size);
  const depth = checkDepth({ ...graph, programs });
  return { ...graph, programs, slots, slotCount: slots.size, depth, loops: hasLoops(graph), fields };
}

/** Names the edge that leaves a place by a label: `next`, or `exit:label`. */
export function edgeKey(place: string, label: string): string {
  return `${place} ${label}`;
}

/** An edge as the compiler takes it, but for the metadata that a fused program hands on. */
export function edgeOf(plan: ChainPlan, place: Place, label: string, to: Destination): Edge {
  if ('verdict' in to) return to;
  if (isJump(plan.programs, place.name, to)) return { part: to.place };
  const slot = plan.slots.get(edgeKey(place.name, label));
  if (slot === undefined) throw new ChainError('absent', `edge '${label}' of '${place.name}' has no slot`);
  return { slot };
}

/** Places whose edges lead to `name`, once for each edge. The root's edge to the first place is not among them. */
export function edgesInto(plan: ChainPlan, name: string): readonly { readonly from: Place; readonly label: string }[] {
  return [...plan.places.values()].flatMap((from) =>
    edgesOf(from).flatMap(({ label, to }) => ('place' in to && to.place === name ? [{ from, label }] : [])),
  );
}

/** How a running chain gets from one plan to another. */
export type Change =
  /** Packets go on as they do. The plan keeps the old one's slots. */
  | { readonly kind: 'none'; readonly plan: ChainPlan }
  /** One slot is pointed at the new program that begins at `place`: `undefined` is the one that leads to the first. The plan keeps the old one's slots. */
  | { readonly kind: 'slot'; readonly place: string; readonly slot: number | undefined; readonly plan: ChainPlan }
  /** A new generation is built and the root's slot flipped to it. */
  | { readonly kind: 'generation'; readonly plan: ChainPlan };

/**
 * Tells how to get to a plan. A slot will do where one program differs, one edge leads to it, its own edges have slots already,
 * and other programs hand on the metadata that it asks for.
 */
export function changeOf(before: ChainPlan, after: ChainPlan): Change {
  const kept = { ...after, slots: before.slots, slotCount: before.slotCount };
  const generation: Change = { kind: 'generation', plan: after };
  const samePlaces = before.places.size === after.places.size && [...after.places.keys()].every((name) => before.places.has(name));
  if (!samePlaces || before.first !== after.first || !samePrograms(before, after)) return generation;
  const changed = [...after.places.values()].flatMap((is) => {
    const was = placeIn(before.places, is.name);
    return samePlace(was, is) ? [] : [{ was, is }];
  });
  const [entry, ...more] = new Set(changed.map(({ is }) => entryOf(before.programs, is.name)));
  if (entry === undefined) return { kind: 'none', plan: kept };
  const [edge, ...others] = [...(before.first === entry ? ['root' as const] : []), ...edgesInto(before, entry)];
  const isOne = more.length === 0 && edge !== undefined && others.length === 0;
  if (!isOne || !changed.every(({ was, is }) => edgesWithin(was, is)) || !sameHandOver(before, after, entry)) return generation;
  const slot = edge === 'root' ? undefined : before.slots.get(edgeKey(edge.from.name, edge.label));
  return { kind: 'slot', place: entry, slot, plan: kept };
}

/** True where two places have one program and the same ways on. */
function samePlace(was: Place, is: Place): boolean {
  const old = new Map(edgesOf(was).map(({ label, to }) => [label, to]));
  const edges = edgesOf(is);
  const sameWay = ({ label, to }: (typeof edges)[number]): boolean => {
    const before = old.get(label);
    return before !== undefined && sameDestination(before, to);
  };
  return sameStage(was.stage, is.stage) && edges.length === old.size && edges.every(sameWay);
}

/** True where every edge of `is` that leads to a place leads there in `was` too. */
function edgesWithin(was: Place, is: Place): boolean {
  const old = new Map(edgesOf(was).map(({ label, to }) => [label, to]));
  return edgesOf(is).every(({ label, to }) => {
    const before = old.get(label);
    return 'verdict' in to || (before !== undefined && sameDestination(before, to));
  });
}

/** True where the same places share programs. */
function samePrograms(before: ChainPlan, after: ChainPlan): boolean {
  return [...after.programs].every(([entry, places]) => before.programs.get(entry)?.join() === places.join());
}

/** True where all fused programs but one know already what is needed of their metadata. */
function sameHandOver(before: ChainPlan, after: ChainPlan, but: string): boolean {
  return [...after.programs].every(([entry, places]) => {
    if (places.length === 1 || entry === but) return true;
    const behind = places.flatMap((name) => edgesOf(placeIn(after.places, name)).flatMap(({ to }) => ('place' in to ? [to.place] : [])));
    return behind.every((name) => fieldsFrom(after, name).isSubsetOf(fieldsFrom(before, name)));
  });
}

function hasLoops({ places }: ChainGraph): boolean {
  return [...places.values()].some((place) => edgesOf(place).some(({ to }) => 'place' in to && to.back));
}

/**
 * Tail calls of the worst path, and `others` beside those to places; with loops it is the kernel's limit. Throws ChainError where
 * a path without loops is past that.
 */
export function checkDepth(graph: ChainGraph & Pick<ChainPlan, 'programs'>, others = 0): number {
  const longest = new Map<string, readonly string[]>();
  const pathFrom = (name: string): readonly string[] => {
    const known = longest.get(name);
    if (known !== undefined) return known;
    const place = graph.places.get(name);
    const tails = place ? edgesOf(place).map(({ to }) => ('place' in to && !to.back ? pathFrom(to.place) : [])) : [];
    const path = [
      ...(graph.programs.has(name) ? [name] : []),
      ...tails.reduce((best, tail) => (tail.length > best.length ? tail : best), []),
    ];
    longest.set(name, path);
    return path;
  };
  const path = pathFrom(graph.first);
  const calls = path.length + others;
  if (calls > MAX_TAIL_CALLS) {
    const passed = `${path.length} ${graph.programs.size === graph.places.size ? 'stages' : 'programs'}`;
    const what = others === 0 ? passed : `${passed} in ${calls} tail calls`;
    throw new ChainError('depth', `a packet can pass ${what}, the kernel allows ${MAX_TAIL_CALLS} tail calls`, {
      hint: `the longest way is ${path.slice(0, 3).join(' → ')} → … → ${path.at(-1)}`,
    });
  }
  return hasLoops(graph) ? MAX_TAIL_CALLS : calls;
}
