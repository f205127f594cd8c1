/** What is to be known of an interface before a pipeline goes there: looked at, never changed. */
import type { AttachHook } from '@tailrace/bpf';
import { type Check, found, look } from './check.ts';
import { SyscallError } from './errno.ts';
import { getOffload, getReceiveOffloads, type Offload } from './ethtool.ts';
import { type InterfaceInfo, listInterfaces, requireInterface } from './interface.ts';
import { ethernetTypes } from './link.ts';
import { RouteSocket } from './netlink.ts';
import type { NetworkNamespace } from './netns.ts';
import { programName } from './program.ts';
import type { TcHook } from './tc-order.ts';
import { listTcx } from './tcx.ts';
import { listFilters } from './traffic-control.ts';
import { type XdpFeatures, xdpFeatures } from './xdp-features.ts';

/** ARPHRD_ETHER: loopback is not listed unless it is asked for. */
const ETHERNET = 1;
/** What a packet in one piece may have at native XDP: a page without headroom and tail (XDP_PACKET_HEADROOM, skb_shared_info). */
const onePieceMtu = 3_498;
const tcHooks: readonly TcHook[] = ['tcIngress', 'tcEgress'];
const switches: readonly Offload[] = ['rxChecksum', 'txChecksum', 'tso', 'gso', 'gro'];

/** Offloads that programs meet. Absent: the driver does not tell. */
export type OffloadReport = { readonly [O in Offload | 'rxVlan' | 'lro']?: boolean };

/** A program on an interface. */
export interface InterfaceProgram {
  readonly hook: AttachHook;
  /** How it is there: the XDP mode, `tcx`, or `clsact` with the kind of filter. */
  readonly by: string;
  /** The kernel's id of the program; 0 for a filter that is no eBPF program. */
  readonly programId: number;
  /** Empty where it has none or may not be asked. */
  readonly name: string;
}

/** An interface. */
export interface InterfaceReport {
  readonly name: string;
  readonly index: number;
  /** Kind of driver where the kernel has a name for it, e.g. `veth`. */
  readonly kind?: string;
  readonly mtu: number;
  readonly up: boolean;
  readonly checks: readonly Check[];
  readonly offloads: OffloadReport;
  /** What is attached, by hook in the order in which it runs. Where TCX programs may not be listed, a check says so. */
  readonly programs: readonly InterfaceProgram[];
}

/**
 * Looks at interfaces: those that are named, or all Ethernet ones. Throws ArgumentError for a name that is not there,
 * NetlinkError, SyscallError.
 */
export async function probeInterfaces(
  names: readonly string[] | undefined,
  effective: bigint,
  namespace?: NetworkNamespace,
): Promise<readonly InterfaceReport[]> {
  using socket = new RouteSocket(namespace);
  const infos = names?.map((name) => requireInterface(socket, name)) ?? listInterfaces(socket).filter(({ type }) => type === ETHERNET);
  const reports: InterfaceReport[] = [];
  for (const info of infos) reports.push(await probeInterface(socket, info, effective, names !== undefined, namespace));
  return reports;
}

async function probeInterface(
  socket: RouteSocket,
  info: InterfaceInfo,
  effective: bigint,
  asked: boolean,
  namespace: NetworkNamespace | undefined,
): Promise<InterfaceReport> {
  const { name, index, kind, mtu, up } = info;
  const features = xdpFeatures(index, namespace);
  const offloads = readOffloads(socket, name);
  const programs: InterfaceProgram[] = info.xdp.map(({ mode, programId }) => ({
    hook: 'xdp',
    by: mode,
    programId,
    name: programName(programId),
  }));
  const remedy = 'CAP_NET_ADMIN tells';
  const tcx = await look({ id: 'tc.programs', title: 'programs at TC', remedy, takes: ['CAP_NET_ADMIN'] }, effective, () => {
    for (const hook of tcHooks)
      for (const { programId, name: program } of listTcx({ index, name, hook }, namespace))
        programs.push({ hook, by: 'tcx', programId, name: program });
    return undefined;
  });
  for (const hook of tcHooks)
    for (const { kind: filter, name: program, programId } of listFilters(socket, { index, name, hook }))
      programs.push({ hook, by: filter === 'bpf' ? 'clsact' : `clsact ${filter}`, programId, name: program });
  const checks = [
    ethernetCheck(info, asked),
    upCheck(info),
    nativeCheck(features),
    mtuCheck(info, features),
    xdpFreeCheck(info, programs),
    ...(tcx.state === 'unknown' ? [tcx] : []),
    ...offloadChecks(info, offloads, features),
  ];
  return { name, index, ...(kind === undefined ? {} : { kind }), mtu, up, checks, offloads, programs: byHook(programs) };
}

