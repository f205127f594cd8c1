/** The bag of a simulated program: maps over simulated ones, fns as plain functions, constants as they are. */
import type { UpdateFlag } from '@tailrace/bpf';
import { type AnyMap, asUse, type FnDecl, hashBytes, type Intrinsic } from '@tailrace/stage';
import { bytesOf, refTo, SimulationError, sameValues } from './live-view.ts';
import type { SimulatedMaps } from './simulated-map.ts';

/** What a devmap is in a program: something for `ctx.redirect`. */
const devmaps = new WeakMap<object, AnyMap>();

/** The devmap behind what a program was given; undefined for any other value. */
export function devmapOf(value: unknown): AnyMap | undefined {
  return typeof value === 'object' && value !== null ? devmaps.get(value) : undefined;
}

/** What a body gets as its last parameter for `uses`. */
export function bagOf(uses: Readonly<Record<string, unknown>>, maps: SimulatedMaps): Readonly<Record<string, unknown>> {
  return Object.freeze(Object.fromEntries(Object.entries(uses).map(([name, value]) => [name, inProgram(value, maps)])));
}

function inProgram(value: unknown, maps: SimulatedMaps): unknown {
  const use = asUse(value);
  switch (use?.kind) {
    case undefined:
      return value;
    case 'map':
      return mapInProgram(use, maps);
    case 'structure':
      return bagOf(use.fns, maps);
    case 'fn':
      return callable(use, maps);
    case 'intrinsic':
      return intrinsic(use);
  }
}

function mapInProgram(map: AnyMap, maps: SimulatedMaps): object {
  if (map.type === 'devmap' || map.type === 'programArray') {
    const opaque = Object.freeze({});
    if (map.type === 'devmap') devmaps.set(opaque, map);
    return opaque;
  }
  const simulated = maps.of(map);
  const key = (value: unknown): Uint8Array => bytesOf((map.key ?? map.value).layout, value);
  const lookup = (wanted: unknown): unknown => {
    const found = simulated.reference(key(wanted));
    return found && refTo(map.value.layout, { memory: new DataView(found.buffer, found.byteOffset, found.length), offset: 0 });
  };
  if (map.type === 'array' || map.type === 'perCpuArray')
    return Object.freeze({ lookup: (index: unknown) => (isIndex(index) ? lookup(index) : undefined) });
  return Object.freeze({
    lookup,
    update(wanted: unknown, value: unknown, flag?: UpdateFlag): boolean {
      const bytes = new Uint8Array(simulated.valueStride);
      bytes.set(bytesOf(map.value.layout, value));
      return simulated.tryUpdate(key(wanted), bytes, flag) === 'written';
    },
    delete: (wanted: unknown): boolean => simulated.delete(key(wanted)),
  });
}

function isIndex(index: unknown): boolean {
  if (typeof index !== 'number' || !Number.isInteger(index) || index < 0 || index > 0xffff_ffff)
    throw new SimulationError(`an array is asked for ${String(index)}, expected 32 unsigned bits`);
  return true;
}

function callable(fn: FnDecl, maps: SimulatedMaps): (...args: readonly unknown[]) => unknown {
  const body = fn.body as (this: void, ...args: readonly unknown[]) => unknown;
  const bag = fn.uses === undefined ? [] : [bagOf(fn.uses, maps)];
  return (...args) => {
    if (args.length !== fn.args.length) throw new SimulationError(`a fn of ${fn.args.length} arguments is called with ${args.length}`);
    return body(...args, ...bag);
  };
}

function intrinsic({ name, schema: { layout } }: Intrinsic): (...args: readonly unknown[]) => unknown {
  return name === 'hashOf' ? (key) => hashBytes(bytesOf(layout, key)) : (a, b) => sameValues(layout, a, b);
}
