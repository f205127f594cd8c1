/**
 * The oracle: a stage's body run as the plain JavaScript it is, over a simulated packet and simulated maps. Compiled
 * programs must do the same on every packet; differential tests hold them to it, and a debugger or a coverage tool sees
 * the stage's own source. Time, randomness and the CPU are what the options say.
 */
import { ArgumentError } from '@tailrace/bpf';
import { type AnyStage, decodeFrom, encodeInto, type Schemas } from '@tailrace/stage';
import { checksum, fold } from './checksum.ts';
import { type Place, readPlace, SimulationError, writePlace } from './live-view.ts';
import type { Outcome } from './outcome.ts';
import { frameBytes, type Packet } from './packet.ts';
import { SimulatedMaps } from './simulated-map.ts';
import { SimulatedPacket } from './simulated-packet.ts';
import { bagOf, redirectMapOf } from './simulated-uses.ts';

/** What a simulated program finds. All defaults are fixed: two simulations of one packet are the same. */
export interface SimulationOptions {
  /** State that several simulations share; default fresh maps. */
  readonly maps?: SimulatedMaps;
  /** Metadata that earlier stages wrote; a field that is not given is zero. */
  readonly meta?: Readonly<Record<string, unknown>>;
  /** `ctx.now()` and `ctx.nowCoarse()`, in ns; default 0. */
  readonly now?: bigint;
  /** The values of `ctx.random()`, one after the other and then again; default 0. */
  readonly random?: readonly number[];
  /** Default 0. Per-CPU maps have one CPU whatever it is. */
  readonly cpu?: number;
  /** Default 1. */
  readonly ingressIfindex?: number;
  /** Default 0. */
  readonly rxQueue?: number;
}

/** What came of it. */
export interface SimulationResult extends Outcome {
  /** The packet as the stage left it. */
  readonly packet: Uint8Array;
  /** All metadata that the stage declares, as it left it. */
  readonly meta: Readonly<Record<string, unknown>>;
  /** The maps, for more simulations. */
  readonly maps: SimulatedMaps;
}

/**
 * Runs a stage on one packet. Throws SimulationError where the body does what the compiler refuses (a stale header, a
 * value of the wrong kind, no verdict), ArgumentError for stages of other hooks than XDP.
 */
export function simulate(stage: AnyStage, frame: Packet | Uint8Array, options: SimulationOptions = {}): SimulationResult {
  if (stage.hook !== 'xdp') throw new ArgumentError(`stage '${stage.name}' has hook '${stage.hook}', only 'xdp' can be simulated`);
  const { maps = new SimulatedMaps() } = options;
  const packet = new SimulatedPacket(frameBytes(frame));
  const meta = new Metadata({ ...stage.reads, ...stage.writes }, options.meta ?? {});
  const program = stage.program as unknown as (this: void, ctx: unknown, uses: unknown) => unknown;
  const verdicts = new WeakSet<object>();
  const leave = (outcome: Outcome): Outcome => {
    const verdict = Object.freeze(outcome);
    verdicts.add(verdict);
    return verdict;
  };
  const returned = program(contextOf(packet, meta, maps, options, leave), bagOf(stage.uses, maps));
  if (typeof returned !== 'object' || returned === null || !verdicts.has(returned))
    throw new SimulationError(`stage '${stage.name}' returned ${String(returned)}, expected a verdict`);
  return { ...(returned as Outcome), packet: packet.bytes(), meta: meta.values(), maps };
}

