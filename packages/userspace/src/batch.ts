/**
 * Batches: packets are laid side by side in the engine's memory, run one after the other, and read where they lie. At XDP the
 * whole batch runs inside of WebAssembly; at TC each packet has a context of its own, and is run by itself.
 */
import { ArgumentError, type BatchPacket, type BatchResult, type LoadedMap, type Redirect } from '@tailrace/bpf';
import type { Chain } from './chain.ts';
import { Descriptor } from './chain-module.ts';
import { flowHash } from './flow-hash.ts';
import {
  ANSWER_KEY,
  ANSWER_KIND,
  ANSWER_REDIRECT,
  ANSWER_TARGET,
  CLOCK_NOW,
  CONTEXT_SIZE,
  KIND_NEIGHBOUR,
  KIND_PEER,
  PACKET_HEADROOM,
  REDIRECT_INTERFACE,
  REDIRECT_NONE,
  SHARED,
  WORKER_ANSWER,
  WORKER_CONTEXT,
  XDP_INGRESS_INDEX,
} from './layout.ts';
import { enterSkb, enterXdp, packetEnds, roomBytes } from './packet-state.ts';
import type { WorkerContext } from './worker-context.ts';

/** Packets that are run at a time: results should not wait long, and memory for them is bounded. */
const BATCH_LIMIT = 1024;
const CACHE_LINE = 64;
/** ETH_HLEN: nothing runs without a whole Ethernet header. */
const SHORTEST = 14;
const LOOPBACK = 1;

/** What came of a packet where it lies: views are made when they are asked for, until the next batch. */
class SlotResult implements BatchResult {
  readonly returnValue: number;
  readonly #u8: Uint8Array;
  readonly #words: Uint32Array;
  /** Its descriptor, in words. */
  readonly #at: number;
  readonly #redirectAt: (words: Uint32Array, at: number) => Redirect | undefined;

  constructor(u8: Uint8Array, words: Uint32Array, at: number, redirectAt: (words: Uint32Array, at: number) => Redirect | undefined) {
    this.#u8 = u8;
    this.#words = words;
    this.#at = at;
    this.#redirectAt = redirectAt;
    this.returnValue = words[at + Descriptor.verdict / 4] as number;
  }

  get packet(): Uint8Array {
    return this.#view(Descriptor.data, Descriptor.end) ?? this.#u8.subarray(0, 0);
  }

  get metadata(): Uint8Array | undefined {
    return this.#view(Descriptor.meta, Descriptor.data);
  }

  get redirect(): Redirect | undefined {
    return this.#redirectAt(this.#words, this.#at);
  }

  /** Bytes from one field's address to another's; undefined where there are none. */
  #view(from: number, to: number): Uint8Array | undefined {
    const [start, end] = [this.#words[this.#at + from / 4] as number, this.#words[this.#at + to / 4] as number];
    return start === end ? undefined : this.#u8.subarray(start, end);
  }
}

/** Where packets stand so that each worker's lie side by side, in the order in which they came. */
interface FlowOrder {
  /** Places by the packets' own order. */
  readonly places: readonly number[];
  /** By worker: its first place, and how many it has. */
  readonly shares: readonly { readonly from: number; readonly count: number }[];
}

function placesByFlow(packets: readonly BatchPacket[], workers: number): FlowOrder {
  if (workers === 1) return { places: packets.map((_, index) => index), shares: [{ from: 0, count: packets.length }] };
  const owners = packets.map(({ packet }) => flowHash(packet) % workers);
  const counts = Array.from({ length: workers }, (_, worker) => owners.filter((owner) => owner === worker).length);
  const firsts = counts.map((_, worker) => counts.slice(0, worker).reduce((sum, count) => sum + count, 0));
  const next = [...firsts];
  const places = owners.map((owner) => {
    const place = next[owner] as number;
    next[owner] = place + 1;
    return place;
  });
  return { places, shares: counts.map((count, worker) => ({ from: firsts[worker] as number, count })) };
}

/** Room for batches of one chain; it is given back by `close`. */
export class BatchRoom {
  readonly #chain: Chain;
  readonly #context: WorkerContext;
  /** The map behind a descriptor's address. */
  readonly #mapAt: (address: number) => LoadedMap | undefined;
  #room = { address: 0, bytes: 0 };

  constructor(chain: Chain, context: WorkerContext, mapAt: (address: number) => LoadedMap | undefined) {
    this.#chain = chain;
    this.#context = context;
    this.#mapAt = mapAt;
  }

