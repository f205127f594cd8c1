/**
 * Networks for tests: hosts as network namespaces, veth links between them, addresses, routes and neighbours, all made
 * over rtnetlink. Nothing of it has a name outside of this process, so nothing is left however the process ends.
 */
import { readFileSync } from 'node:fs';
import { ArgumentError } from '@tailrace/bpf';
import { enableForwarding, type Offload, type Route, setSysctl } from '@tailrace/kernel';
import { eventually } from './deadline.ts';
import { Host } from './host.ts';
import { attachPass } from './pass-program.ts';

/** One host. */
export interface HostOptions {
  /** Forwards packets between its interfaces; fib_lookup needs it too. Default false. */
  readonly forwarding?: boolean;
  /** Addresses of `lo`, e.g. a VIP that it takes packets for: `10.9.9.9/32`. */
  readonly loopback?: readonly string[];
  readonly routes?: readonly Route[];
  /** Permanent neighbours; others are found by asking the link. */
  readonly neighbours?: readonly { readonly interface: string; readonly address: string; readonly mac: string }[];
  /** Settings below /proc/sys, e.g. `net/ipv4/conf/all/rp_filter`. */
  readonly sysctls?: Readonly<Record<string, string | number>>;
}

/** One end of a link. */
export interface LinkEnd<H extends string> {
  readonly host: H;
  /** Default: the other host's name. */
  readonly interface?: string;
  /** With prefix lengths: `10.0.0.1/24`, `fd00::1/64`. */
  readonly addresses?: readonly string[];
  /** Default: `02:00:00:00:LL:EE`, L the link from 1, E the end, 1 or 2. */
  readonly mac?: string;
  /**
   * An XDP program is going to run here. Frames that it sends back or redirects here reach the other end only if that
   * runs XDP too: it gets a program that passes everything, unless it says `xdp` itself. And the other end then computes
   * checksums itself, since what is left to the card is never done on frames that XDP moves.
   */
  readonly xdp?: boolean;
  readonly offloads?: Partial<Readonly<Record<Offload, boolean>>>;
}

/** A veth pair. */
export interface LinkOptions<H extends string> {
  readonly ends: readonly [LinkEnd<H>, LinkEnd<H>];
  /** Default 1500. */
  readonly mtu?: number;
}

/** What a topology consists of. */
export interface TopologyOptions<H extends string> {
  readonly hosts: Readonly<Record<H, HostOptions>>;
  readonly links?: readonly LinkOptions<NoInfer<H>>[];
}

/** A running network. */
export interface Topology<H extends string> extends AsyncDisposable {
  readonly hosts: Readonly<Record<H, Host>>;
  /** Stops everything that was started in it, and removes it. */
  close(): Promise<void>;
}

/**
 * Builds a network: `await using net = await topology({ hosts: { client: {}, lb: {} }, links: [{ ends: [{ host: 'client',
 * addresses: ['10.0.0.1/24'] }, { host: 'lb', addresses: ['10.0.0.2/24'], xdp: true }] }] })`. When it resolves, all links
 * are up. Throws NetlinkError, SyscallError and ArgumentError, leaving nothing behind.
 */
export async function topology<const H extends string>(options: TopologyOptions<H>): Promise<Topology<H>> {
  const stack = new AsyncDisposableStack();
  try {
    const names = Object.keys(options.hosts) as H[];
    const hosts = Object.fromEntries(names.map((name) => [name, stack.use(new Host(name))])) as Record<H, Host>;
    for (const [index, link] of (options.links ?? []).entries()) await makeLink(hosts, link, index + 1);
    for (const name of names) configure(hosts[name], options.hosts[name]);
    for (const name of names) await eventually(() => linksAreReady(hosts[name]), 5000, `the links of host '${name}'`);
    return { hosts, close: () => stack.disposeAsync(), [Symbol.asyncDispose]: () => stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

async function makeLink<H extends string>(
  hosts: Readonly<Record<H, Host>>,
  { ends, mtu = 1500 }: LinkOptions<H>,
  number: number,
): Promise<void> {
  const [first, second] = ends.map((end, index) => {
    const host = hosts[end.host];
    if (host === undefined) throw new ArgumentError(`link ${number} ends at host '${end.host}', which is not in the topology`);
    const other = ends[1 - index]?.host ?? '';
    const mac = end.mac ?? `02:00:00:00:${hex(number)}:${hex(index + 1)}`;
    return { ...end, at: host, name: end.interface ?? other.slice(0, 15), mac };
  });
  if (first === undefined || second === undefined) throw new ArgumentError(`link ${number} needs two ends`);
  // Different indexes: see VethEnd. Numbers of their own also tell a test that mixes two of them up.
  first.at.route.createVeth(
    { name: first.name, mac: first.mac, mtu, index: 10 * number + 1 },
    { name: second.name, mac: second.mac, mtu, index: 10 * number + 2, namespace: second.at.namespace },
  );
  for (const [end, other] of [
    [first, second],
    [second, first],
  ] as const) {
    const { route } = end.at;
    for (const address of end.addresses ?? []) route.addAddress(end.name, address);
    const offloads = { ...(other.xdp === true ? { txChecksum: false } : {}), ...end.offloads };
    if (Object.keys(offloads).length > 0) route.setOffloads(end.name, offloads);
    route.change(end.name, { up: true });
    if (other.xdp === true && end.xdp !== true) end.at.use(await attachPass(end.at.namespace, end.name));
  }
}

function configure(host: Host, { forwarding = false, loopback = [], routes = [], neighbours = [], sysctls = {} }: HostOptions): void {
  if (forwarding) enableForwarding(host.namespace);
  for (const [name, value] of Object.entries(sysctls)) setSysctl(host.namespace, name, value);
  for (const address of loopback) host.route.addAddress('lo', address);
  for (const route of routes) host.route.addRoute(route);
  for (const neighbour of neighbours) host.route.setNeighbour(neighbour.interface, neighbour.address, neighbour.mac);
}

/**
 * Whether every link has its link-local address, which the kernel gives it a little later: until then neighbours are asked
 * for in vain, and only after a second again. Lines of if_inet6: address, index, prefix length, scope, flags, name.
 */
function linksAreReady(host: Host): boolean {
  const lines = host.enter(() => readFileSync('/proc/thread-self/net/if_inet6', 'utf8')).split('\n');
  const ready = lines
    .map((line) => line.trim().split(/ +/))
    .filter(([address, , , , flags]) => address?.startsWith('fe80') && (Number.parseInt(flags ?? '', 16) & IFA_F_TENTATIVE) === 0);
  return host.route.interfaces().every(({ kind, name }) => kind !== 'veth' || ready.some((fields) => fields.at(-1) === name));
}

/** include/uapi/linux/if_addr.h. */
const IFA_F_TENTATIVE = 0x40;

function hex(number: number): string {
  return number.toString(16).padStart(2, '0');
}
