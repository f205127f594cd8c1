/**
 * Batches: packets are laid side by side in the engine's memory, run one after the other inside of WebAssembly, and read where
 * they lie. The interpreter runs each packet by itself.
 */
import { ArgumentError, type BatchPacket, type BatchResult, type LoadedMap, type Redirect, type SkbContext } from '@tailrace/bpf';
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
  INCOMING_SIZE,
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
import { checkSkb, enterSkb, enterXdp, packetEnds, roomBytes, writeIncoming } from './packet-state.ts';
import type { WorkerContext } from './worker-context.ts';
import type { Share } from './worker-pool.ts';

/** Packets that a worker runs at a time: results should not wait long, and a function never changes tier while it runs. */
const BATCH_LIMIT = 1024;
const CACHE_LINE = 64;
/** ETH_HLEN: nothing runs without a whole Ethernet header. */
const SHORTEST = 14;
const LOOPBACK = 1;

/** What the results of one time share. */
interface Ran {
  readonly u8: Uint8Array;
  readonly words: Uint32Array;
  readonly redirectAt: (words: Uint32Array, at: number) => Redirect | undefined;
}

/** What came of a packet where it lies: views are made when they are asked for, until the next batch. */
class SlotResult implements BatchResult {
  readonly returnValue: number;
  readonly #ran: Ran;
  /** Its descriptor, in words. */
  readonly #at: number;

  constructor(ran: Ran, at: number) {
    this.returnValue = ran.words[at + Descriptor.verdict / 4] as number;
    this.#ran = ran;
    this.#at = at;
  }

  get packet(): Uint8Array {
    return this.#view(Descriptor.data, Descriptor.end) ?? this.#ran.u8.subarray(0, 0);
  }

  get metadata(): Uint8Array | undefined {
    return this.#view(Descriptor.meta, Descriptor.data);
  }

  get redirect(): Redirect | undefined {
    return this.#ran.redirectAt(this.#ran.words, this.#at);
  }

  /** Bytes from one field's address to another's; undefined where there are none. */
  #view(from: number, to: number): Uint8Array | undefined {
    const { u8, words } = this.#ran;
    const [start, end] = [words[this.#at + from / 4] as number, words[this.#at + to / 4] as number];
    return start === end ? undefined : u8.subarray(start, end);
  }
}

/** Where packets stand so that each worker's lie side by side, in the order in which they came. */
interface FlowOrder {
  /** Places by the packets' own order; undefined: their own. */
  readonly places: Uint16Array | undefined;
  /** By worker: its first place, and how many it has. */
  readonly shares: readonly { readonly from: number; readonly count: number }[];
}

/** Orders `count` packets from `first` on. */
function placesByFlow(packets: readonly BatchPacket[], first: number, count: number, workers: number): FlowOrder {
  if (workers === 1) return { places: undefined, shares: [{ from: 0, count }] };
  const places = new Uint16Array(count);
  const counts = new Array<number>(workers).fill(0);
  for (let index = 0; index < count; index++) {
    const owner = flowHash((packets[first + index] as BatchPacket).packet) % workers;
    places[index] = owner;
    counts[owner] = (counts[owner] as number) + 1;
  }
  const firsts = counts.map((_, worker) => counts.slice(0, worker).reduce((sum, own) => sum + own, 0));
  const next = [...firsts];
  for (let index = 0; index < count; index++) {
    const owner = places[index] as number;
    const place = next[owner] as number;
    places[index] = place;
    next[owner] = place + 1;
  }
  return { places, shares: counts.map((own, worker) => ({ from: firsts[worker] as number, count: own })) };
}

/** Packets that run at one time. */
interface Part {
  readonly first: number;
  readonly count: number;
  /** Where their room starts. */
  readonly address: number;
  /** Bytes from packet to packet, and in front of each. */
  readonly slot: number;
  readonly headroom: number;
}

/** Room for batches of one chain; it is given back by `close`. */
export class BatchRoom {
  readonly #chain: Chain;
  readonly #context: WorkerContext;
  /** The map behind a descriptor's address. */
  readonly #mapAt: (address: number) => LoadedMap | undefined;
  #room = { address: 0, bytes: 0 };
  #asWords: Uint32Array<SharedArrayBuffer> | undefined;

  constructor(chain: Chain, context: WorkerContext, mapAt: (address: number) => LoadedMap | undefined) {
    this.#chain = chain;
    this.#context = context;
    this.#mapAt = mapAt;
  }

