/**
 * What a balancer is told to do, as a value: vips, their reals, weights and drains. Every change is a pure function from
 * one configuration to the next; plan.ts says what it means for the maps.
 */
import { ArgumentError, formatMac, IpProtocol, type Ipv6Halves, macAddress } from '@tailrace/stage';
import { canonicalIp, formatAddress, type IpAddress, type IpFamily, parseIp, withPort } from '../address.ts';
import { MAX_WEIGHT } from '../structures/maglev.ts';
import { OUTER_BYTES, OUTER_BYTES6 } from './encap.ts';
import type { PortRange } from './nat/leases.ts';
import type { NextHop } from './next-hop.ts';

/** A vip by what packets to it carry. */
export interface VipAddress {
  /** IPv4 or IPv6, e.g. `198.51.100.1` or `2001:db8::1`. */
  readonly address: string;
  /** 1..65535. */
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
}

/** A vip and those who serve it. */
export interface VipOptions extends VipAddress {
  readonly reals?: readonly RealOptions[];
  /** Checks of its reals: on which TCP port, or not at all. Default: the vip's own for TCP, none for UDP. */
  readonly health?: { readonly port: number } | false;
  /** Full NAT: the port of its reals; default its own. */
  readonly realPort?: number;
}

/** One who serves a vip. */
export interface RealOptions {
  /** IPv4 or IPv6, whatever its vip has, e.g. `10.0.0.2`; unique within the vip. */
  readonly address: string;
  /** Its share relative to the vip's other reals, 0..1000; default 1. 0 gets no new flows. */
  readonly weight?: number;
  /** Where packets for it go on the link: a MAC address, or one behind another interface. Default: what NextHops says. */
  readonly nextHop?: string | NextHop;
}

/** A vip in a configuration. */
export interface VipConfig {
  /** See `vipName`. */
  readonly name: string;
  readonly address: IpAddress;
  readonly port: number;
  readonly protocol: number;
  /** Its number in the maps: of its ring, its counters and its flows. */
  readonly index: number;
  readonly healthPort: number | undefined;
  /** Where its reals listen: another port than its own needs NAT. */
  readonly realPort: number;
  readonly reals: readonly RealConfig[];
}

/** A real in a configuration: one who serves two vips is there twice. */
export interface RealConfig {
  /** Canonical. */
  readonly address: string;
  readonly weight: number;
  readonly drained: boolean;
  readonly nextHop: NextHop | undefined;
  /** Its number in the maps, from 1. */
  readonly place: number;
  /** The next hop with which another process left it, where it was up: it stays so until more is known. */
  readonly left?: NextHop;
}

/** The outer source addresses, by family; a family that no real has needs none. */
export interface Sources {
  readonly ipv4?: number;
  readonly ipv6?: Ipv6Halves;
}

/** How packets get to reals: in an outer header, or with their addresses rewritten. */
export type BalancerMode = 'tunnel' | 'nat';

/** What stays as it is while the balancer runs. */
export interface BalancerLimits {
  readonly mode: BalancerMode;
  readonly maxVips: number;
  readonly maxReals: number;
  readonly sources: Sources;
  /** The largest IP packet on the way to reals. */
  readonly mtu: number;
  /** Ports of the balancer's address that stand for flows, with NAT. */
  readonly natPorts?: PortRange;
}

/** The whole. */
export interface BalancerConfig extends BalancerLimits {
  readonly vips: readonly VipConfig[];
  /** Numbers are given out in turn, so that those of old flows come back late. */
  readonly lastIndex: number;
  readonly lastPlace: number;
}

/** Packets of IPv6 may be this large wherever they go (RFC 8200, section 5): an outer header must leave so much. */
const MIN_MTU6 = 1_280;

/** No vips. */
export function emptyConfig(limits: BalancerLimits): BalancerConfig {
  return { ...limits, vips: [], lastIndex: -1, lastPlace: 0 };
}

/** Reads one address, of either family, or one for each. Throws ArgumentError for text that is none, and for another family's. */
export function parseSources(source: string | { readonly ipv4?: string; readonly ipv6?: string }): Sources {
  const { ipv4, ipv6 } = typeof source === 'string' ? (source.includes(':') ? { ipv6: source } : { ipv4: source }) : source;
  return { ...sourceOf(4, ipv4), ...sourceOf(6, ipv6) };
}

/** `198.51.100.1:80/tcp`, `[2001:db8::1]:80/tcp`. Throws ArgumentError for an address, port or protocol that no vip can have. */
export function vipName({ address, port, protocol }: VipAddress): string {
  if (protocol !== 'tcp' && protocol !== 'udp') throw new ArgumentError(`vip: protocol is '${String(protocol)}', expected 'tcp' or 'udp'`);
  checkPort('vip', port);
  return `${withPort(canonicalIp(address), port)}/${protocol}`;
}

