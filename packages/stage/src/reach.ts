/** What a body reaches through its `uses`: fns use maps and fns in turn, structures hold both. */
import type { FnDecl, Intrinsic } from './fn.ts';
import type { AnyMap } from './map.ts';
import type { AnyStructure } from './structure.ts';
import { type Constant, isDeclared, isSchema } from './uses.ts';

/** One value of `uses`, told apart by its `kind`; the others are schemas (`isSchema`) and constants. */
export type Use = AnyMap | AnyStructure | FnDecl | Intrinsic;

/** A value of `uses` as what it is: a declaration, or `undefined` for a schema or constant. */
export function asUse(value: unknown): Use | undefined {
  return isDeclared(value) ? (value as Use) : undefined;
}

/** A value of `uses` as a constant, or `undefined` for a declaration or schema. */
export function asConstant(value: unknown): Constant | undefined {
  return isDeclared(value) || isSchema(value) ? undefined : (value as Constant);
}

/** Every map that a body with these `uses` can reach, each once, in order of declaration. */
export function mapsIn(uses: Readonly<Record<string, unknown>>): readonly AnyMap[] {
  return [...reached(uses)].flatMap((use) => (use.kind === 'map' ? [use] : []));
}

/** Every structure that a body with these `uses` can reach, each once, in order of declaration. */
export function structuresIn(uses: Readonly<Record<string, unknown>>): readonly AnyStructure[] {
  return [...reached(uses)].flatMap((use) => (use.kind === 'structure' ? [use] : []));
}

function reached(uses: Readonly<Record<string, unknown>>): ReadonlySet<Use> {
  const seen = new Set<Use>();
  const visit = (value: unknown): void => {
    const use = asUse(value);
    if (use === undefined || seen.has(use)) return;
    seen.add(use);
    if (use.kind === 'structure') for (const member of [...Object.values(use.maps), ...Object.values(use.fns)]) visit(member);
    else if (use.kind === 'fn') for (const member of Object.values(use.uses ?? {})) visit(member);
  };
  for (const value of Object.values(uses)) visit(value);
  return seen;
}
