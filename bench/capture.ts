/**
 * A pipeline as its users get it (planned, compiled, filled by its controllers), loaded through an engine that hands out
 * what it loads. It is attached to nothing: the contest puts its own program in front of the root.
 */
import type { Attachment, EngineInstance, LoadedMap, LoadedProgram } from '@tailrace/bpf';
import type { Pipeline, Running, RunOptions } from '@tailrace/pipeline';
import { PathError } from './contest.ts';

/** A loaded pipeline and what it is made of. */
export interface Captured<L> {
  readonly running: Running<L>;
  /** The program that would be attached. */
  readonly root: LoadedProgram;
  /** The root and every stage. */
  readonly programs: readonly LoadedProgram[];
  /** Every map by its full name, e.g. `l4lb/vips`. */
  readonly maps: ReadonlyMap<string, LoadedMap>;
}

/** Loads a pipeline on an instance, which its owner closes. Throws what running a pipeline throws. */
export async function capture<N extends string, L>(
  pipeline: Pipeline<N, L>,
  instance: EngineInstance,
  options?: RunOptions,
): Promise<Captured<L>> {
  const programs: LoadedProgram[] = [];
  const maps = new Map<string, LoadedMap>();
  const attached: LoadedProgram[] = [];
  const recorder: EngineInstance = {
    kind: instance.kind,
    cpus: instance.cpus,
    createMap(spec) {
      const map = instance.createMap(spec);
      maps.set(spec.name, map);
      return map;
    },
    openRing: (map, onReadable) => instance.openRing(map, onReadable),
    async loadProgram(spec, references) {
      const program = await instance.loadProgram(spec, references);
      programs.push(program);
      return program;
    },
    async attach(program): Promise<Attachment> {
      attached.push(program);
      return { interfaces: [], detach: async () => undefined };
    },
    gracePeriod: () => instance.gracePeriod(),
    close: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
  const running = await pipeline.run({ kind: 'kernel', open: async () => recorder }, options);
  const [root] = attached;
  if (!root) throw new PathError(`pipeline ${pipeline.name} attached no program`);
  return { running, root, programs, maps };
}
