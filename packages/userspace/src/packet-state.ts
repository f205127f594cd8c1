/**
 * Packets on their way into a worker's area and out of it: the bytes, the packet's state and the context, as a test run of
 * the kernel sets them up (net/bpf/test_run.c at v6.18), and what a program left of them.
 */
import {
  ArgumentError,
  type ProgramSpec,
  type ProgramType,
  type SkbContext,
  type SkbResult,
  SyscallError,
  type TestRunOptions,
  type TestRunResult,
  type XdpContext,
} from '@tailrace/bpf';
import {
  ANSWER_SIZE,
  CONTEXT_SIZE,
  CONTEXT_XDP,
  INCOMING_CB,
  INCOMING_GSO_SEGMENTS,
  INCOMING_GSO_SIZE,
  INCOMING_INDEX,
  INCOMING_INGRESS_INDEX,
  INCOMING_MARK,
  INCOMING_PRIORITY,
  INCOMING_QUEUE,
  INCOMING_SIZE,
  PACKET_CEILING,
  PACKET_CONTEXT,
  PACKET_DATA,
  PACKET_ENCAPSULATED,
  PACKET_END,
  PACKET_FLOOR,
  PACKET_HASHED,
  PACKET_HEADROOM,
  PACKET_META,
  PACKET_NETWORK,
  PACKET_SUM,
  PACKET_SUM_LEVEL,
  PACKET_SUM_STATE,
  REGION_BASE,
  REGION_COUNT,
  REGION_LENGTH,
  REGION_SIZE,
  REGION_STRIDE,
  SKB_CB,
  SKB_GSO_SEGMENTS,
  SKB_INDEX,
  SKB_INGRESS_INDEX,
  SKB_MARK,
  SKB_PRIORITY,
  SKB_VLAN_PRESENT,
  SKB_VLAN_PROTOCOL,
  SKB_VLAN_TCI,
  SUM_COMPLETE,
  SUM_NONE,
  TAG_PACKET,
  TUNNEL_NONE,
  WORKER_ANSWER,
  WORKER_CONTEXT,
  WORKER_PACKET,
  WORKER_REGIONS,
  WORKER_TUNNEL_KEY,
  WORKER_TUNNEL_KEY_SET,
  XDP_INGRESS_INDEX,
  XDP_RX_QUEUE,
} from './layout.ts';
import type { EngineMemory } from './memory.ts';

/** The engine's memory as views, as `EngineMemory` has them. */
export interface MemoryViews {
  readonly u8: Uint8Array;
  readonly view: DataView;
}

/** Memory that a packet may lie in. */
export interface PacketRoom {
  /** First byte that it may ever start at. */
  readonly floor: number;
  /** Byte behind the last that it may ever end at. */
  readonly ceiling: number;
}

/** A VLAN tag beside the frame, as cards take it out. */
export interface VlanTag {
  readonly tci: number;
  /** Default 0x8100. */
  readonly tpid?: number;
}

/** What an skb starts from besides its bytes. */
export interface SkbOptions {
  readonly skb?: SkbContext;
  readonly checksumComplete?: boolean;
  readonly vlan?: VlanTag;
  /** What XDP left in front of the packet. */
  readonly metadata?: Uint8Array;
}

/** ETH_HLEN: nothing runs without a whole Ethernet header. */
const SHORTEST = 14;
/** sizeof(struct xdp_frame), and the most that skb_shared_info.meta_len holds, rounded down to words. */
const XDP_FRAME_BYTES = 40;
const METADATA_LIMIT = PACKET_HEADROOM - XDP_FRAME_BYTES;
/** Up to where XDP packets grow in the kernel's page: what the headroom and struct skb_shared_info leave. */
const XDP_REACH = 4096 - PACKET_HEADROOM - 320;
/** SKB_MAX_ALLOC. */
const SKB_REACH = 4 * 4096 - 320;
const CB_BYTES = 20;
const VLAN = 0x8100;
const LOOPBACK = 1;
const EBADMSG = 74;