/** Throws ArgumentError for a vip that is there, and where there are too many, as `addReal` does for its reals. */
export function addVip(config: BalancerConfig, options: VipOptions): BalancerConfig {
  const name = vipName(options);
  const { address, port, protocol, reals = [], health, realPort = port } = options;
  if (config.vips.some((vip) => vip.name === name)) throw new ArgumentError(`vip ${name} is there already`);
  if (health) checkPort(`vip ${name}: health`, health.port);
  checkPort(`vip ${name}: realPort`, realPort);
  if (config.mode === 'tunnel' && realPort !== port)
    throw new ArgumentError(`vip ${name}: realPort is ${realPort}, expected its own port`, {
      hint: "what goes in a tunnel keeps its port: l4lb({ mode: 'nat' }) can change it",
    });
  if (config.mode === 'nat') checkNatVip(config, options, name);
  const index = nextFree(config.lastIndex, 0, config.maxVips, new Set(config.vips.map((vip) => vip.index)));
  if (index === undefined) throw new ArgumentError(`vip ${name}: there are ${config.maxVips} vips already`, { hint: 'raise maxVips' });
  const vip: VipConfig = {
    name,
    address: parseIp(address),
    port,
    protocol: IpProtocol[protocol],
    index,
    healthPort: health === false ? undefined : (health?.port ?? (protocol === 'tcp' ? realPort : undefined)),
    realPort,
    reals: [],
  };
  const added = { ...config, vips: [...config.vips, vip], lastIndex: index };
  return reals.reduce<BalancerConfig>((before, real) => addReal(before, name, real), added);
}

/** Throws ArgumentError for a vip that is not there, as all that follow do. */
export function removeVip(config: BalancerConfig, name: string): BalancerConfig {
  const gone = vipOf(config, name);
  return { ...config, vips: config.vips.filter((vip) => vip !== gone) };
}

/**
 * Throws ArgumentError for a real that the vip has, one that cannot be, one whose family has no source, and where there
 * are too many.
 */
export function addReal(config: BalancerConfig, name: string, options: RealOptions): BalancerConfig {
  const vip = vipOf(config, name);
  const parsed = parseIp(options.address);
  const address = formatAddress(parsed);
  const owner = `real ${address} of ${name}`;
  if (vip.reals.some((real) => real.address === address)) throw new ArgumentError(`${owner} is there already`);
  if (config.mode === 'tunnel') checkTunnel(config, vip, parsed.family, owner);
  else if (parsed.family === 6) throw new ArgumentError(`${owner} is of IPv6, expected IPv4 with NAT`);
  const { weight = 1, nextHop } = options;
  checkWeight(owner, weight);
  const hop = nextHop === undefined ? undefined : checkNextHop(nextHop);
  const taken = new Set(config.vips.flatMap(({ reals }) => reals.map(({ place }) => place)));
  const place = nextFree(config.lastPlace, 1, config.maxReals, taken);
  if (place === undefined) throw new ArgumentError(`${owner}: there are ${config.maxReals} reals already`, { hint: 'raise maxReals' });
  const real: RealConfig = { address, weight, drained: false, nextHop: hop, place };
  return { ...withReals(config, vip, [...vip.reals, real]), lastPlace: place };
}

/** Throws ArgumentError for a real that is not there, as all that follow do. */
export function removeReal(config: BalancerConfig, name: string, address: string): BalancerConfig {
  const vip = vipOf(config, name);
  const gone = realOf(vip, address);
  return withReals(
    config,
    vip,
    vip.reals.filter((real) => real !== gone),
  );
}

/** Throws ArgumentError for a weight that no real can have. */
export function setWeight(config: BalancerConfig, name: string, address: string, weight: number): BalancerConfig {
  checkWeight(`real ${address} of ${name}`, weight);
  return changeReal(config, name, address, (real) => ({ ...real, weight }));
}

/** Lets a real finish what it has, or take new flows again: of one vip, or of all that it serves. */
export function setDrained(config: BalancerConfig, address: string, drained: boolean, name?: string): BalancerConfig {
  const serving = config.vips.filter((vip) =>
    name === undefined ? vip.reals.some((real) => real.address === address) : vip.name === name,
  );
  if (serving.length === 0 && name !== undefined) vipOf(config, name);
  if (serving.length === 0) throw new ArgumentError(`real ${address} serves no vip`);
  return serving.reduce<BalancerConfig>((before, vip) => changeReal(before, vip.name, address, (real) => ({ ...real, drained })), config);
}

