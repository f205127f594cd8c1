/** Rules and endpoints as people write them, checked and brought into one form. */
import { ArgumentError } from '@tailrace/stage';
import { formatPrefix, type Prefix, parsePrefix } from '../acl/prefix.ts';

/** `ingress` is towards the endpoint, `egress` away from it. */
export type PolicyDirection = 'ingress' | 'egress';
/** By name or by number; `icmp` is ICMP and ICMPv6. */
export type PolicyProtocol = 'tcp' | 'udp' | 'icmp' | 'sctp' | number;
/** One port, or some, `[from, to]` for all from one to another: `443`, `[80, 443, [8000, 8099]]`. */
export type PolicyPorts = number | readonly (number | readonly [from: number, to: number])[];

/** What may start a flow; all else is denied. */
export interface PolicyRule {
  readonly direction: PolicyDirection;
  /** The other side: prefixes of either family; anybody where there is none. */
  readonly peer?: string | readonly string[];
  /** Any where there is none. */
  readonly protocol?: PolicyProtocol;
  /** Destination ports, of TCP or UDP; any where there are none. */
  readonly ports?: PolicyPorts;
}

/** Who is protected: addresses behind the interface, and what they may do. */
export interface PolicyEndpoint {
  /** Default: its first address. */
  readonly name?: string;
  /** Addresses or prefixes of either family; where those of two endpoints overlap, the longer one counts. */
  readonly address: string | readonly string[];
  /** Nothing is let through without rules. */
  readonly rules?: readonly PolicyRule[];
}

/** A rule in one form. */
export interface ParsedRule {
  /** The same for rules that mean the same. */
  readonly text: string;
  readonly direction: PolicyDirection;
  readonly peers: readonly Prefix[];
  /** Undefined: any. */
  readonly protocols: readonly number[] | undefined;
  /** Undefined: any. */
  readonly ports: readonly (readonly [from: number, to: number])[] | undefined;
  /** As it was given. */
  readonly rule: PolicyRule;
}

/** An endpoint in one form. */
export interface ParsedEndpoint {
  readonly name: string;
  /** Canonical, each once. */
  readonly addresses: readonly Prefix[];
  /** In the order in which they were given, each once. */
  readonly rules: readonly ParsedRule[];
}

const numbers: Readonly<Record<string, readonly number[]>> = { tcp: [6], udp: [17], icmp: [1, 58], sctp: [132] };

/** Throws ArgumentError for addresses, protocols and ports that are none, and ports without a protocol that has them. */
export function parseEndpoint({ name, address, rules = [] }: PolicyEndpoint): ParsedEndpoint {
  const addresses = prefixes(address);
  const [first] = addresses;
  if (first === undefined) throw new ArgumentError(`policy: endpoint '${name ?? ''}' has no address, expected at least one`);
  const parsed = new Map(rules.map((rule) => parseRule(rule)).map((rule) => [rule.text, rule]));
  return { name: name ?? nameOf(first), addresses, rules: [...parsed.values()] };
}

function parseRule(rule: PolicyRule): ParsedRule {
  const { direction, peer = ['0.0.0.0/0', '::/0'], protocol, ports } = rule;
  if (direction !== 'ingress' && direction !== 'egress')
    throw new ArgumentError(`policy: direction is '${String(direction)}', expected 'ingress' or 'egress'`);
  const peers = prefixes(peer);
  if (peers.length === 0) throw new ArgumentError('policy: peer is an empty list, expected at least one prefix, or none for anybody');
  const protocols = protocol === undefined ? undefined : protocolNumbers(protocol);
  if (ports !== undefined && protocols?.every((number) => number === 6 || number === 17) !== true)
    throw new ArgumentError(`policy: ports of protocol '${protocol ?? 'any'}', expected 'tcp' or 'udp'`);
  const ranges = ports === undefined ? undefined : portRanges(ports);
  const texts = peers.map((prefix) => formatPrefix(prefix)).sort();
  const text = JSON.stringify([direction, texts, protocols, ranges]);
  return { text, direction, peers, protocols, ports: ranges, rule };
}

/** An address alone by itself, a prefix with its length. */
function nameOf(prefix: Prefix): string {
  return formatPrefix(prefix).replace(prefix.family === 4 ? /\/32$/ : /\/128$/, '');
}

function prefixes(text: string | readonly string[]): readonly Prefix[] {
  const list = typeof text === 'string' ? [text] : text;
  return [...new Map(list.map(parsePrefix).map((prefix) => [formatPrefix(prefix), prefix])).values()];
}

function protocolNumbers(protocol: PolicyProtocol): readonly number[] {
  const known = typeof protocol === 'string' && Object.hasOwn(numbers, protocol) ? numbers[protocol] : undefined;
  if (known) return known;
  if (typeof protocol !== 'number' || !Number.isInteger(protocol) || protocol < 0 || protocol > 254)
    throw new ArgumentError(`policy: protocol is '${protocol}', expected ${Object.keys(numbers).join(', ')} or 0..254`);
  return [protocol];
}

/** In rising order, without overlaps. */
function portRanges(ports: PolicyPorts): readonly (readonly [number, number])[] {
  const list = (typeof ports === 'number' ? [ports] : ports).map((port) => (typeof port === 'number' ? ([port, port] as const) : port));
  for (const [from, to] of list)
    if (!Number.isInteger(from) || !Number.isInteger(to) || from < 0 || to > 65_535 || from > to)
      throw new ArgumentError(`policy: ports ${from} to ${to}, expected 0..65535, the lower one first`);
  if (list.length === 0) throw new ArgumentError('policy: ports is an empty list, expected at least one, or none for any');
  const merged: [number, number][] = [];
  for (const [from, to] of list.toSorted(([a], [b]) => a - b)) {
    const last = merged.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}
