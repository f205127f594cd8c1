/** Stages that were compiled: a stage at a place always gives the same program, so that it is compiled once in a process. */
import { type CompiledStage, type CompileOptions, compileStage } from '@tailrace/compiler';
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
