/** What a TC program sees and changes of a packet beside its bytes, simulated: fields, tunnel metadata, clones. */
import type { SkbContext } from '@tailrace/bpf';
import { decode, TunnelKey } from '@tailrace/stage';
import { bytesOf, type Place, readPlace, SimulationError } from './live-view.ts';
import type { SimulatedPacket } from './simulated-packet.ts';

/** Which addresses a tunnel's metadata have. */
export type TunnelFamily = 'ipv4' | 'ipv6';

/** Metadata of a tunnel. */
export interface SimulatedTunnel {
  readonly key: TunnelKey;
  /** Default `ipv4`. */
  readonly family?: TunnelFamily;
}

/** What is known of a packet at TC besides its bytes. */
export interface SimulatedSkbOptions extends Omit<SkbContext, 'cb'> {
  /** `ctx.hash`; default 0. */
  readonly hash?: number;
  /** Of the tunnel that the packet came out of; default none. */
  readonly tunnel?: SimulatedTunnel;
  /** Interfaces that clones can go to; default any. */
  readonly interfaces?: readonly number[];
}

/** What a TC program left of a packet besides its bytes. */
export interface SimulatedSkbResult {
  readonly mark: number;
  readonly priority: number;
  readonly queue: number;
  /** What `setTunnelKey` said last, or what was there. */
  readonly tunnel?: Required<SimulatedTunnel>;
  readonly clones: readonly SimulatedClone[];
}

/** A copy that was sent. */
export interface SimulatedClone {
  readonly ifindex: number;
  readonly packet: Uint8Array;
}

/** The fields of one packet at TC. */
export class SimulatedSkb {
  readonly segments: number;
  readonly hash: number;
  readonly ifindex: number;
  readonly ingressIfindex: number;
  readonly #clones: SimulatedClone[] = [];
  readonly #interfaces: readonly number[] | undefined;
  #tunnel: { readonly bytes: Uint8Array; readonly family: TunnelFamily } | undefined;
  #mark: number;
  #priority: number;
  #queue: number;

  constructor({ gsoSegments = 0, hash = 0, ifindex = 1, ingressIfindex = 0, interfaces, tunnel, ...fields }: SimulatedSkbOptions = {}) {
    this.segments = Math.max(1, gsoSegments);
    this.hash = hash;
    // 0 is the loopback device too, as in the kernel's test runs.
    this.ifindex = ifindex === 0 ? 1 : ifindex;
    this.ingressIfindex = ingressIfindex;
    this.#interfaces = interfaces;
    this.#tunnel = tunnel && { bytes: bytesOf(TunnelKey.layout, tunnel.key), family: tunnel.family ?? 'ipv4' };
    this.#mark = fields.mark ?? 0;
    this.#priority = fields.priority ?? 0;
    this.#queue = fields.queue ?? 0;
  }

  get mark(): number {
    return this.#mark;
  }

  set mark(value: unknown) {
    this.#mark = stored('mark', value);
  }

  get priority(): number {
    return this.#priority;
  }

  set priority(value: unknown) {
    this.#priority = stored('priority', value);
  }

  get queue(): number {
    return this.#queue;
  }

  /** The kernel leaves the queue as it is for 0xffff and more (NO_QUEUE_MAPPING, include/linux/skbuff.h). */
  set queue(value: unknown) {
    const queue = stored('queue', value);
    if (queue >= 0xffff) throw new SimulationError(`ctx.queue is set to ${queue}, expected 0..65534`);
    this.#queue = queue;
  }

  /** A copy; undefined where there are none, or of the other family (bpf_skb_get_tunnel_key). */
  tunnelKey(family: TunnelFamily = 'ipv4'): unknown {
    if (this.#tunnel?.family !== family) return undefined;
    const place: Place = { memory: new DataView(this.#tunnel.bytes.slice().buffer), offset: 0 };
    return readPlace(TunnelKey.layout, place);
  }

  /** Only IPv6 has a flow label, of 20 bits; there is nothing in `extra` (bpf_skb_set_tunnel_key). */
  setTunnelKey(key: unknown, family: TunnelFamily = 'ipv4'): boolean {
    const bytes = bytesOf(TunnelKey.layout, key);
    const { label, extra } = readPlace(TunnelKey.layout, { memory: new DataView(bytes.buffer), offset: 0 }) as TunnelKey;
    if (extra !== 0 || label > (family === 'ipv6' ? 0xfffff : 0)) return false;
    this.#tunnel = { bytes, family };
    return true;
  }

  /** Notes the copy. Headers that were got before are stale after it: the kernel may have moved the packet meanwhile. */
  clone(packet: SimulatedPacket, ifindex: number): boolean {
    packet.move('ctx.clone()');
    if (this.#interfaces?.includes(ifindex) === false) return false;
    this.#clones.push({ ifindex, packet: packet.bytes() });
    return true;
  }

  result(): SimulatedSkbResult {
    const { mark, priority, queue } = this;
    const tunnel = this.#tunnel && { key: decode(TunnelKey, this.#tunnel.bytes), family: this.#tunnel.family };
    return { mark, priority, queue, clones: this.#clones, ...(tunnel ? { tunnel } : {}) };
  }
}

function stored(name: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value))
    throw new SimulationError(`ctx.${name} is set to ${String(value)}, expected a number`);
  return Number(BigInt.asUintN(32, BigInt(value)));
}
