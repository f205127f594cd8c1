/** Suites over one stage that stands alone, at the hook that it is for, beside a C twin that uses equal maps. */
import type { AttachHook, LoadedMap, MapSpec } from '@tailrace/bpf';
import { compileStage } from '@tailrace/compiler';
import { type AnyMap, type AnyStage, toMapSpec } from '@tailrace/stage';
import { type Assembly, assemble } from './assembly.ts';
import { clangMissing, compileTwin } from './clang.ts';
import { type Contest, type Entrant, measure, PathError } from './contest.ts';
import { type Restoration, restorationFloors, restore } from './restore.ts';
import { type Row, type Suite, withRatios } from './row.ts';

/** A stage and what is to be measured of it. */
export interface SingleStage {
  readonly name: string;
  readonly about: string;
  readonly stage: AnyStage;
  /** The file in `twins/`, without `.c`; its only function is the twin. */
  readonly twin: string;
  readonly cases: readonly SingleCase[];
}

/** One packet, and the way it goes. */
export interface SingleCase {
  readonly name: string;
  readonly packet: Uint8Array;
  /** The verdict as test runs tell it. */
  readonly returnValue: number;
  /** Fills the maps, named as declared. */
  readonly prepare?: (maps: NamedMaps) => void;
  /** Set: the stage changes the packet, and this undoes it between runs. */
  readonly restoration?: Restoration;
  /** How many packets went this way, by the maps' counters; a stage that changes nothing has no other way to go. */
  readonly counted?: (maps: NamedMaps) => bigint;
}

/** The live map of that declared name. Throws PathError where no program uses one. */
export type NamedMaps = (name: string) => LoadedMap;

/** Makes the suite. */
export function singleStage({ name, about, stage, twin, cases }: SingleStage): Suite {
  const hook = hookOf(stage);
  return {
    name,
    hook,
    about,
    cases: cases.map((one) => one.name),
    async run(effort, wanted) {
      const rows: Row[] = [];
      for (const one of cases)
        if (wanted(one.name))
          rows.push(
            ...(await measure({ suite: name, hook, ...one, ...floorsOf(one), entrants: singleEntrants(stage, twin, one) }, effort)),
          );
      const reason = clangMissing();
      return { rows: withRatios(rows), notes: reason === null ? [] : [reason] };
    },
  };
}

/** Both sides of one case; `defines` are for the twin. */
export function singleEntrants(
  stage: AnyStage,
  twin: string,
  one: SingleCase,
  defines: Readonly<Record<string, number>> = {},
): readonly Entrant[] {
  const { program, maps } = compileStage(stage);
  const ours = entrant('tailrace', one, { maps: specs(maps, (reference) => reference), entry: program });
  if (clangMissing() !== null) return [ours];
  const [entry] = compileTwin(twin, hookOf(stage), defines).values();
  if (!entry) throw new PathError(`twins/${twin}.c has no program`);
  return [ours, entrant('c-same', one, { maps: specs(maps, (_, { name }) => name), entry })];
}

/** The hook that a stage is measured at. Throws PathError for those that the bench has no harness for. */
export function hookOf({ name, hook }: AnyStage): AttachHook {
  if (hook === 'xdp' || hook === 'tcIngress' || hook === 'tcEgress') return hook;
  throw new PathError(`stage '${name}' is for ${hook}, expected xdp, tcIngress or tcEgress`);
}

function floorsOf({ restoration }: SingleCase): Pick<Contest, 'floors'> {
  return restoration ? { floors: restorationFloors(restoration) } : {};
}

function entrant(variant: Entrant['variant'], { prepare, counted, restoration }: SingleCase, assembly: Assembly): Entrant {
  return {
    variant,
    async load(instance) {
      const { entry, maps, insns } = await assemble(instance, assembly);
      const byName = new Map([...maps.values()].map((map) => [map.spec.name, map]));
      const named: NamedMaps = (name) => {
        const map = byName.get(name);
        if (!map) throw new PathError(`program ${entry.spec.name} uses no map ${name}`);
        return map;
      };
      prepare?.(named);
      const restored = restoration && (await restore(instance, entry, restoration));
      return {
        entry: restored?.entry ?? entry,
        insns,
        maps: byName,
        verify(runs) {
          const count = counted?.(named) ?? runs;
          const changed = restored?.changed() ?? runs;
          // The last packet of a run is handed back instead of being restored.
          if (count < runs || changed < runs - 1)
            throw new PathError(`${count} of ${runs} packets went the way that ${entry.spec.name} is measured on`);
        },
      };
    },
  };
}

/** Blueprints of declared maps under the names that a program has for them; each keeps its declared name as its own. */
function specs(maps: ReadonlyMap<string, AnyMap>, name: (reference: string, map: AnyMap) => string): ReadonlyMap<string, MapSpec> {
  return new Map([...maps].map(([reference, map]) => [name(reference, map), toMapSpec(map, map.name)]));
}
