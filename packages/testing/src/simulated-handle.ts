/** The control plane's side of a simulation: typed handles over simulated maps, as a running pipeline gives them over live ones. */
import { ArgumentError } from '@tailrace/bpf';
import { EngineMapRegistry } from '@tailrace/pipeline';
import { mapsIn, type Resource } from '@tailrace/stage';
import { SimulatedMap, type SimulatedMaps } from './simulated-map.ts';

/** The typed handle of a map or structure, over the maps that simulated stages work on. */
export function simulatedHandle<H>(maps: SimulatedMaps, resource: Resource<unknown, H>): H {
  const declared = mapsIn({ resource });
  const registry = new EngineMapRegistry({
    createMap(spec) {
      const map = declared.find(({ name }) => spec.name === `simulation/${name}`);
      const isInner = declared.some(({ name, inner }) => inner && spec.name === `${name}.${inner.name}`);
      if (map === undefined && isInner) return new SimulatedMap(spec);
      if (map === undefined) throw new ArgumentError(`'${resource.name}' has no map '${spec.name}'`);
      return maps.of(map);
    },
    openRing(loaded, onReadable) {
      const ring = loaded instanceof SimulatedMap ? loaded.ring : undefined;
      if (ring === undefined) throw new ArgumentError(`map ${loaded.spec.name} is no simulated ring buffer`);
      return ring.open(onReadable);
    },
  });
  registry.hold(declared.map((map) => ({ map, scope: 'simulation', user: resource.name })));
  return registry.handle(resource);
}