function contextOf(
  packet: SimulatedPacket,
  meta: Metadata,
  maps: SimulatedMaps,
  options: SimulationOptions,
  leave: (outcome: Outcome) => Outcome,
): object {
  const { now = 0n, random = [0], cpu = 0, ingressIfindex = 1, rxQueue = 0 } = options;
  let drawn = 0;
  return Object.freeze({
    get length() {
      return packet.length;
    },
    meta: meta.view,
    ingressIfindex,
    rxQueue,
    next: () => leave({ verdict: 'next' }),
    exit: (label: string) => leave({ verdict: 'exit', exit: label }),
    pass: () => leave({ verdict: 'pass' }),
    drop: () => leave({ verdict: 'drop' }),
    tx: () => leave({ verdict: 'tx' }),
    abort: () => leave({ verdict: 'abort' }),
    redirect: (target: unknown, key?: number) => leave(redirect(target, key, maps)),
    ethernet: () => packet.ethernet(),
    ipv4: () => packet.ipv4(),
    ipv6: () => packet.ipv6(),
    tcp: () => packet.transport('tcp'),
    udp: () => packet.transport('udp'),
    icmp: () => packet.transport('icmp'),
    icmpv6: () => packet.transport('icmpv6'),
    ports: () => packet.transport('ports'),
    at: (schema: { readonly layout: Parameters<SimulatedPacket['at']>[0] }, offset: number) => packet.at(schema.layout, offset),
    offsetOf: (header: unknown) => packet.offsetOf(header),
    checksum: (header: unknown, length?: number) => headerChecksum(packet, header, length),
    checksumReplace,
    adjustHead: (delta: number) => packet.adjustHead(delta),
    adjustTail: (delta: number) => packet.adjustTail(delta),
    now: () => now,
    nowCoarse: () => now,
    random: () => (random[drawn++ % random.length] ?? 0) >>> 0,
    cpu: () => cpu,
  });
}

/** A map without an entry under the key makes it an abort (`bpf_redirect_map` without flags). */
function redirect(target: unknown, key: number | undefined, maps: SimulatedMaps): Outcome {
  if (typeof target === 'number') return { verdict: 'redirect', redirect: { ifindex: target } };
  const map = redirectMapOf(target);
  if (map === undefined || key === undefined) throw new SimulationError('redirect takes an interface, or a map of targets and a key');
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, key, true);
  return maps.of(map).lookup(bytes) === undefined ? { verdict: 'abort' } : { verdict: 'redirect', redirect: { map, key } };
}

/** Whole words of 4 bytes as long as both `length` and the packet have more, as compiled programs take them. */
function headerChecksum(packet: SimulatedPacket, header: unknown, length = packet.sizeOf(header)): number {
  const offset = packet.offsetOf(header);
  const words = Math.min(Math.ceil(length / 4), Math.floor((packet.length - offset) / 4));
  return checksum(packet.slice(offset, 4 * words));
}

/** RFC 1624, equation 3, over 32-bit words: ~(~check + ~from + to). */
function checksumReplace(check: number, from: number, to: number): number {
  const halves = (word: number): number => (word >>> 16) + (word & 0xffff);
  return ~fold((~check & 0xffff) + halves(~from >>> 0) + halves(to >>> 0)) & 0xffff;
}

/** Metadata fields, each in memory of its own. */
class Metadata {
  readonly view: object;
  readonly #fields: readonly (readonly [name: string, layout: Schemas[string]['layout'], place: Place])[];

  constructor(schemas: Schemas, initial: Readonly<Record<string, unknown>>) {
    this.#fields = Object.entries(schemas).map(([name, { layout }]) => [
      name,
      layout,
      { memory: new DataView(new ArrayBuffer(layout.size)), offset: 0 },
    ]);
    const view = {};
    for (const [name, layout, place] of this.#fields) {
      if (name in initial) encodeInto(layout, initial[name], place.memory, 0, name);
      Object.defineProperty(view, name, {
        enumerable: true,
        get: () => readPlace(layout, place),
        set: (value: unknown) => writePlace(layout, place, value),
      });
    }
    for (const name of Object.keys(initial))
      if (!(name in view)) throw new ArgumentError(`metadata '${name}' is not declared by the stage`);
    this.view = Object.preventExtensions(view);
  }

  /** Copies of all fields. */
  values(): Record<string, unknown> {
    return Object.fromEntries(this.#fields.map(([name, layout, place]) => [name, decodeFrom(layout, place.memory, 0)]));
  }
}
