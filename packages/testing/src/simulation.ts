/**
 * The oracle: a stage's body run as the plain JavaScript it is, over a simulated packet and simulated maps. Compiled
 * programs must do the same on every packet; differential tests hold them to it, and a debugger or a coverage tool sees
 * the stage's own source. Time, randomness and the CPU are what the options say.
 */
import { ArgumentError } from '@tailrace/bpf';
import { type AnyStage, decodeFrom, encodeInto, type Hook, type Schemas } from '@tailrace/stage';
import { type Place, readPlace, SimulationError, writePlace } from './live-view.ts';
import type { Outcome } from './outcome.ts';
import { frameBytes, type Packet } from './packet.ts';
import { type ContextParts, tcContext, xdpContext } from './simulated-context.ts';
import type { OffloadedVlan } from './simulated-headers.ts';
import { SimulatedMaps } from './simulated-map.ts';
import { tag } from './simulated-moves.ts';
import { SimulatedPacket } from './simulated-packet.ts';
import type { SimulatedSkbOptions, SimulatedSkbResult } from './simulated-skb.ts';
import { bagOf } from './simulated-uses.ts';
import { stageAt } from './stage-at.ts';

/** What a simulated program finds. All defaults are fixed: two simulations of one packet are the same. */
export interface SimulationOptions {
  /** The hook to run at; default the stage's own. */
  readonly hook?: Hook;
  /** State that several simulations share; default fresh maps. */
  readonly maps?: SimulatedMaps;
  /** Metadata that earlier stages wrote; a field that is not given is zero. */
  readonly meta?: Readonly<Record<string, unknown>>;
  /** At TC: what is known of the packet besides its bytes. */
  readonly skb?: SimulatedSkbOptions;
  /** At TC: the outer VLAN tag, which the driver took out of the frame. */
  readonly offloadedVlan?: OffloadedVlan;
  /** `ctx.now()` and `ctx.nowCoarse()`, in ns; default 0. */
  readonly now?: bigint;
  /** The values of `ctx.random()`, one after the other and then again; default 0. */
  readonly random?: readonly number[];
  /** Default 0. Per-CPU maps have one CPU whatever it is. */
  readonly cpu?: number;
  /** At XDP; default 1. */
  readonly ingressIfindex?: number;
  /** At XDP; default 0. */
  readonly rxQueue?: number;
}

/** What came of it. */
export interface SimulationResult extends Outcome {
  /** The packet as the stage left it, without a tag that the card puts in. */
  readonly packet: Uint8Array;
  /** At TC: the outer VLAN tag, where the card is going to put it in. */
  readonly offloadedVlan?: OffloadedVlan;
  /** At TC: what the stage left besides the packet's bytes. */
  readonly skb?: SimulatedSkbResult;
  /** All metadata that the stage declares, as it left it. */
  readonly meta: Readonly<Record<string, unknown>>;
  /** The maps, for more simulations. */
  readonly maps: SimulatedMaps;
}

/**
 * Runs a stage on one packet. Throws SimulationError where the body does what the compiler refuses (a stale header, a
 * value of the wrong kind, no verdict), ArgumentError for stages of sockets' hooks and for options of another hook.
 */
export function simulate(stage: AnyStage, frame: Packet | Uint8Array, options: SimulationOptions = {}): SimulationResult {
  const subject = stageAt(stage, options.hook ?? stage.hook);
  const { maps = new SimulatedMaps(), offloadedVlan } = options;
  const isTc = subject.hook.startsWith('tc');
  if (!isTc && subject.hook !== 'xdp')
    throw new ArgumentError(`stage '${stage.name}' has hook '${subject.hook}', only 'xdp' and those of TC can be simulated`);
  if (!isTc && (options.skb !== undefined || offloadedVlan !== undefined))
    throw new ArgumentError(`stage '${stage.name}' has hook 'xdp', where a packet is its bytes alone: no skb, no offloadedVlan`);
  const packet = new SimulatedPacket(frameBytes(frame), offloadedVlan);
  const meta = new Metadata({ ...subject.reads, ...subject.writes }, options.meta ?? {});
  const verdicts = new WeakSet<object>();
  const parts: ContextParts = {
    stage: subject,
    packet,
    meta: meta.view,
    maps,
    machine: { now: 0n, random: [0], cpu: 0, ingressIfindex: 1, rxQueue: 0, ...options },
    leave: (outcome) => {
      const verdict = Object.freeze(outcome);
      verdicts.add(verdict);
      return verdict;
    },
  };
  const { ctx, skb } = isTc ? tcContext(parts, options.skb) : { ctx: xdpContext(parts), skb: undefined };
  const program = subject.program as unknown as (this: void, ctx: unknown, uses: unknown) => unknown;
  const returned = program(ctx, bagOf(subject.uses, maps));
  if (typeof returned !== 'object' || returned === null || !verdicts.has(returned))
    throw new SimulationError(`stage '${stage.name}' returned ${String(returned)}, expected a verdict`);
  return {
    ...(returned as Outcome),
    packet: packet.bytes(),
    meta: meta.values(),
    maps,
    ...(packet.offloadedVlan === undefined ? {} : { offloadedVlan: packet.offloadedVlan }),
    ...(skb === undefined ? {} : { skb: skb.result() }),
  };
}

/** The packet as it goes onto the wire: with the tag that the card puts in. */
export function onWire({ packet, offloadedVlan }: Pick<SimulationResult, 'packet' | 'offloadedVlan'>): Uint8Array {
  if (offloadedVlan === undefined) return packet;
  return Uint8Array.from([...packet.subarray(0, 12), ...tag(offloadedVlan), ...packet.subarray(12)]);
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
