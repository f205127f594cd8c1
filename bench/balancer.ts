/**
 * The balancer of functions/l4lb as its users run it, filled by its controller, and its two twins in C over the same live
 * maps: whatever the structures hold, all variants hold the same. Only the LRU twin has vips, rings and flows of its own.
 */
import { type EngineInstance, type LoadedMap, type LoadedProgram, type MapSpec, slotCount } from '@tailrace/bpf';
import { l4lb, type VipAddress } from '@tailrace/functions/l4lb';
import { MAGLEV_SIZE } from '@tailrace/functions/structures';
import { pipeline, type RunOptions } from '@tailrace/pipeline';
import { IpProtocol, ip } from '@tailrace/stage';
import { type Assembly, assemble } from './assembly.ts';
import { capture } from './capture.ts';
import { compileTwin, twinProgram } from './clang.ts';
import { PathError } from './contest.ts';
import type { Variant } from './row.ts';

/** Where clients send to: TCP port 80, UDP port 53. */
export const VIP = '198.51.100.1';
/** Reals behind the VIP. */
const REALS = 16;
/** Flows that the LRU twin remembers: as many as one CPU does in the flow cache by default; a larger table is slower. */
const FLOWS = 131_072;
const VIPS = 2;
/** As many as a balancer takes by default. */
const MAX_VIPS = 64;

/** A balancer, ready for packets. */
export interface Balancer {
  /** The program to send packets to. */
  readonly entry: LoadedProgram;
  /** Instruction slots of the programs on the way to a real. */
  readonly insns: number;
  /** The maps that all variants share, by the twins' names. */
  readonly maps: ReadonlyMap<string, LoadedMap>;
  /** Packets that were sent on to a real. */
  forwarded(): bigint;
  /** Empties the rings: from here on only flows that are remembered get a real. */
  forgetRings(): void;
}

/** What may differ from a balancer as it comes. */
export interface BalancerOptions {
  /** Flows that it remembers, over all CPUs and for each. */
  readonly flows?: number;
  readonly flowsPerCpu?: number;
  readonly run?: RunOptions;
}

/** Loads one variant on an instance, which its owner closes. */
export async function loadBalancer(instance: EngineInstance, variant: Variant, options: BalancerOptions = {}): Promise<Balancer> {
  const reals = Array.from({ length: REALS }, (_, index) => ({
    address: `10.0.1.${index + 1}`,
    nextHop: `02:00:00:00:01:${hex(index + 1)}`,
  }));
  const vips = [
    { address: VIP, port: 80, protocol: 'tcp', health: false, reals },
    { address: VIP, port: 53, protocol: 'udp', health: false, reals },
  ] as const;
  const { run, ...capacity } = options;
  const lb = l4lb({ source: '10.0.0.1', vips, echo: false, ...capacity }).on({ notVip: 'pass' });
  const { running, root, programs, maps } = await capture(pipeline('bench', { xdp: [lb] }), instance, run);
  const controller = running.controller(lb);
  const shared = new Map(Object.entries(sharedMaps).map(([name, full]) => [name, named(maps, full)]));
  const path = programs.filter(({ spec }) => !beside.some((name) => spec.name === `l4lb.${name}`));
  const rings = named(shared, 'ring');
  const ours: Balancer = {
    entry: root,
    insns: path.reduce((sum, { spec }) => sum + slotCount(spec.instructions), 0),
    maps: shared,
    forwarded: () => controller.traffic().reduce((sum, { reals }) => reals.reduce((part, { packets }) => part + packets, sum), 0n),
    forgetRings: () => clear(rings),
  };
  if (variant === 'tailrace') return ours;
  const assembled = await assemble(instance, variant === 'c-same' ? sameTwin(shared) : lruTwin(shared));
  const twinRings = assembled.maps.get('rings');
  if (twinRings) copyRings(rings, twinRings);
  if (variant === 'c-lru') fillVips(named(assembled.maps, 'vips'), vips);
  return { ...ours, entry: assembled.entry, insns: assembled.insns, forgetRings: () => clear(twinRings ?? rings) };
}

