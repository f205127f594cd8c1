/** An engine that lets a test see, and reach, what a pipeline makes in it. */
import { ArgumentError, type Engine, type EngineInstance, type LoadedMap, type LoadedProgram } from '@tailrace/bpf';

/** A watched engine: hand `engine` to a pipeline. */
export interface WatchedEngine {
  readonly engine: Engine;
  /** Every map that was made, in order, closed ones too. */
  readonly maps: readonly LoadedMap[];
  /** The programs that were attached, in order. */
  readonly attached: readonly LoadedProgram[];
  /** The last map of that name. Throws ArgumentError where there is none. */
  map(name: string): LoadedMap;
  /** How many maps of that name were made. */
  count(name: string): number;
}

/** Watches the instances that an engine opens. */
export function watched(engine: Engine): WatchedEngine {
  const maps: LoadedMap[] = [];
  const attached: LoadedProgram[] = [];
  const watching = (instance: EngineInstance): EngineInstance =>
    new Proxy(instance, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => {
          const result: unknown = value.apply(target, args);
          if (name === 'createMap') maps.push(result as LoadedMap);
          if (name === 'attach') attached.push(args[0] as LoadedProgram);
          return result;
        };
      },
    });
  return {
    engine: { kind: engine.kind, open: async () => watching(await engine.open()) },
    maps,
    attached,
    map(name) {
      const found = maps.findLast(({ spec }) => spec.name === name);
      if (found === undefined) throw new ArgumentError(`no map '${name}', there are ${maps.map(({ spec }) => spec.name).join(', ')}`);
      return found;
    },
    count: (name) => maps.filter(({ spec }) => spec.name === name).length,
  };
}