/** Bytes of room in which a packet grows as far as it would in the kernel. */
export function roomBytes(type: ProgramType, length: number): number {
  return PACKET_HEADROOM + Math.max(length, type === 'xdp' ? XDP_REACH : SKB_REACH);
}

/**
 * Puts the packet of a test run into a worker's area, with what the options say of it. Throws ArgumentError naming what is out
 * of range or not for programs of this type, or where the room is too small.
 */
export function enter(memory: EngineMemory, worker: number, room: PacketRoom, spec: ProgramSpec, options: TestRunOptions): void {
  const { packet, repeat = 1, skb, xdp, checksumComplete, socket } = options;
  if (!Number.isInteger(repeat) || repeat < 1 || repeat > 0xffff_ffff)
    throw new ArgumentError(`repeat must be 1 to 4294967295, got ${repeat}`);
  const foreign = spec.type === 'xdp' ? { skb, checksumComplete, socket } : { xdp, socket };
  for (const [name, value] of Object.entries(foreign))
    if (value !== undefined) throw new ArgumentError(`${name} is not for programs of type ${spec.type}, which ${spec.name} is`);
  if (spec.type === 'xdp') enterXdp(memory, worker, room, packet, xdp);
  else enterSkb(memory, worker, room, packet, { ...(skb ? { skb } : {}), checksumComplete: checksumComplete ?? false });
}

/** What a program left of the packet. Throws SyscallError (EBADMSG) where a sum that was to be kept right is not. */
export function leave(
  memory: MemoryViews,
  worker: number,
  spec: ProgramSpec,
  { checksumComplete = false }: Pick<TestRunOptions, 'checksumComplete'> = {},
): Pick<TestRunResult, 'packet' | 'skb' | 'xdp'> {
  if (spec.type === 'xdp') return leaveXdp(memory, worker);
  if (checksumComplete) checkSum(memory, worker, spec);
  return leaveSkb(memory, worker);
}

/** Puts an XDP packet into a worker's area. Throws ArgumentError. */
export function enterXdp(memory: MemoryViews, worker: number, room: PacketRoom, packet: Uint8Array, context: XdpContext = {}): void {
  const { ingressIfindex = 0, rxQueue = 0, metadata = new Uint8Array() } = context;
  checkNumber('xdp.ingressIfindex', ingressIfindex, 0x7fff_ffff);
  checkNumber('xdp.rxQueue', rxQueue, 0xffff_ffff);
  if (rxQueue > 0 && ingressIfindex === 0)
    throw new ArgumentError(`xdp.rxQueue ${rxQueue} needs xdp.ingressIfindex, the interface that has the queue`);
  if (metadata.length % 4 !== 0) throw new ArgumentError(`xdp.metadata takes a multiple of 4 bytes, got ${metadata.length}`);
  if (metadata.length > METADATA_LIMIT)
    throw new ArgumentError(`xdp.metadata takes at most ${METADATA_LIMIT} bytes, got ${metadata.length}`);
  place(memory, worker, room, packet, metadata);
  const { view } = memory;
  view.setUint32(worker + WORKER_PACKET + PACKET_CONTEXT, CONTEXT_XDP, true);
  view.setUint32(worker + WORKER_CONTEXT + XDP_INGRESS_INDEX, ingressIfindex || LOOPBACK, true);
  view.setUint32(worker + WORKER_CONTEXT + XDP_RX_QUEUE, rxQueue, true);
}

/** Puts an skb into a worker's area: all of it linear, the network header behind the Ethernet header. Throws ArgumentError. */
export function enterSkb(memory: EngineMemory, worker: number, room: PacketRoom, packet: Uint8Array, options: SkbOptions = {}): void {
  const { skb = {}, vlan, checksumComplete = false, metadata = new Uint8Array() } = options;
  checkSkb(skb);
  place(memory, worker, room, packet, metadata);
  const incoming = memory.scratch(INCOMING_SIZE);
  writeIncoming(memory, incoming, skb);
  memory.runtime.skb_enter(worker, incoming);
  const put = (offset: number, value: number): void => memory.view.setUint32(worker + offset, value, true);
  if (vlan) {
    put(WORKER_CONTEXT + SKB_VLAN_PRESENT, 1);
    put(WORKER_CONTEXT + SKB_VLAN_TCI, vlan.tci);
    put(WORKER_CONTEXT + SKB_VLAN_PROTOCOL, swap16(vlan.tpid ?? VLAN));
  }
  if (!checksumComplete) return;
  put(WORKER_PACKET + PACKET_SUM_STATE, SUM_COMPLETE);
  put(WORKER_PACKET + PACKET_SUM, sumOf(packet.subarray(SHORTEST)));
}