/** What the twins call the maps of the function. */
const sharedMaps = {
  vips: 'l4lb/vips.buckets',
  vip_traffic: 'l4lb/vipTraffic',
  ring: 'l4lb/ring.lines',
  conns_near: 'l4lb/conns.near',
  conns_far: 'l4lb/conns.far',
  reals: 'l4lb/reals',
  real_traffic: 'l4lb/realTraffic',
} as const;

/** Stages that no packet of the bench passes. */
const beside = ['pick6', 'encap6', 'encap6in4', 'encapTagged', 'echo', 'icmpError', 'tooBig', 'tooBig6'];

/** Bytes of struct state in twins/l4lb_same.c and twins/l4lb_lru.c. */
const STATE_BYTES = { same: 272, lru: 64 };

function sameTwin(shared: ReadonlyMap<string, LoadedMap>): Assembly {
  const programs = compileTwin('l4lb_same', 'xdp');
  return {
    maps: new Map<string, MapSpec | LoadedMap>([
      ...shared,
      ['state', { name: 'bench/state', type: 'perCpuArray', keySize: 4, valueSize: STATE_BYTES.same, maxEntries: 1, flags: 0 }],
      ['chain', { name: 'bench/chain', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 3, flags: 0 }],
    ]),
    entry: twinProgram(programs, 'root'),
    slots: { array: 'chain', programs: ['vip', 'pick', 'encap'].map((name) => twinProgram(programs, name)) },
  };
}

function lruTwin(shared: ReadonlyMap<string, LoadedMap>): Assembly {
  return {
    maps: new Map<string, MapSpec | LoadedMap>([
      ...shared,
      ['vips', { name: 'bench/vips', type: 'hash', keySize: 8, valueSize: 4, maxEntries: 2 * MAX_VIPS, flags: 0 }],
      ['state', { name: 'bench/state', type: 'perCpuArray', keySize: 4, valueSize: STATE_BYTES.lru, maxEntries: 1, flags: 0 }],
      ['rings', { name: 'bench/rings', type: 'array', keySize: 4, valueSize: 4, maxEntries: VIPS * MAGLEV_SIZE, flags: 0 }],
      ['conns', { name: 'bench/conns', type: 'lruHash', keySize: 16, valueSize: 16, maxEntries: FLOWS, flags: 0 }],
    ]),
    entry: twinProgram(compileTwin('l4lb_lru', 'xdp'), 'l4lb'),
  };
}

/** Gives each vip its index, as the controller does: struct vip_key in twins/balancer.h to u32. */
function fillVips(map: LoadedMap, vips: readonly VipAddress[]): void {
  for (const [index, { address, port, protocol }] of vips.entries()) {
    const key = new DataView(new ArrayBuffer(8));
    key.setUint32(0, ip(address));
    key.setUint16(4, port);
    key.setUint8(6, IpProtocol[protocol]);
    map.update(new Uint8Array(key.buffer), new Uint8Array(Uint32Array.of(index).buffer));
  }
}

/** From lines of 16-bit slots, a ring's last line padded, to an array of 32-bit slots. */
function copyRings(lines: LoadedMap, rings: LoadedMap): void {
  const slots = lines.readAll().values;
  const view = new DataView(slots.buffer, slots.byteOffset, slots.byteLength);
  const lineBytes = lines.spec.valueSize;
  const ringBytes = Math.ceil((MAGLEV_SIZE * 2) / lineBytes) * lineBytes;
  const count = VIPS * MAGLEV_SIZE;
  const place = (slot: number) => Math.floor(slot / MAGLEV_SIZE) * ringBytes + (slot % MAGLEV_SIZE) * 2;
  const keys = Uint32Array.from({ length: count }, (_, slot) => slot);
  const values = Uint32Array.from({ length: count }, (_, slot) => view.getUint16(place(slot), true));
  rings.updateBatch({ count, keys: new Uint8Array(keys.buffer), values: new Uint8Array(values.buffer) });
}

function clear(map: LoadedMap): void {
  const batch = map.readAll();
  map.updateBatch({ ...batch, values: new Uint8Array(batch.values.length) });
}

function named(maps: ReadonlyMap<string, LoadedMap>, name: string): LoadedMap {
  const map = maps.get(name);
  if (!map) throw new PathError(`the balancer has no map ${name}: ${[...maps.keys()].join(', ')}`);
  return map;
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}
