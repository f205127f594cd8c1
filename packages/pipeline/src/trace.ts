/**
 * The ways of packets through their chains, put together from records. A way is whole or not told: every step has a number, so
 * that one whose record was lost shows.
 */
import type { WayOutRecord } from '@tailrace/compiler';
import type { ChainVerdict, PacketHook } from './chain-hook.ts';
import type { Observation } from './observation.ts';
import type { PathStep } from './path.ts';
import { type SeenPacket, type WayOut, wayOutOf } from './way-out.ts';

/** A stage on a packet's way, and the packet as the stage left it. */
export interface TracedStep<N extends string = string> extends PathStep<N>, SeenPacket {}

/** The way of a packet through one chain. */
export interface TracedPath<K extends PacketHook = PacketHook, N extends string = string> {
  readonly hook: K;
  /** In order, as `PathStep` has them. */
  readonly steps: readonly TracedStep<N>[];
  readonly verdict: ChainVerdict;
  readonly cpu: number;
  /** Records of traces that found the ring full so far; the ways that they were of are not told. */
  readonly lost: bigint;
}

/**
 * Packets that can be on their way through one chain on one CPU: one and, at TC, copies that it makes of itself, as deep as the
 * kernel lets them be (XMIT_RECURSION_LIMIT, include/linux/netdevice.h) and then some.
 */
const MOST_OPEN = 16;

interface Open {
  readonly number: number;
  readonly steps: TracedStep[];
}

/** Puts records together, in the order of their ring. */
export class PathAssembler {
  readonly #observation: Observation;
  /** By chain and CPU, oldest first. */
  readonly #open = new Map<string, Open[]>();

  constructor(observation: Observation) {
    this.#observation = observation;
  }

  /** Takes a record; gives a way that it completes. Throws ArgumentError for a record that no stage writes. */
  take(record: WayOutRecord): Omit<TracedPath, 'lost'> | undefined {
    const way = wayOutOf(this.#observation, record, (this.#observation.trace?.headerBytes ?? 0) > 0);
    const [number, step] = [record.packet >>> 8, record.packet & 0xff];
    const open = this.#openAt(`${way.hook} ${record.cpu}`);
    if (step === 1) {
      open.push({ number, steps: [] });
      if (open.length > MOST_OPEN) open.shift();
    }
    const packet = open.find((other) => other.number === number);
    if (packet === undefined) return undefined;
    const isNext = step === packet.steps.length + 1;
    if (!isNext || way.verdict !== undefined) open.splice(open.indexOf(packet), 1);
    if (!isNext) return undefined;
    add(packet.steps, way);
    return way.verdict === undefined ? undefined : { hook: way.hook, steps: packet.steps, verdict: way.verdict, cpu: way.cpu };
  }

  #openAt(key: string): Open[] {
    const open = this.#open.get(key) ?? [];
    this.#open.set(key, open);
    return open;
  }
}

/** A miss is no step of its own: it belongs to the one before. */
function add(steps: TracedStep[], { step, seen }: WayOut): void {
  if ('verdict' in step) {
    steps.push({ ...step, ...seen });
    return;
  }
  const last = steps.pop();
  if (last !== undefined) steps.push({ ...last, missed: true });
}