/** Writes what is known of an skb where `skb_enter` reads it. */
export function writeIncoming({ u8, view }: MemoryViews, at: number, skb: SkbContext): void {
  for (const [name, offset] of Object.entries(INCOMING)) view.setUint32(at + offset, skb[name as keyof typeof INCOMING] ?? 0, true);
  if (skb.cb) u8.set(skb.cb, at + INCOMING_CB);
  else u8.fill(0, at + INCOMING_CB, at + INCOMING_SIZE);
}

const INCOMING = {
  mark: INCOMING_MARK,
  priority: INCOMING_PRIORITY,
  queue: INCOMING_QUEUE,
  ifindex: INCOMING_INDEX,
  ingressIfindex: INCOMING_INGRESS_INDEX,
  gsoSegments: INCOMING_GSO_SEGMENTS,
  gsoSize: INCOMING_GSO_SIZE,
} as const satisfies Record<Exclude<keyof SkbContext, 'cb'>, number>;

/** The packet as it is, and the metadata in front of it, where there are some. */
export function leaveXdp(memory: MemoryViews, worker: number): Pick<TestRunResult, 'packet' | 'xdp'> {
  const { meta, data, end } = packetEnds(memory, worker);
  const packet = memory.u8.slice(data, end);
  return meta === data ? { packet } : { packet, xdp: { metadata: memory.u8.slice(meta, data) } };
}

/** The packet as it is, and its fields. A tag that lies beside the frame is not in it: see `vlanOf`. */
export function leaveSkb(memory: MemoryViews, worker: number): { readonly packet: Uint8Array; readonly skb: SkbResult } {
  const { data, end } = packetEnds(memory, worker);
  const context = worker + WORKER_CONTEXT;
  const get = (offset: number): number => memory.view.getUint32(context + offset, true);
  return {
    packet: memory.u8.slice(data, end),
    skb: {
      mark: get(SKB_MARK),
      priority: get(SKB_PRIORITY),
      ifindex: get(SKB_INDEX),
      ingressIfindex: get(SKB_INGRESS_INDEX),
      gsoSegments: get(SKB_GSO_SEGMENTS),
      cb: memory.u8.slice(context + SKB_CB, context + SKB_CB + CB_BYTES),
    },
  };
}

/** The VLAN tag that lies beside an skb's frame. */
export function vlanOf({ view }: MemoryViews, worker: number): Required<VlanTag> | undefined {
  const get = (offset: number): number => view.getUint32(worker + WORKER_CONTEXT + offset, true);
  return get(SKB_VLAN_PRESENT) === 0 ? undefined : { tci: get(SKB_VLAN_TCI), tpid: swap16(get(SKB_VLAN_PROTOCOL)) };
}

/** Addresses of the packet's metadata, first byte, and the byte behind its last. */
export function packetEnds({ view }: MemoryViews, worker: number): { readonly meta: number; readonly data: number; readonly end: number } {
  const get = (offset: number): number => view.getUint32(worker + WORKER_PACKET + offset, true);
  return { meta: get(PACKET_META), data: get(PACKET_DATA), end: get(PACKET_END) };
}