function ethernetCheck({ type }: InterfaceInfo, needed: boolean): Check {
  const remedy = 'choose an Ethernet interface: stages read packets from the Ethernet header on';
  const fits = ethernetTypes.includes(type);
  return found({ id: 'ethernet', title: 'Ethernet', needed, remedy }, fits ? 'yes' : 'no', fits ? undefined : `hardware type ${type}`);
}

function upCheck({ name, up, carrier }: InterfaceInfo): Check {
  const search = { id: 'up', title: 'up', remedy: up ? 'connect it' : `ip link set dev ${name} up` };
  return found(search, carrier ? 'yes' : 'no', up && !carrier ? 'switched on, but without carrier' : undefined);
}

function nativeCheck(features: XdpFeatures | undefined): Check {
  const search = {
    id: 'xdp.native',
    title: 'native XDP',
    remedy: 'generic XDP runs here, behind the driver and slower; some drivers want fewer queues first',
  };
  if (features === undefined) return found(search, 'unknown', 'drivers tell from Linux 6.3 on; native is tried first, then generic');
  if (!features.basic) return found(search, 'no', 'the driver has none');
  const named = { redirect: 'redirect', transmit: 'target of redirects', fragments: 'fragments', zeroCopy: 'zero copy' } as const;
  const has = Object.entries(named).flatMap(([feature, text]) => (features[feature as keyof typeof named] ? [text] : []));
  return found(search, 'yes', has.length > 0 ? `with ${has.join(', ')}` : undefined);
}

function mtuCheck({ name, mtu }: InterfaceInfo, features: XdpFeatures | undefined): Check {
  const search = {
    id: 'mtu',
    title: `MTU ${mtu}`,
    remedy: `ip link set dev ${name} mtu ${onePieceMtu} or less, or generic XDP; TC takes any`,
  };
  if (mtu <= onePieceMtu || features?.fragments === true) return found(search, 'yes');
  if (features === undefined) return found(search, 'unknown', 'the driver may not have native XDP for packets of several pages');
  return found(search, 'no', 'native XDP of this driver takes packets of one page only');
}

function xdpFreeCheck({ name }: InterfaceInfo, programs: readonly InterfaceProgram[]): Check {
  const search = { id: 'xdp.free', title: 'no XDP program', remedy: `stop what attached it, or: ip link set dev ${name} xdp off` };
  const occupant = programs.find(({ hook }) => hook === 'xdp');
  return found(search, occupant ? 'no' : 'yes', occupant && `${occupant.by}: ${occupant.name || 'a program'} (id ${occupant.programId})`);
}

function offloadChecks({ name }: InterfaceInfo, { rxVlan, lro }: OffloadReport, features: XdpFeatures | undefined): readonly Check[] {
  const vlan = {
    id: 'offload.rxVlan',
    title: 'VLAN tags stay in packets',
    remedy: `ethtool -K ${name} rxvlan off: native XDP sees no tag that the card takes out; at TC tags are found either way`,
  };
  const merged = {
    id: 'offload.lro',
    title: 'segments come one by one',
    remedy: `ethtool -K ${name} lro off: most drivers refuse native XDP while the card merges segments`,
  };
  if (features?.basic !== true) return [];
  return [
    ...(rxVlan === undefined ? [] : [found(vlan, rxVlan ? 'no' : 'yes')]),
    ...(lro === undefined ? [] : [found(merged, lro ? 'no' : 'yes')]),
  ];
}

/** What a driver does not tell (EOPNOTSUPP) is left out. */
function readOffloads(socket: RouteSocket, name: string): OffloadReport {
  const tried = <T extends object>(read: () => T): Partial<T> => {
    try {
      return read();
    } catch (error) {
      if (error instanceof SyscallError) return {};
      throw error;
    }
  };
  const known = switches.map((offload) => tried(() => ({ [offload]: getOffload(socket, name, offload) })));
  return Object.assign(
    {},
    ...known,
    tried(() => getReceiveOffloads(socket, name)),
  ) as OffloadReport;
}

function byHook(programs: readonly InterfaceProgram[]): readonly InterfaceProgram[] {
  const order: readonly AttachHook[] = ['xdp', ...tcHooks];
  return [...programs].sort((a, b) => order.indexOf(a.hook) - order.indexOf(b.hook));
}
