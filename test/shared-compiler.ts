/** A compiler for runs of one pipeline in several engines: they share their programs, which are compiled once. */
import { type CompiledStage, compileFused, compileRoot, compileStage, outcomesOf } from '@tailrace/compiler';
import type { AnyStage } from '@tailrace/stage';
import { Compiler, override } from 'tailrace';

/** For the services of a pipeline. */
export function sharedCompiler() {
  const known = new WeakMap<AnyStage, Map<string, CompiledStage>>();
  const shared: typeof compileStage = (stage, options = {}) => {
    const compiled = known.get(stage) ?? new Map<string, CompiledStage>();
    known.set(stage, compiled);
    const text = JSON.stringify(options);
    const program = compiled.get(text) ?? compileStage(stage, options);
    compiled.set(text, program);
    return program;
  };
  return override(Compiler, { compileStage: shared, compileFused, compileRoot, outcomesOf });
}
