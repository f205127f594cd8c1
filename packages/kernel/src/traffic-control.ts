/**
 * The part of rtnetlink that clsact needs: its qdisc on an interface, and the filters on its two hooks (include/uapi/
 * linux/pkt_cls.h, rtnetlink.h). Which filter goes where is decided in clsact.ts.
 */
import { Errno } from './errno.ts';
import {
  attributeText,
  attributeU32,
  decodeAttributes,
  encodePayload,
  NetlinkError,
  NetlinkFlag,
  type NetlinkMessage,
  type RouteSocket,
} from './netlink.ts';
import type { TcHook, TcTarget } from './tc-order.ts';

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_GETQDISC = 38;
const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_CHAIN = 11;
const TCA_BPF_FD = 6;
const TCA_BPF_NAME = 7;
const TCA_BPF_FLAGS = 8;
const TCA_BPF_ID = 11;
/** The program's return value is the verdict. */
const TCA_BPF_FLAG_ACT_DIRECT = 1;
/** TC_H_CLSACT, which is TC_H_INGRESS: the place that the qdiscs clsact and ingress share. */
const clsactParent = 0xffff_fff1;
/** ffff: */
const clsactHandle = 0xffff_0000;
/** TC_H_MIN_INGRESS and TC_H_MIN_EGRESS below it. */
const hookParent = { tcIngress: 0xffff_fff2, tcEgress: 0xffff_fff3 } as const satisfies Readonly<Record<TcHook, number>>;
/** htons(ETH_P_ALL). */
const allProtocols = 0x0300;
/** Bytes of struct tcmsg: family u8, pad[3], ifindex s32, handle u32, parent u32, info u32. */
const headerBytes = 20;

/** A filter on a hook of clsact. */
export interface TcFilter {
  /** From 1, the first that runs. */
  readonly priority: number;
  /** Tells it from others at its priority. */
  readonly handle: number;
  /** 0 unless it is reached by a jump only. */
  readonly chain: number;
  /** `bpf`, `u32`, … */
  readonly kind: string;
  /** The name of a `bpf` filter; empty for others. */
  readonly name: string;
  /** The program of a `bpf` filter; 0 for others. */
  readonly programId: number;
}

/** The kind of the qdisc in clsact's place: `clsact`, `ingress`, or undefined where there is none. Throws NetlinkError. */
export function clsactKind(socket: RouteSocket, index: number): string | undefined {
  for (const { payload } of socket.dump('list qdiscs', RTM_GETQDISC, header(index, 0, 0))) {
    const { view, attributes } = parts(payload);
    if (view.getInt32(4, true) !== index || view.getUint32(12, true) !== clsactParent) continue;
    return attributeText(attributes.get(TCA_KIND));
  }
  return undefined;
}

/** Adds clsact to an interface. False where something is in its place. Throws NetlinkError. */
export function addClsact(socket: RouteSocket, { index, name }: Pick<TcTarget, 'index' | 'name'>): boolean {
  const payload = encodePayload(header(index, clsactHandle, clsactParent), [[TCA_KIND, 'clsact']]);
  const flags = NetlinkFlag.create | NetlinkFlag.exclusive;
  return unless(Errno.EEXIST, () => socket.request(`add qdisc clsact to ${name}`, RTM_NEWQDISC, flags, payload));
}

/** Deletes clsact from an interface with all filters on it. Throws NetlinkError. */
export function deleteClsact(socket: RouteSocket, { index, name }: Pick<TcTarget, 'index' | 'name'>): void {
  const payload = encodePayload(header(index, clsactHandle, clsactParent), [[TCA_KIND, 'clsact']]);
  socket.request(`delete qdisc clsact from ${name}`, RTM_DELQDISC, 0, payload);
}

/** The filters of a hook, in the order in which they run; none where there is no clsact or no interface. Throws NetlinkError. */
export function listFilters(socket: RouteSocket, { index, name, hook }: TcTarget): TcFilter[] {
  const messages = socket.dump(`list filters on ${hook} of ${name}`, RTM_GETTFILTER, header(index, 0, hookParent[hook]));
  // Each priority is announced by a message of its own, without a handle.
  return messages.map(readFilter).filter(({ handle }) => handle !== 0);
}

/** Adds a program as a filter. False where its priority has one with this handle. Throws NetlinkError. */
export function addFilter(
  socket: RouteSocket,
  { index, name, hook }: TcTarget,
  filter: Pick<TcFilter, 'priority' | 'handle' | 'name'> & { readonly fd: number },
): boolean {
  const payload = encodePayload(header(index, filter.handle, hookParent[hook], filter.priority), [
    [TCA_KIND, 'bpf'],
    [
      TCA_OPTIONS,
      [
        [TCA_BPF_FD, filter.fd],
        [TCA_BPF_NAME, filter.name],
        [TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT],
      ],
    ],
  ]);
  const flags = NetlinkFlag.create | NetlinkFlag.exclusive;
  return unless(Errno.EEXIST, () => socket.request(`add filter ${filter.name} to ${hook} of ${name}`, RTM_NEWTFILTER, flags, payload));
}

/** Deletes a `bpf` filter. False where there is none. Throws NetlinkError. */
export function deleteFilter(socket: RouteSocket, { index, name, hook }: TcTarget, filter: TcFilter): boolean {
  const payload = encodePayload(header(index, filter.handle, hookParent[hook], filter.priority), [[TCA_KIND, 'bpf']]);
  return unless(Errno.ENOENT, () => socket.request(`delete filter ${filter.name} from ${hook} of ${name}`, RTM_DELTFILTER, 0, payload));
}

function unless(errno: number, act: () => void): boolean {
  try {
    act();
    return true;
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === errno) return false;
    throw error;
  }
}

function header(index: number, handle: number, parent: number, priority = 0): Uint8Array {
  const bytes = new Uint8Array(headerBytes);
  const view = new DataView(bytes.buffer);
  view.setInt32(4, index, true);
  view.setUint32(8, handle, true);
  view.setUint32(12, parent, true);
  view.setUint16(16, priority === 0 ? 0 : allProtocols, true);
  view.setUint16(18, priority, true);
  return bytes;
}

function readFilter({ payload }: NetlinkMessage): TcFilter {
  const { view, attributes } = parts(payload);
  const kind = attributeText(attributes.get(TCA_KIND)) ?? '';
  const options = decodeAttributes(kind === 'bpf' ? (attributes.get(TCA_OPTIONS) ?? new Uint8Array()) : new Uint8Array());
  return {
    priority: view.getUint16(18, true),
    handle: view.getUint32(8, true),
    chain: attributeU32(attributes.get(TCA_CHAIN)) ?? 0,
    kind,
    name: attributeText(options.get(TCA_BPF_NAME)) ?? '',
    programId: attributeU32(options.get(TCA_BPF_ID)) ?? 0,
  };
}

function parts(payload: Uint8Array): { readonly view: DataView; readonly attributes: ReadonlyMap<number, Uint8Array> } {
  return {
    view: new DataView(payload.buffer, payload.byteOffset, payload.length),
    attributes: decodeAttributes(payload.subarray(headerBytes)),
  };
}
