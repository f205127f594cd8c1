/**
 * Stages that were compiled: a stage at a place, and stages that are fused, always give the same program, so that each is
 * compiled once in a process.
 */
import { type CompiledStage, type CompileOptions, compileFused, compileStage, type FusedPart } from '@tailrace/compiler';
import type { AnyStage } from '@tailrace/stage';

const compiled = new WeakMap<AnyStage, Map<string, CompiledStage>>();

/** `compileStage`, which remembers. */
export function compileOnce(stage: AnyStage, options: CompileOptions = {}): CompiledStage {
  const places = compiled.get(stage) ?? new Map<string, CompiledStage>();
  compiled.set(stage, places);
  const place = JSON.stringify(options);
  const known = places.get(place);
  if (known) return known;
  const made = compileStage(stage, options);
  places.set(place, made);
  return made;
}

const fused = new WeakMap<AnyStage, { readonly key: string; readonly parts: readonly FusedPart[]; readonly made: CompiledStage }[]>();

/** `compileFused`, which remembers. */
export function compileFusedOnce(parts: readonly [FusedPart, ...FusedPart[]], options: { readonly name: string }): CompiledStage {
  const [{ stage }] = parts;
  const others = fused.get(stage) ?? [];
  fused.set(stage, others);
  const key = JSON.stringify([options, parts.map(({ name, placement }) => [name, placement])]);
  const known = others.find((other) => other.key === key && other.parts.every((part, i) => part.stage === parts[i]?.stage));
  if (known) return known.made;
  const made = compileFused(parts, options);
  others.push({ key, parts, made });
  return made;
}
