/**
 * The plan of a chain: its graph with a slot of the program array for each edge that leads to a stage, and how one plan
 * becomes another. A plan is a blueprint; generation.ts loads it. What chains have to do with one another is
 * pipeline-plan.ts.
 */
import type { Edge } from '@tailrace/compiler';
import type { ChainMember, Layout } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
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
  /** Slot of each edge that leads to a place, by `edgeKey`. Slots from 0. */
  readonly slots: ReadonlyMap<string, number>;
  /** Entries that the program array needs. */
  readonly slotCount: number;
  /** The most tail calls that one packet can take, the root's included. */
  readonly depth: number;
  /** Layouts of all metadata fields, by name. */
  readonly fields: ReadonlyMap<string, Layout>;
}

/** Plans a chain; whether its metadata are written is not looked at. Throws ChainError for whatever would not work when loaded. */
export function planChain(members: readonly ChainMember[], options: GraphOptions): ChainPlan {
  const graph = chainGraph(members, options);
  const fields = metadataFields(graph);
  const slots = new Map<string, number>();
  for (const place of graph.places.values())
    for (const { label, to } of edgesOf(place)) if ('place' in to) slots.set(edgeKey(place.name, label), slots.size);
  return { ...graph, slots, slotCount: slots.size, depth: checkDepth(graph), fields };
}

/** Names the edge that leaves a place by a label: `next`, or `exit:label`. */
export function edgeKey(place: string, label: string): string {
  return `${place} ${label}`;
}

/** An edge as the compiler takes it. */
export function edgeOf(plan: ChainPlan, place: Place, label: string, to: Destination): Edge {
  if ('verdict' in to) return to;
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
  /** One slot is pointed at the new program of `place`: `undefined` is the one that leads to the first. The plan keeps the old one's slots. */
  | { readonly kind: 'slot'; readonly place: string; readonly slot: number | undefined; readonly plan: ChainPlan }
  /** A new generation is built and the root's slot flipped to it. */
  | { readonly kind: 'generation'; readonly plan: ChainPlan };

/** Tells how to get to a plan. A slot will do where one place differs, one edge leads to it, and its own edges have slots already. */
export function changeOf(before: ChainPlan, after: ChainPlan): Change {
  const kept = { ...after, slots: before.slots, slotCount: before.slotCount };
  const samePlaces = before.places.size === after.places.size && [...after.places.keys()].every((name) => before.places.has(name));
  if (!samePlaces || before.first !== after.first) return { kind: 'generation', plan: after };
  const changed = [...after.places.values()].flatMap((is) => {
    const was = placeIn(before.places, is.name);
    return samePlace(was, is) ? [] : [{ was, is }];
  });
  const [one, ...more] = changed;
  if (one === undefined) return { kind: 'none', plan: kept };
  const { was, is } = one;
  const [edge, ...others] = [...(before.first === is.name ? ['root' as const] : []), ...edgesInto(before, is.name)];
  if (more.length > 0 || edge === undefined || others.length > 0 || !edgesWithin(was, is)) return { kind: 'generation', plan: after };
  const slot = edge === 'root' ? undefined : before.slots.get(edgeKey(edge.from.name, edge.label));
  return { kind: 'slot', place: is.name, slot, plan: kept };
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

/** Tail calls of the worst path, and `others` beside those to places. Throws ChainError past the kernel's limit. */
export function checkDepth(graph: ChainGraph, others = 0): number {
  const longest = new Map<string, readonly string[]>();
  const pathFrom = (name: string): readonly string[] => {
    const known = longest.get(name);
    if (known !== undefined) return known;
    const place = graph.places.get(name);
    const tails = place ? edgesOf(place).map(({ to }) => ('place' in to ? pathFrom(to.place) : [])) : [];
    const path = [name, ...tails.reduce((best, tail) => (tail.length > best.length ? tail : best), [])];
    longest.set(name, path);
    return path;
  };
  const path = pathFrom(graph.first);
  const calls = path.length + others;
  if (calls > MAX_TAIL_CALLS) {
    const what = others === 0 ? `${path.length} stages` : `${path.length} stages in ${calls} tail calls`;
    throw new ChainError('depth', `a packet can pass ${what}, the kernel allows ${MAX_TAIL_CALLS} tail calls`, {
      hint: `the longest way is ${path.slice(0, 3).join(' → ')} → … → ${path.at(-1)}`,
    });
  }
  return calls;
}
