/**
 * Metadata of a chain: which fields its stages name, and whether each is written on every way to whoever reads it. The
 * compiler tells what a body writes before it leaves which way.
 */
import { describeLayout, type Layout, sameLayout } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { hookTitle } from './chain-hook.ts';
import { type ChainGraph, edgesOf, type Place, placeIn } from './graph.ts';

/** A field that a stage reads and that some way to it does not write. */
export interface MissingField {
  readonly place: string;
  readonly field: string;
}

/** What becomes of a chain's metadata along its ways. */
export interface MetadataFlow {
  /** Reads that not every way within the chain provides for, in order. */
  readonly missing: readonly MissingField[];
  /** Fields that are written on every way to the verdict `pass`, and the ways that lack others. */
  readonly passed: { readonly fields: ReadonlySet<string>; without(field: string): string | undefined };
}

/** The fields of a chain. Throws ChainError where two stages see one differently. */
export function metadataFields(graph: ChainGraph): ReadonlyMap<string, Layout> {
  const fields = new Map<string, { readonly layout: Layout; readonly by: string }>();
  for (const { name: by, stage } of graph.places.values())
    for (const [field, { layout }] of [...Object.entries(stage.writes), ...Object.entries(stage.reads)]) {
      const known = fields.get(field);
      if (known !== undefined && !sameLayout(known.layout, layout))
        throw new ChainError(
          'metadata',
          `metadata '${field}' is ${describeLayout(known.layout)} in '${known.by}' and ${describeLayout(layout)} in '${by}'`,
        );
      if (known === undefined) fields.set(field, { layout, by });
    }
  return new Map([...fields].map(([field, { layout }]) => [field, layout]));
}

/** Follows every way through a chain that packets can take; a miss is none. */
export function metadataFlow(graph: ChainGraph): MetadataFlow {
  const written = writtenBefore(graph);
  const missing: MissingField[] = [];
  const passes: { readonly way: string; readonly fields: ReadonlySet<string> }[] = [];
  for (const place of inOrder(graph)) {
    const known = written.get(place.name);
    if (known === undefined) continue; // no packet gets here
    for (const field of Object.keys(place.stage.reads)) if (!known.has(field)) missing.push({ place: place.name, field });
    const after = (outcome: string): ReadonlySet<string> => known.union(new Set(place.outcomes.writes[outcome] ?? []));
    const passesBy = (outcome: string): unknown => passes.push({ way: `${outcome} of '${place.name}'`, fields: after(outcome) });
    if (place.outcomes.verdicts.includes('pass')) passesBy('pass');
    for (const { label, to } of edgesOf(place)) if ('verdict' in to && to.verdict === 'pass') passesBy(label);
  }
  const [first, ...others] = passes.map(({ fields }) => fields);
  return {
    missing,
    passed: {
      fields: others.reduce((all, fields) => all.intersection(fields), first ?? new Set<string>()),
      without: (field) => passes.find(({ fields }) => !fields.has(field))?.way,
    },
  };
}

/** The fields that every way to a place has written. Edges back may take some away again, so it goes on until nothing changes. */
function writtenBefore(graph: ChainGraph): ReadonlyMap<string, ReadonlySet<string>> {
  const written = new Map<string, ReadonlySet<string>>([[graph.first, new Set()]]);
  const places = inOrder(graph);
  for (let changes = true; changes; ) {
    changes = false;
    for (const place of places) {
      const known = written.get(place.name);
      if (known === undefined) continue;
      for (const { label, to } of edgesOf(place)) {
        if (!('place' in to)) continue;
        const after = known.union(new Set(place.outcomes.writes[label] ?? []));
        const before = written.get(to.place);
        const both = before?.intersection(after) ?? after;
        if (before !== undefined && both.size === before.size) continue;
        written.set(to.place, both);
        changes = true;
      }
    }
  }
  return written;
}

/** The error for a read that nothing provides for. */
export function unwritten(graph: ChainGraph, { place, field }: MissingField, hint?: string): ChainError {
  const writers = [...graph.places.values()].filter(({ stage }) => Object.hasOwn(stage.writes, field)).map(({ name }) => `'${name}'`);
  const within =
    writers.length === 0
      ? `no stage of this chain (${hookTitle[graph.hook]}) writes it`
      : `only ${writers.join(', ')} ${writers.length === 1 ? 'writes' : 'write'} it, and not on every way`;
  return new ChainError('metadata', `'${place}' reads '${field}', which is not written on every way to it`, { hint: hint ?? within });
}

/** Places so that each comes after all that lead to it, but for edges back. */
export function inOrder(graph: ChainGraph): readonly Place[] {
  const ordered: Place[] = [];
  const seen = new Set<string>();
  const visit = (name: string): void => {
    if (seen.has(name)) return;
    seen.add(name);
    const place = placeIn(graph.places, name);
    for (const { to } of edgesOf(place)) if ('place' in to && !to.back) visit(to.place);
    ordered.push(place);
  };
  visit(graph.first);
  return ordered.reverse();
}