/** Clears what an earlier packet left, and lays the bytes behind the headroom, metadata in front of them. */
function place(memory: MemoryViews, worker: number, { floor, ceiling }: PacketRoom, packet: Uint8Array, metadata: Uint8Array): void {
  const { u8, view } = memory;
  if (packet.length < SHORTEST) throw new ArgumentError(`a test run takes a packet of at least ${SHORTEST} bytes, got ${packet.length}`);
  const data = floor + PACKET_HEADROOM;
  const end = data + packet.length;
  if (end > ceiling)
    throw new ArgumentError(
      `a packet of ${packet.length} bytes needs ${packet.length + PACKET_HEADROOM} bytes of room, got ${ceiling - floor}`,
    );
  const meta = data - metadata.length;
  u8.fill(0, worker + WORKER_CONTEXT, worker + WORKER_CONTEXT + CONTEXT_SIZE);
  u8.fill(0, worker + WORKER_ANSWER, worker + WORKER_ANSWER + ANSWER_SIZE);
  view.setUint32(worker + WORKER_TUNNEL_KEY_SET, TUNNEL_NONE, true);
  u8.fill(0, worker + WORKER_TUNNEL_KEY, worker + WORKER_TUNNEL_KEY_SET);
  u8.set(metadata, meta);
  u8.set(packet, data);
  const state = worker + WORKER_PACKET;
  const ends = [
    [PACKET_FLOOR, floor],
    [PACKET_META, meta],
    [PACKET_DATA, data],
    [PACKET_END, end],
    [PACKET_CEILING, ceiling],
    [PACKET_ENCAPSULATED, 0],
    [PACKET_SUM_STATE, SUM_NONE],
    [PACKET_SUM_LEVEL, 0],
    [PACKET_HASHED, 0],
  ] as const;
  for (const [offset, value] of ends) view.setUint32(state + offset, value, true);
  const region = worker + WORKER_REGIONS + TAG_PACKET * REGION_SIZE;
  view.setUint32(region + REGION_BASE, meta, true);
  view.setUint32(region + REGION_LENGTH, end - meta, true);
  view.setUint32(region + REGION_STRIDE, 0, true);
  view.setUint32(region + REGION_COUNT, 1, true);
}

const SKB_LIMITS = {
  mark: 0xffff_ffff,
  priority: 0xffff_ffff,
  queue: 0xffff,
  ifindex: 0x7fff_ffff,
  ingressIfindex: 0xffff_ffff,
  gsoSegments: 0xffff,
  gsoSize: 0xffff,
} as const satisfies Record<Exclude<keyof SkbContext, 'cb'>, number>;

/** Throws ArgumentError naming a field that is out of range. */
export function checkSkb(skb: SkbContext): void {
  for (const [name, limit] of Object.entries(SKB_LIMITS)) {
    const value = skb[name as keyof typeof SKB_LIMITS];
    if (value !== undefined) checkNumber(`skb.${name}`, value, limit);
  }
  if (skb.cb && skb.cb.length !== CB_BYTES) throw new ArgumentError(`skb.cb takes ${CB_BYTES} bytes, got ${skb.cb.length}`);
}

function checkNumber(what: string, value: number, limit: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= limit) return;
  throw new ArgumentError(`${what} must be 0 to ${limit}, got ${value}`);
}

function checkSum({ u8, view }: MemoryViews, worker: number, spec: ProgramSpec): void {
  const { data, end } = packetEnds({ u8, view }, worker);
  const state = worker + WORKER_PACKET;
  const start = data + view.getUint32(state + PACKET_NETWORK, true);
  const whole = start < end ? sumOf(u8.subarray(start, end)) : 0;
  if (fold(view.getUint32(state + PACKET_SUM, true)) === fold(whole)) return;
  throw new SyscallError('test run', EBADMSG, `program ${spec.name}`, {
    hint: 'the program left skb->csum wrong: it changed bytes without bpf_csum_update or its like',
  });
}

/** The sum of 32-bit words as they lie in memory, end-around; 0 only where all bytes are. */
function sumOf(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at++) sum += (bytes[at] as number) * 2 ** (8 * (at % 4));
  while (sum > 0xffff_ffff) sum = (sum % 2 ** 32) + Math.floor(sum / 2 ** 32);
  return sum;
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

function swap16(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}