  /** Runs packets. Throws TrapError, and ArgumentError for packets that are too short. */
  run(packets: readonly BatchPacket[]): readonly BatchResult[] {
    this.#context.memory.view.setBigUint64(SHARED + CLOCK_NOW, this.#context.now(), true);
    for (const { packet, skb } of packets) {
      if (packet.length < SHORTEST) throw new ArgumentError(`a packet takes at least ${SHORTEST} bytes, got ${packet.length}`);
      if (skb) checkSkb(skb);
    }
    const { moves, runsBatches } = this.#chain.prepare();
    if (!runsBatches) return packets.map((packet) => this.#one(packet));
    const slot = this.#slotBytes(packets, moves);
    const bytes = slot + Descriptor.size + INCOMING_SIZE;
    // results of all parts can be looked at until the next batch
    const address = this.#take(packets.length * bytes);
    const limit = BATCH_LIMIT * (1 + (this.#context.pool?.areas.length ?? 0));
    const headroom = moves ? PACKET_HEADROOM : 0;
    const results: BatchResult[] = [];
    for (let first = 0; first < packets.length; first += limit) {
      const count = Math.min(limit, packets.length - first);
      this.#many(packets, { first, count, address: address + first * bytes, slot, headroom }, results);
    }
    return results;
  }

  close(): void {
    if (this.#room.address !== 0) this.#context.memory.free(this.#room.address);
    this.#room = { address: 0, bytes: 0 };
  }

  /** Bytes from packet to packet: an odd number of cache lines, so that they do not fight for the same sets of the cache. */
  #slotBytes(packets: readonly BatchPacket[], moves: boolean): number {
    let longest = 0;
    for (const { packet, metadata } of packets) longest = Math.max(longest, packet.length + (metadata?.length ?? 0));
    return (Math.ceil((moves ? roomBytes(this.#chain.spec.type, longest) : longest) / CACHE_LINE) | 1) * CACHE_LINE;
  }

  #many(packets: readonly BatchPacket[], { first, count, address, slot, headroom }: Part, results: BatchResult[]): void {
    const { memory, worker, pool } = this.#context;
    const areas = [worker, ...(pool?.areas ?? [])];
    const { places, shares } = placesByFlow(packets, first, count, areas.length);
    const descriptors = address + count * slot;
    const { u8 } = memory;
    const words = this.#words();
    const isXdp = this.#chain.spec.type === 'xdp';
    for (let index = 0; index < count; index++) {
      const { packet, metadata, skb } = packets[first + index] as BatchPacket;
      const floor = address + index * slot;
      const meta = metadata === undefined ? floor + headroom : floor + Math.max(headroom - metadata.length, 0);
      const data = metadata === undefined ? meta : meta + metadata.length;
      if (metadata) u8.set(metadata, meta);
      u8.set(packet, data);
      const at = (descriptors + (places === undefined ? index : (places[index] as number)) * Descriptor.size) >>> 2;
      words[at + Descriptor.floor / 4] = floor;
      words[at + Descriptor.meta / 4] = meta;
      words[at + Descriptor.data / 4] = data;
      words[at + Descriptor.end / 4] = data + packet.length;
      words[at + Descriptor.ceiling / 4] = floor + slot;
      words[at + Descriptor.redirect / 4] = REDIRECT_NONE;
      words[at + Descriptor.incoming / 4] = skb && !isXdp ? this.#incoming(descriptors + count * Descriptor.size, index, skb) : 0;
    }
    if (isXdp) for (const area of areas) this.#clearContext(area);
    this.#chain.batch(shares.map((share): Share => ({ descriptors: descriptors + share.from * Descriptor.size, count: share.count })));
    const ran: Ran = { u8, words, redirectAt: this.#redirectAt };
    for (let index = 0; index < count; index++)
      results.push(new SlotResult(ran, (descriptors + (places === undefined ? index : (places[index] as number)) * Descriptor.size) >>> 2));
  }

  /** Address of what is known of a packet besides its bytes. */
  #incoming(from: number, index: number, skb: SkbContext): number {
    const at = from + index * INCOMING_SIZE;
    writeIncoming(this.#context.memory, at, skb);
    return at;
  }

  #clearContext(area: number): void {
    const { u8, view } = this.#context.memory;
    u8.fill(0, area + WORKER_CONTEXT, area + WORKER_CONTEXT + CONTEXT_SIZE);
    view.setUint32(area + WORKER_CONTEXT + XDP_INGRESS_INDEX, LOOPBACK, true);
  }

  /** The memory as words; another array once it has grown. */
  #words(): Uint32Array {
    const { buffer } = this.#context.memory.u8;
    if (this.#asWords?.buffer !== buffer) this.#asWords = new Uint32Array(buffer);
    return this.#asWords;
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

  /** Address of at least so many bytes; what was in them is of no use any more. */
  #take(bytes: number): number {
    if (this.#room.bytes < bytes) {
      this.close();
      this.#room = { address: this.#context.memory.allocate(bytes, CACHE_LINE, 'packets'), bytes };
    }
    return this.#room.address;
  }
}