  /** Runs packets. Throws TrapError, and ArgumentError for packets that are too short. */
  run(packets: readonly BatchPacket[]): readonly BatchResult[] {
    this.#context.memory.view.setBigUint64(SHARED + CLOCK_NOW, this.#context.now(), true);
    for (const { packet } of packets)
      if (packet.length < SHORTEST) throw new ArgumentError(`a packet takes at least ${SHORTEST} bytes, got ${packet.length}`);
    const { moves, runsBatches } = this.#chain.prepare();
    if (this.#chain.spec.type !== 'xdp' || !runsBatches) return packets.map((packet) => this.#one(packet));
    const results: BatchResult[] = [];
    const limit = BATCH_LIMIT * (1 + (this.#context.pool?.areas.length ?? 0));
    for (let from = 0; from < packets.length; from += limit) this.#many(packets.slice(from, from + limit), moves, results);
    return results;
  }

  close(): void {
    if (this.#room.address !== 0) this.#context.memory.free(this.#room.address);
    this.#room = { address: 0, bytes: 0 };
  }

  #many(packets: readonly BatchPacket[], moves: boolean, results: BatchResult[]): void {
    const { memory, worker, pool } = this.#context;
    const longest = packets.reduce((length, { packet, metadata }) => Math.max(length, packet.length + (metadata?.length ?? 0)), 0);
    // an odd number of cache lines from slot to slot, so that packets do not fight for the same sets of the cache
    const slot = (Math.ceil((moves ? roomBytes('xdp', longest) : longest) / CACHE_LINE) | 1) * CACHE_LINE;
    const headroom = moves ? PACKET_HEADROOM : 0;
    const descriptors = this.#take(packets.length * (slot + Descriptor.size)) + packets.length * slot;
    const areas = [worker, ...(pool?.areas ?? [])];
    const order = placesByFlow(packets, areas.length);
    const { u8, view } = memory;
    const words = new Uint32Array(u8.buffer);
    const { places } = order;
    const { address } = this.#room;
    for (let index = 0; index < packets.length; index++) {
      const { packet, metadata } = packets[index] as BatchPacket;
      const floor = address + index * slot;
      const meta = floor + (metadata === undefined ? headroom : Math.max(headroom - metadata.length, 0));
      const data = metadata === undefined ? meta : meta + metadata.length;
      if (metadata) u8.set(metadata, meta);
      u8.set(packet, data);
      const at = (descriptors + (places[index] as number) * Descriptor.size) >>> 2;
      words[at + Descriptor.floor / 4] = floor;
      words[at + Descriptor.meta / 4] = meta;
      words[at + Descriptor.data / 4] = data;
      words[at + Descriptor.end / 4] = data + packet.length;
      words[at + Descriptor.ceiling / 4] = floor + slot;
      words[at + Descriptor.redirect / 4] = REDIRECT_NONE;
    }
    for (const area of areas) {
      u8.fill(0, area + WORKER_CONTEXT, area + WORKER_CONTEXT + CONTEXT_SIZE);
      view.setUint32(area + WORKER_CONTEXT + XDP_INGRESS_INDEX, LOOPBACK, true);
    }
    this.#chain.batch(order.shares.map(({ from, count }) => ({ descriptors: descriptors + from * Descriptor.size, count })));
    const read = this.#redirectAt;
    for (let index = 0; index < packets.length; index++)
      results.push(new SlotResult(u8, words, (descriptors + (places[index] as number) * Descriptor.size) >>> 2, read));
  }

  /** Where a descriptor's packet was sent. */
  readonly #redirectAt = (words: Uint32Array, at: number): Redirect | undefined => {
    const field = (offset: number): number => words[at + offset / 4] as number;
    return this.#redirect(field(Descriptor.redirect), field(Descriptor.target), field(Descriptor.kind), field(Descriptor.key));
  };

  #one({ packet, metadata, skb }: BatchPacket): BatchResult {
    const { memory, worker } = this.#context;
    const { spec } = this.#chain;
    const bytes = roomBytes(spec.type, packet.length + (metadata?.length ?? 0));
    const floor = this.#take(bytes);
    const room = { floor, ceiling: floor + bytes };
    if (spec.type === 'xdp') enterXdp(memory, worker, room, packet, metadata ? { metadata } : {});
    else enterSkb(memory, worker, room, packet, { ...(skb ? { skb } : {}), ...(metadata ? { metadata } : {}) });
    const returnValue = Number(BigInt.asUintN(32, this.#chain.run()));
    const ends = packetEnds(memory, worker);
    const answer = (offset: number): number => memory.view.getUint32(worker + WORKER_ANSWER + offset, true);
    const redirect = this.#redirect(answer(ANSWER_REDIRECT), answer(ANSWER_TARGET), answer(ANSWER_KIND), answer(ANSWER_KEY));
    const result = this.#result(returnValue, ends, redirect);
    // the next packet takes this one's place
    return { ...result, packet: result.packet.slice(), ...(result.metadata ? { metadata: result.metadata.slice() } : {}) };
  }

  #result(
    returnValue: number,
    { meta, data, end }: { readonly meta: number; readonly data: number; readonly end: number },
    redirect: Redirect | undefined,
  ): BatchResult {
    const { u8 } = this.#context.memory;
    return {
      returnValue,
      packet: u8.subarray(data, end),
      ...(meta === data ? {} : { metadata: u8.subarray(meta, data) }),
      ...(redirect ? { redirect } : {}),
    };
  }

  #redirect(how: number, target: number, kind: number, key: number): Redirect | undefined {
    if (how === REDIRECT_NONE) return undefined;
    if (how === REDIRECT_INTERFACE)
      return { ifindex: target, kind: kind === KIND_PEER ? 'peer' : kind === KIND_NEIGHBOUR ? 'neighbour' : 'redirect' };
    const map = this.#mapAt(target);
    return map && { map, key };
  }

  /** At least so many bytes; what was in them is of no use any more. */
  #take(bytes: number): number {
    if (this.#room.bytes < bytes) {
      this.close();
      this.#room = { address: this.#context.memory.allocate(bytes, CACHE_LINE, 'packets'), bytes };
    }
    return this.#room.address;
  }
}
