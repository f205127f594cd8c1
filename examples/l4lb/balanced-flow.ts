/** Which flow a frame that the balancer sent on is of, and to which real it goes: read off the frame alone. */
import { type ParsedLayer, parse } from '@tailrace/testing';
import { addressOf, REALS, type RealName } from './network.ts';

/** A packet of a flow on its way to a real. */
export interface BalancedFlow {
  /** `tcp 10.0.0.2:40000 > 10.9.9.9:80`; ICMP errors are of the flow that they are about. */
  readonly flow: string;
  readonly real: RealName;
}

const nameOf: ReadonlyMap<string | undefined, RealName> = new Map(REALS.map((name) => [addressOf(name), name]));

/** `undefined` for frames that go to no real: what passed, and what was answered. */
export function balancedFlow(frame: Uint8Array): BalancedFlow | undefined {
  const layers = parse(frame);
  const [outer, inner, quoted] = layers.filter(isIp);
  const real = nameOf.get(outer?.fields.daddr);
  const transport = layers.find(({ kind }) => kind === 'tcp' || kind === 'udp');
  if (real === undefined || inner === undefined || transport === undefined) return undefined;
  const { sport = '', dport = '' } = transport.fields;
  // what is quoted went the other way
  const [from, to] = quoted === undefined ? [end(inner, 'saddr', sport), end(inner, 'daddr', dport)] : reversed(quoted, sport, dport);
  return { flow: `${transport.kind} ${from} > ${to}`, real };
}

function isIp({ kind }: ParsedLayer): boolean {
  return kind === 'ipv4' || kind === 'ipv6';
}

function end({ fields }: ParsedLayer, side: 'saddr' | 'daddr', port: string): string {
  const address = fields[side] ?? '';
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function reversed(quoted: ParsedLayer, sport: string, dport: string): readonly [string, string] {
  return [end(quoted, 'daddr', dport), end(quoted, 'saddr', sport)];
}
