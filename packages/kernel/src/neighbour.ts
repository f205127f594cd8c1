/**
 * Neighbours over rtnetlink: which MAC address an IP address on a link has (include/uapi/linux/neighbour.h). Listing,
 * permanent entries, asking the link, and a subscription to changes.
 */
import { setTimeout as delay } from 'node:timers/promises';
import koffi from 'koffi';
import { Family, formatAddress, formatMac, parseAddress, parseMac } from './address.ts';
import { Errno } from './errno.ts';
import { requireInterface } from './interface.ts';
import { type Attribute, decodeAttributes, encodePayload, NetlinkError, NetlinkFlag, type NetlinkMessage, RouteSocket } from './netlink.ts';
import type { NetworkNamespace } from './netns.ts';

const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NTF_USE = 1;
const RTNLGRP_NEIGH = 3;
const NUD_PERMANENT = 0x80;
const headerBytes = 12;

/** States of a neighbour (NUD_*). */
const states = {
  1: 'incomplete',
  2: 'reachable',
  4: 'stale',
  8: 'delay',
  16: 'probe',
  32: 'failed',
  64: 'noarp',
  128: 'permanent',
} as const;

/** `incomplete` and `failed` ones have no usable MAC address; `none` is an entry nobody asked for yet. */
export type NeighbourState = (typeof states)[keyof typeof states] | 'none';

/** An entry of the neighbour table. */
export interface Neighbour {
  /** Index of the interface. */
  readonly index: number;
  /** IP address. */
  readonly address: string;
  /** MAC address; undefined while it is not known. */
  readonly mac: string | undefined;
  readonly state: NeighbourState;
}

/** What a subscription tells: an entry, changed or gone, or that some were lost, so that a new list is due. */
export type NeighbourEvent = { readonly kind: 'changed' | 'deleted'; readonly neighbour: Neighbour } | { readonly kind: 'lost' };

/** The neighbours of all interfaces, or of one. Throws NetlinkError. */
export function listNeighbours(socket: RouteSocket, name?: string): Neighbour[] {
  const wanted = name === undefined ? undefined : requireInterface(socket, name).index;
  return socket
    .dump('list neighbours', RTM_GETNEIGH, new Uint8Array(headerBytes))
    .flatMap((message) => readNeighbour(message) ?? [])
    .filter(({ index }) => wanted === undefined || index === wanted);
}

/** Adds or overwrites a permanent entry. Throws NetlinkError. */
export function setNeighbour(socket: RouteSocket, name: string, address: string, mac: string): void {
  const payload = neighbourPayload(socket, name, address, NUD_PERMANENT, 0, [[NDA_LLADDR, parseMac(mac)]]);
  const flags = NetlinkFlag.create | NetlinkFlag.replace;
  socket.request(`set neighbour ${address} on ${name}`, RTM_NEWNEIGH, flags, payload);
}

/** Deletes an entry. False where there was none. Throws NetlinkError. */
export function deleteNeighbour(socket: RouteSocket, name: string, address: string): boolean {
  try {
    const payload = neighbourPayload(socket, name, address, 0, 0, []);
    socket.request(`delete neighbour ${address} on ${name}`, RTM_DELNEIGH, 0, payload);
    return true;
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === Errno.ENOENT) return false;
    throw error;
  }
}

/** Has the kernel ask the link for a MAC address, as sending a packet there would. Throws NetlinkError. */
export function probeNeighbour(socket: RouteSocket, name: string, address: string): void {
  const payload = neighbourPayload(socket, name, address, 0, NTF_USE, []);
  socket.request(`probe neighbour ${address} on ${name}`, RTM_NEWNEIGH, NetlinkFlag.create | NetlinkFlag.replace, payload);
}

/**
 * Asks the link for a MAC address and waits until it is known, looking every 5 ms. Undefined when nobody answered
 * within `timeoutMs` (by default 3,000, which is what the kernel itself takes to give up). Throws NetlinkError.
 */
export async function resolveNeighbour(socket: RouteSocket, name: string, address: string, timeoutMs = 3000): Promise<string | undefined> {
  const wanted = formatAddress(parseAddress(address).bytes);
  const deadline = performance.now() + timeoutMs;
  probeNeighbour(socket, name, address);
  for (;;) {
    const found = listNeighbours(socket, name).find((neighbour) => neighbour.address === wanted);
    if (found?.mac !== undefined && found.state !== 'incomplete' && found.state !== 'failed') return found.mac;
    if (performance.now() >= deadline) return undefined;
    // The kernel gave up early (the interface may just have come up): ask again.
    if (found === undefined || found.state === 'failed') probeNeighbour(socket, name, address);
    await delay(5);
  }
}

/**
 * Calls `listener` for every change of the neighbour table in `namespace` (undefined: the thread's own) until the
 * returned subscription is closed. It starts with changes from now on; list once for what is there. It keeps the event
 * loop alive. Throws SyscallError.
 */
export function watchNeighbours(
  namespace: NetworkNamespace | undefined,
  listener: (event: NeighbourEvent) => void,
): Disposable & { close(): void } {
  const socket = new RouteSocket(namespace);
  let open = true;
  let poll: ReturnType<typeof koffi.node.poll> | undefined;
  const close = () => {
    if (!open) return;
    open = false;
    poll?.close();
    socket.close();
  };
  try {
    socket.subscribe(RTNLGRP_NEIGH);
    poll = koffi.node.poll(socket.fd, { readable: true }, () => {
      if (!open) return;
      const { messages, lost } = socket.receive();
      if (lost) listener({ kind: 'lost' });
      for (const message of messages) {
        const neighbour = readNeighbour(message);
        // The listener may close the subscription.
        if (open && neighbour) listener({ kind: message.type === RTM_DELNEIGH ? 'deleted' : 'changed', neighbour });
      }
    });
  } catch (error) {
    close();
    throw error;
  }
  return { close, [Symbol.dispose]: close };
}

function neighbourPayload(
  socket: RouteSocket,
  name: string,
  address: string,
  state: number,
  flags: number,
  attributes: readonly Attribute[],
): Uint8Array {
  const { family, bytes } = parseAddress(address);
  const { index } = requireInterface(socket, name);
  // struct ndmsg: family u8, pad u8, pad u16, index s32, state u16, flags u8, type u8.
  const header = new Uint8Array(headerBytes);
  const view = new DataView(header.buffer);
  header[0] = Family[family];
  view.setInt32(4, index, true);
  view.setUint16(8, state, true);
  header[10] = flags;
  return encodePayload(header, [[NDA_DST, bytes], ...attributes]);
}

/** Undefined for entries that are no IP neighbours, such as a bridge's. */
function readNeighbour({ type, payload }: NetlinkMessage): Neighbour | undefined {
  if ((type !== RTM_NEWNEIGH && type !== RTM_DELNEIGH) || payload.length < headerBytes) return undefined;
  if (payload[0] !== Family.ipv4 && payload[0] !== Family.ipv6) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const attributes = decodeAttributes(payload.subarray(headerBytes));
  const address = attributes.get(NDA_DST);
  if (!address) return undefined;
  const mac = attributes.get(NDA_LLADDR);
  return {
    index: view.getInt32(4, true),
    address: formatAddress(address),
    mac: mac?.length === 6 ? formatMac(mac) : undefined,
    state: stateName(view.getUint16(8, true)),
  };
}

function stateName(state: number): NeighbourState {
  const names: Readonly<Record<number, NeighbourState>> = states;
  return names[state] ?? 'none';
}
