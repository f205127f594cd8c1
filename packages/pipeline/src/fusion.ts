/**
 * Which places of a chain share a program. A program is a region with one entry: of a fused group the place that packets come
 * to, and whatever they reach from there alone. So each place is compiled once; where packets come to it by two programs, or
 * from outside of its group, it begins one. Edges within a program are jumps, but for those back to its entry.
 */
import type { AnyStage } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { type ChainGraph, type Destination, edgesOf, type Place, placeIn } from './graph.ts';
import { inOrder } from './metadata.ts';

/** The programs of a chain: each goes by the name of its entry, and lists its places so that jumps lead forward. */
export type Programs = ReadonlyMap<string, readonly string[]>;

/** Divides a chain into programs. Throws ChainError where a group names a stage that is a program of its own. */
export function programsIn(graph: ChainGraph): Programs {
  const programs = new Map<string, string[]>();
  const entries = new Map<string, string>();
  for (const place of inOrder(graph)) {
    checkFusible(place);
    const entry = place.name === graph.first ? undefined : sharedEntry(graph, place, entries);
    entries.set(place.name, entry ?? place.name);
    programs.set(entry ?? place.name, [...(programs.get(entry ?? place.name) ?? []), place.name]);
  }
  // as packets meet them
  return new Map([...graph.places.keys()].flatMap((name) => (programs.has(name) ? [[name, programs.get(name) ?? []] as const] : [])));
}

/** The entry of the program that a place is in. Throws ChainError where there is no such place. */
export function entryOf(programs: Programs, place: string): string {
  for (const [entry, places] of programs) if (places.includes(place)) return entry;
  throw new ChainError('absent', `'${place}' is not in this chain`);
}

/** True for an edge that is a jump. */
export function isJump(programs: Programs, from: string, to: Destination): boolean {
  return 'place' in to && !programs.has(to.place) && entryOf(programs, from) === entryOf(programs, to.place);
}

/** Metadata fields that packets may need from a place on: what it and all behind it read or write, since a body reads what it may write. */
export function fieldsFrom(graph: ChainGraph, place: string): ReadonlySet<string> {
  const fields = new Set<string>();
  const seen = new Set<string>();
  const visit = (name: string): void => {
    if (seen.has(name)) return;
    seen.add(name);
    const here = placeIn(graph.places, name);
    for (const field of [...Object.keys(here.stage.reads), ...Object.keys(here.stage.writes)]) fields.add(field);
    for (const { to } of edgesOf(here)) if ('place' in to) visit(to.place);
  };
  visit(place);
  return fields;
}

/** The entry of the program that all ways to a place come from, where the place may join it. */
function sharedEntry({ places }: ChainGraph, place: Place, entries: ReadonlyMap<string, string>): string | undefined {
  if (!isFusible(place)) return undefined;
  const before = [...places.values()].filter((from) => edgesOf(from).some(({ to }) => 'place' in to && to.place === place.name));
  // a way back comes from a place that has no program yet
  const [entry, ...others] = new Set(before.map(({ name }) => entries.get(name)));
  const isOne = entry !== undefined && others.length === 0 && before.every((from) => from.group === place.group && isFusible(from));
  return isOne ? entry : undefined;
}

function isFusible({ group, stage }: Place): boolean {
  return group !== undefined && group.apart !== 'all' && stage.object === undefined;
}

function checkFusible({ name, group, stage }: { readonly name: string; readonly group: Place['group']; readonly stage: AnyStage }): void {
  if (group?.apart !== 'none' || stage.object === undefined) return;
  throw new ChainError('fused', `'${name}' comes out of an object, which is a program of its own, and cannot be fused`, {
    hint: 'leave it out of fuse(), or fuse the whole pipeline: it stands alone there',
  });
}