/** A vip can be translated, and answers to the balancer cannot be taken for requests to it. */
function checkNatVip({ sources, natPorts }: BalancerConfig, { address, port }: VipOptions, name: string): void {
  const parsed = parseIp(address);
  if (parsed.family === 6) throw new ArgumentError(`vip ${name} is of IPv6, expected IPv4 with NAT`);
  if (natPorts && parsed.value === sources.ipv4 && port >= natPorts.from && port <= natPorts.to)
    throw new ArgumentError(`vip ${name} has the balancer's own address and one of its ports ${natPorts.from}..${natPorts.to}`, {
      hint: 'answers of reals come there: give l4lb() another source, or other ports',
    });
}

/** A real can be sent packets of the vip in an outer header. */
function checkTunnel({ sources, mtu }: BalancerConfig, vip: VipConfig, family: IpFamily, owner: string): void {
  const name = family === 4 ? 'ipv4' : 'ipv6';
  if (sources[name] === undefined)
    throw new ArgumentError(`${owner}: the balancer has no IPv${family} source, expected an address of its own`, {
      hint: `l4lb({ source: { ${name}: '${family === 4 ? '10.0.0.1' : '2001:db8::1'}' } })`,
    });
  const least = MIN_MTU6 + outerBytes(family);
  if (vip.address.family === 6 && mtu < least)
    throw new ArgumentError(`${owner}: mtu is ${mtu}, expected at least ${least} for packets of IPv6 in an outer header`);
}

/** Bytes of the outer header to a real of that family. */
export function outerBytes(family: IpFamily): number {
  return family === 4 ? OUTER_BYTES : OUTER_BYTES6;
}

function sourceOf(family: IpFamily, text: string | undefined): Sources {
  if (text === undefined) return {};
  const address = parseIp(text);
  if (address.family !== family) throw new ArgumentError(`l4lb: source.ipv${family} is '${text}', expected an IPv${family} address`);
  return address.family === 4 ? { ipv4: address.value } : { ipv6: address.value };
}

function changeReal(config: BalancerConfig, name: string, address: string, change: (real: RealConfig) => RealConfig): BalancerConfig {
  const vip = vipOf(config, name);
  const old = realOf(vip, address);
  return withReals(
    config,
    vip,
    vip.reals.map((real) => (real === old ? change(real) : real)),
  );
}

function withReals(config: BalancerConfig, of: VipConfig, reals: readonly RealConfig[]): BalancerConfig {
  return { ...config, vips: config.vips.map((vip) => (vip === of ? { ...vip, reals } : vip)) };
}

function vipOf(config: BalancerConfig, name: string): VipConfig {
  const vip = config.vips.find((known) => known.name === name);
  if (vip === undefined) throw new ArgumentError(`there is no vip ${name}`, { hint: listed(config.vips.map((known) => known.name)) });
  return vip;
}

function realOf(vip: VipConfig, address: string): RealConfig {
  const real = vip.reals.find((known) => known.address === address);
  if (real === undefined)
    throw new ArgumentError(`vip ${vip.name} has no real ${address}`, { hint: listed(vip.reals.map((known) => known.address)) });
  return real;
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? 'there are none' : `there are ${names.join(', ')}`;
}

/** The number after `last` that is not taken, in turn; undefined where all are. */
export function nextFree(last: number, first: number, count: number, taken: ReadonlySet<number>): number | undefined {
  for (let step = 1; step <= count; step++) {
    const number = first + ((last - first + step) % count);
    if (!taken.has(number)) return number;
  }
  return undefined;
}

function checkPort(owner: string, port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new ArgumentError(`${owner}: port is ${port}, expected 1..65535`);
}

function checkWeight(owner: string, weight: number): void {
  if (!Number.isInteger(weight) || weight < 0 || weight > MAX_WEIGHT)
    throw new ArgumentError(`${owner}: weight is ${weight}, expected 0..${MAX_WEIGHT}`);
}

function checkNextHop(nextHop: string | NextHop): NextHop {
  const hop: NextHop = typeof nextHop === 'string' ? { mac: nextHop } : nextHop;
  const mac = formatMac(macAddress(hop.mac));
  if (hop.egress === undefined) return { mac };
  const { ifindex } = hop.egress;
  if (!Number.isInteger(ifindex) || ifindex < 1 || ifindex > 0x7fff_ffff)
    throw new ArgumentError(`next hop ${mac}: ifindex is ${ifindex}, expected 1..2147483647`);
  return { mac, egress: { ifindex, mac: formatMac(macAddress(hop.egress.mac)) } };
}
