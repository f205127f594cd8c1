/** A loaded thing to measure: maps from specs, programs over them, and the slots of one program array filled. */
import {
  ArgumentError,
  type EngineInstance,
  type LoadedMap,
  type LoadedProgram,
  type MapSpec,
  type ProgramSpec,
  slotCount,
} from '@tailrace/bpf';

/** Blueprint: one entry program, and what it may tail-call. */
export interface Assembly {
  /** Maps by the names that the programs use: blueprints, or maps that are there already. What no program names is not made. */
  readonly maps: ReadonlyMap<string, MapSpec | LoadedMap>;
  readonly entry: ProgramSpec;
  /** Programs by slot, and the name of the array they stand in. */
  readonly slots?: { readonly array: string; readonly programs: readonly ProgramSpec[] };
}

/** The live side of an assembly; everything belongs to the engine instance and is closed with it. */
export interface Assembled {
  readonly entry: LoadedProgram;
  readonly maps: ReadonlyMap<string, LoadedMap>;
  /** Instruction slots of all its programs. */
  readonly insns: number;
}

/** Loads an assembly. Throws ArgumentError for a map that nobody declared, else what the engine throws. */
export async function assemble(instance: EngineInstance, { maps, entry, slots }: Assembly): Promise<Assembled> {
  const programs = slots?.programs ?? [];
  const named = new Set([entry, ...programs].flatMap((program) => program.mapReferences.map(({ map }) => map)));
  const loadedMaps = new Map(
    [...named].map((name) => {
      const spec = maps.get(name);
      if (!spec) throw new ArgumentError(`program ${entry.name} names the map ${name}, which the bench does not declare`);
      return [name, 'lookup' in spec ? spec : instance.createMap(spec)] as const;
    }),
  );
  const array = slots && loadedMaps.get(slots.array);
  for (const [slot, spec] of programs.entries()) await array?.setProgram(slot, await instance.loadProgram(spec, loadedMaps));
  return {
    entry: await instance.loadProgram(entry, loadedMaps),
    maps: loadedMaps,
    insns: [entry, ...programs].reduce((sum, { instructions }) => sum + slotCount(instructions), 0),
  };
}

/** The map of that name. Throws ArgumentError where no program names it. */
export function mapOf(assembled: Assembled, name: string): LoadedMap {
  const map = assembled.maps.get(name);
  if (!map) throw new ArgumentError(`no program names the map ${name}`);
  return map;
}
