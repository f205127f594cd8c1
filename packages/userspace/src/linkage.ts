/** What a chain is made of: the program that packets enter and all that tail calls reach from there, as program arrays lead them. */
import type { ProgramSpec } from '@tailrace/bpf';
import type { Code } from './code.ts';
import type { FunctionGraph } from './control-flow.ts';
import type { HeldProgram } from './held.ts';
import { MAP_ENTRY_STRIDE, MAP_SHARED, MAP_VALUE_STRIDE, MAP_VALUES } from './layout.ts';
import type { LinkedProgram, MapPlace } from './linked-program.ts';
import type { SlotArray, SlotsOf } from './linker.ts';
import type { UserspaceMap } from './map.ts';
import type { Provenance } from './provenance.ts';

/** A program as chains link it. */
export interface ChainProgram {
  readonly spec: ProgramSpec;
  readonly code: Code;
  readonly graphs: readonly FunctionGraph[];
  readonly provenance: Provenance;
  readonly frames: number;
  /** Maps by the program's names for them. */
  readonly maps: ReadonlyMap<string, UserspaceMap>;
}

/** A program of a chain, and the chain's view of it. */
export interface Reached {
  readonly program: ChainProgram;
  readonly linked: LinkedProgram;
}

/** A chain at one time. */
export interface Linkage {
  /** By number, the one that packets enter first. */
  readonly programs: readonly Reached[];
  /** The program arrays in it, with their versions at that time. */
  readonly arrays: ReadonlyMap<SlotArray, number>;
}

/** Everything that can be reached from a program. */
export function linkageOf(root: ChainProgram, view: DataView, slotsOf: SlotsOf): Linkage {
  const numbers = new Map<ChainProgram, number>([[root, 0]]);
  const arrays = new Map<SlotArray, number>();
  const programs: Reached[] = [];
  // a Map can grow while it is walked
  for (const [program, index] of numbers) {
    const maps = new Map<string, MapPlace>();
    for (const [name, map] of program.maps) {
      const slots = new Map<number, number>();
      if (map.spec.type === 'programArray') {
        arrays.set(map, map.version);
        for (const [slot, target] of slotsOf(map)) {
          const reached = target as HeldProgram & ChainProgram;
          if (!numbers.has(reached)) numbers.set(reached, numbers.size);
          slots.set(slot, numbers.get(reached) as number);
        }
      }
      maps.set(name, placeOf(view, map, slots));
    }
    const { spec, code, graphs, frames } = program;
    programs.push({ program, linked: { spec, index, code, graphs, frames, maps } });
  }
  return { programs, arrays };
}

/** Whether no slot of its arrays has changed since. */
export function isCurrent({ arrays }: Linkage): boolean {
  return [...arrays].every(([array, version]) => array.version === version);
}

function placeOf(view: DataView, map: UserspaceMap, slots: ReadonlyMap<number, number>): MapPlace {
  const field = (offset: number): number => view.getUint32(map.address + offset, true);
  return {
    spec: map.spec,
    address: map.address,
    tag: map.tag,
    values: field(MAP_VALUES),
    stride: field(MAP_ENTRY_STRIDE),
    valueStride: field(MAP_VALUE_STRIDE),
    isShared: field(MAP_SHARED) !== 0,
    slots,
  };
}
