/** Maps that `ctx.redirect(map, key)` sends packets through: interfaces, CPUs, AF_XDP sockets. At XDP only. */
import type { DescriptorHandle, KeyedHandle } from './handle.ts';
import { declareMap, type MapDecl, type MapOptions } from './map-decl.ts';
import type { phantom } from './resource.ts';
import { type Schema, struct, u32 } from './schema.ts';

/** What programs see of a devmap: something that `ctx.redirect` takes. */
export interface Devices {
  readonly [phantom]: 'devices';
}
/** What programs see of a cpumap: something that `ctx.redirect` takes. */
export interface Cpus {
  readonly [phantom]: 'cpus';
}
/** What programs see of an xskmap: something that `ctx.redirect` takes. */
export interface XdpSockets {
  readonly [phantom]: 'xdp sockets';
}
/** What `ctx.redirect` takes with a key. */
export type RedirectTargets = Devices | Cpus | XdpSockets;

/** How a CPU takes packets over. */
export interface CpuQueue {
  /** Packets that may wait for it, 1 to 16,384. */
  readonly qsize: number;
}

/** Interfaces to redirect to, by index: values are ifindexes. */
export interface Devmap extends MapDecl<Devices, KeyedHandle<number, number>> {
  readonly type: 'devmap';
}
/** Interfaces to redirect to, under whatever numbers: values are ifindexes. */
export interface DevmapHash extends MapDecl<Devices, KeyedHandle<number, number>> {
  readonly type: 'devmapHash';
}
/** CPUs to go on at, by their number: the network stack runs there. */
export interface Cpumap extends MapDecl<Cpus, KeyedHandle<number, CpuQueue>> {
  readonly type: 'cpumap';
}
/** AF_XDP sockets to hand packets to, by index; usually that of the queue which they are bound to. */
export interface Xskmap extends MapDecl<XdpSockets, DescriptorHandle<number>> {
  readonly type: 'xskmap';
}

const cpuQueue: Schema<CpuQueue> = struct({ qsize: u32 });

/** Declares a table of interfaces for `ctx.redirect(devmap, index)`. Throws ArgumentError for options that no kernel takes, as all of these do. */
export function devmap(options: MapOptions): Devmap {
  return declareMap('devmap', options, { key: u32, value: u32 });
}

/** Declares a table of interfaces whose keys are any u32: a VLAN, say, or the ifindex itself. */
export function devmapHash(options: MapOptions): DevmapHash {
  return declareMap('devmapHash', options, { key: u32, value: u32 });
}

/** Declares a table of CPUs; `maxEntries` is at most the number of CPUs that the kernel is built for. */
export function cpumap(options: MapOptions): Cpumap {
  return declareMap('cpumap', options, { key: u32, value: cpuQueue });
}

/** Declares a table of AF_XDP sockets. */
export function xskmap(options: MapOptions): Xskmap {
  return declareMap('xskmap', options, { key: u32, value: u32 });
}
