/** The bag of a simulated program: maps over simulated ones, fns as plain functions, constants as they are. */
import { type AnyMap, asUse, type FnDecl, hashBytes, type Intrinsic } from '@tailrace/stage';
import { bytesOf, SimulationError, sameValues } from './live-view.ts';
import type { SimulatedMaps } from './simulated-map.ts';
import { programMap } from './simulated-program-map.ts';

/** What a map of interfaces, CPUs or AF_XDP sockets is in a program: something for `ctx.redirect`. */
const targets = new WeakMap<object, AnyMap>();

/** The map for `ctx.redirect` behind what a program was given; undefined for any other value. */
export function redirectMapOf(value: unknown): AnyMap | undefined {
  return typeof value === 'object' && value !== null ? targets.get(value) : undefined;
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
  switch (map.type) {
    case 'devmap':
    case 'devmapHash':
    case 'cpumap':
    case 'xskmap': {
      const opaque = Object.freeze({});
      targets.set(opaque, map);
      return opaque;
    }
    case 'programArray':
    case 'perfEventArray':
    case 'sockmap':
    case 'sockhash':
      return Object.freeze({});
    default:
      return programMap(map, maps.of(map));
  }
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
