/**
 * Loads a program of an object file into an engine, with everything that it reaches: its maps and what they hold from the
 * start, and the programs and maps in its tables. What else the object holds is left alone.
 */
import {
  ArgumentError,
  type ElfObject,
  type EngineInstance,
  type LoadedMap,
  type LoadedProgram,
  type MapDefinition,
  MapFlag,
  type ObjectProgram,
  type ProgramSpec,
} from '@tailrace/bpf';
import { KernelMap } from '@tailrace/kernel';

/** What a program reaches. */
interface Reach {
  /** By name, that program first. */
  readonly programs: ReadonlyMap<string, ProgramSpec>;
  readonly maps: ReadonlyMap<string, MapDefinition>;
}

/**
 * Loads a program. Throws what the object and the engine throw; what was made until then is closed with the engine. In the
 * kernel, socket filters are loaded as programs of TC: they see the same, but test runs of their own kind hide the Ethernet
 * header, which packet sockets do not.
 */
export async function loadObjectProgram(instance: EngineInstance, object: ElfObject, program: ObjectProgram): Promise<LoadedProgram> {
  const reach = reachOf(object, program);
  const maps = new Map([...reach.maps].map(([name, { spec }]) => [name, instance.createMap(spec)]));
  for (const [name, { spec, contents, maps: inner }] of reach.maps) {
    const live = found(maps, name);
    for (const { key, value } of contents) live.update(key, value);
    for (const { key, map } of inner) await live.setMap(key, found(maps, map));
    // the verifier then knows what is in it
    if ((spec.flags & MapFlag.readOnlyProgram) !== 0 && live instanceof KernelMap) live.freeze();
  }
  const programs = new Map<string, LoadedProgram>();
  for (const [name, spec] of reach.programs) {
    const isHidden = instance.kind === 'kernel' && spec.type === 'socketFilter';
    programs.set(name, await instance.loadProgram(isHidden ? { ...spec, type: 'schedCls' } : spec, mapsOf(spec, maps)));
  }
  for (const [name, { programs: slots }] of reach.maps)
    for (const { slot, program: target } of slots) await found(maps, name).setProgram(slot, found(programs, target));
  return found(programs, program.name);
}

/** Follows map references, tables of programs and maps of maps. */
function reachOf(object: ElfObject, first: ObjectProgram): Reach {
  const programs = new Map([[first.name, first.spec()]]);
  const maps = new Map<string, MapDefinition>();
  const names = new Set<string>();
  // both grow while they are walked
  for (const [, { name, mapReferences }] of programs) {
    for (const { map } of mapReferences) names.add(map);
    for (const map of names) {
      if (maps.has(map)) continue;
      const definition = object.maps.get(map)?.definition();
      if (definition === undefined) throw new ArgumentError(`program ${name} names the map ${map}, which its object does not define`);
      maps.set(map, definition);
      for (const inner of definition.maps) names.add(inner.map);
      for (const { slot, program } of definition.programs) {
        if (programs.has(program)) continue;
        const target = object.programs.get(program);
        if (target === undefined) throw new ArgumentError(`slot ${slot} of map ${map} names ${program}, which is no program of its object`);
        programs.set(program, target.spec());
      }
    }
  }
  return { programs, maps };
}

/** The maps that a program names. */
function mapsOf({ mapReferences }: ProgramSpec, maps: ReadonlyMap<string, LoadedMap>): ReadonlyMap<string, LoadedMap> {
  return new Map(mapReferences.map(({ map }) => [map, found(maps, map)]));
}

function found<T>(table: ReadonlyMap<string, T>, name: string): T {
  const value = table.get(name);
  if (value === undefined) throw new ArgumentError(`there is no ${name} among ${[...table.keys()].join(', ')}`);
  return value;
}
