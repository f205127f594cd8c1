/** The policy against naive models: rules read one by one, flows in a list. */
import { type Packet, packet } from '@tailrace/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { simulatedPolicy } from './fixture.ts';
import type { PolicyEndpoint, PolicyRule } from './index.ts';
import { blocks } from './plan.ts';

const second = 1_000_000_000n;
type Direction = 'in' | 'out';

/** Addresses below a few prefixes, so that rules and packets meet. */
const bits = (text: string): string =>
  text.includes(':')
    ? BigInt(
        `0x${text
          .split(':')
          .map((group) => group.padStart(4, '0'))
          .join('')}`,
      )
        .toString(2)
        .padStart(128, '0')
    : text
        .split('.')
        .map((part) => Number(part).toString(2).padStart(8, '0'))
        .join('');
const address = (binary: string): string =>
  binary.length === 32
    ? (binary.match(/.{8}/g) ?? []).map((part) => Number.parseInt(part, 2)).join('.')
    : (binary.match(/.{16}/g) ?? []).map((part) => Number.parseInt(part, 2).toString(16)).join(':');
const peers4 = ['10.0.0.1', '10.0.0.2', '10.0.1.1', '10.128.0.1', '192.0.2.1', '0.0.0.1'];
const peers6 = ['2001:db8:0:0:0:0:0:1', '2001:db8:0:0:0:0:0:2', '2001:db8:0:0:8000:0:0:1', '2001:db8:1:0:0:0:0:1', 'fc00:0:0:0:0:0:0:1'];
const anyPeer = fc.constantFrom(...peers4, ...peers6);
const anyPrefix = fc.tuple(anyPeer, fc.constantFrom(0, 1, 8, 9, 16, 23, 24, 30, 31, 32, 33, 64, 65, 127, 128)).map(([peer, wanted]) => {
  const whole = bits(peer);
  const length = Math.min(wanted, whole.length);
  return {
    text: `${address(whole.slice(0, length).padEnd(whole.length, '0'))}/${length}`,
    bits: whole.slice(0, length),
    width: whole.length,
  };
});
const port = fc.constantFrom(0, 1, 52, 53, 54, 80, 81, 1023, 1024, 8000, 40_000, 65_534, 65_535);
const protocolOf = { tcp: 6, udp: 17, gre: 47 } as const;

interface ModelRule {
  readonly rule: PolicyRule;
  readonly matches: (direction: 'ingress' | 'egress', peer: string, protocol: number, port: number) => boolean;
}

const anyRule: fc.Arbitrary<ModelRule> = fc
  .record({
    direction: fc.constantFrom('ingress' as const, 'egress' as const),
    peer: fc.option(fc.array(anyPrefix, { minLength: 1, maxLength: 3 }), { nil: undefined }),
    protocol: fc.option(fc.constantFrom('tcp' as const, 'udp' as const, 47), { nil: undefined }),
    ports: fc.option(fc.array(fc.tuple(port, port), { minLength: 1, maxLength: 3 }), { nil: undefined }),
  })
  .map(({ direction, peer, protocol, ports }) => {
    const ranges = protocol === 'tcp' || protocol === 'udp' ? ports?.map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const) : undefined;
    const number = typeof protocol === 'string' ? protocolOf[protocol] : protocol;
    const rule: PolicyRule = {
      direction,
      ...(peer ? { peer: peer.map(({ text }) => text) } : {}),
      ...(protocol === undefined ? {} : { protocol }),
      ...(ranges ? { ports: ranges } : {}),
    };
    return {
      rule,
      matches: (to, from, of, at) =>
        to === direction &&
        (peer === undefined || peer.some(({ bits: prefix, width }) => bits(from).length === width && bits(from).startsWith(prefix))) &&
        (number === undefined || number === of) &&
        (ranges === undefined || ranges.some(([first, last]) => first <= at && at <= last)),
    };
  });

const HOSTS = { 4: '172.16.0.1', 6: '2001:db8:5:0:0:0:0:5' } as const;
const between = (direction: Direction, peer: string): Packet => {
  const family = peer.includes(':') ? 6 : 4;
  const ends = direction === 'in' ? { saddr: peer, daddr: HOSTS[family] } : { saddr: HOSTS[family], daddr: peer };
  return family === 6 ? packet().ipv6(ends) : packet().ipv4(ends);
};

describe('rules', { timeout: 30_000 }, () => {
  it('let start what any of them lets start, and the first one counts it', () => {
    const anyPacket = fc.record({
      direction: fc.constantFrom('in' as const, 'out' as const),
      peer: anyPeer,
      protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'gre' as const),
      port,
    });
    fc.assert(
      fc.property(
        fc.array(anyRule, { maxLength: 6 }),
        fc.array(anyRule, { maxLength: 4 }),
        fc.array(anyPacket, { minLength: 1, maxLength: 12 }),
        (first, later, packets) => {
          const endpoint = (rules: readonly ModelRule[]): PolicyEndpoint => ({
            name: 'host',
            address: Object.values(HOSTS),
            rules: rules.map(({ rule }) => rule),
          });
          const { controller, send } = simulatedPolicy([endpoint(first)]);
          for (const rules of [first, later]) {
            controller.set(endpoint(rules));
            const before = controller.rules();
            const counted = new Map<string, number>();
            for (const { direction, peer, protocol, port } of packets) {
              controller.flush();
              const ip = between(direction, peer);
              const frame =
                protocol === 'tcp' ? ip.tcp({ dport: port, syn: true }) : protocol === 'udp' ? ip.udp({ dport: port }) : gre(ip);
              const to = direction === 'in' ? 'ingress' : 'egress';
              const match = rules.find(({ matches }) => matches(to, peer, protocolOf[protocol], protocol === 'gre' ? 0 : port));
              expect([direction, peer, protocol, port, send(direction, frame)]).toEqual([
                direction,
                peer,
                protocol,
                port,
                match ? 'next' : 'denied',
              ]);
              if (match) counted.set(JSON.stringify(match.rule), (counted.get(JSON.stringify(match.rule)) ?? 0) + 1);
            }
            const after = controller.rules();
            for (const [index, { rule, packets: now }] of after.entries()) {
              const text = JSON.stringify(rule);
              expect([text, Number(now - (before[index]?.packets ?? 0n))]).toEqual([text, counted.get(text) ?? 0]);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('have ports in blocks that fill their range', () => {
    fc.assert(
      fc.property(port, port, (a, b) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        let next = from;
        const parts = blocks(from, to);
        for (const { port: start, bits: length } of parts) {
          expect([start, start % 2 ** (16 - length)]).toEqual([next, 0]);
          next += 2 ** (16 - length);
        }
        expect(next).toBe(to + 1);
        expect(parts.length).toBeLessThanOrEqual(30);
      }),
    );
  });
});

function gre(ip: Packet): Packet {
  return ip.gre().payload(20);
}

interface ModelFlow {
  readonly by: Direction;
  last: bigint;
  answered: boolean;
  reset: boolean;
  readonly fins: Set<Direction>;
}
interface ModelPacket {
  readonly direction: Direction;
  readonly protocol: 'tcp' | 'udp' | 'echo';
  readonly peer: string;
  /** Ports of the endpoint and of the peer; the first is an echo's id. */
  readonly local: number;
  readonly remote: number;
  readonly flags: readonly ('syn' | 'ack' | 'fin' | 'rst')[];
  readonly asks: boolean;
}

/** Peers may connect to port 80 and ask port 53; the endpoint may do all. */
function allowed({ direction, protocol, local }: ModelPacket): boolean {
  return direction === 'out' || (protocol === 'tcp' && local === 80) || (protocol === 'udp' && local === 53);
}
const stateful: PolicyEndpoint = {
  address: Object.values(HOSTS),
  rules: [
    { direction: 'ingress', protocol: 'tcp', ports: 80 },
    { direction: 'ingress', protocol: 'udp', ports: 53 },
    { direction: 'egress' },
  ],
};

class ModelFlows {
  readonly #flows = new Map<string, ModelFlow>();

  decide(sent: ModelPacket, now: bigint): 'next' | 'denied' {
    const { direction, protocol, peer, local, remote, flags, asks } = sent;
    const asker = asks === (direction === 'in') ? 'peer' : 'host';
    const name = protocol === 'echo' ? `echo ${peer} ${local} ${asker}` : `${protocol} ${peer} ${local} ${remote}`;
    const flow = this.#flows.get(name);
    const starts = protocol !== 'tcp' || (flags.includes('syn') && flags.length === 1);
    if (flow && now < flow.last + this.#lifetime(protocol, flow)) {
      const other = protocol === 'tcp' && starts && (flow.by !== direction || flow.reset || flow.fins.size === 2);
      if (!other) {
        flow.last = now;
        if (flow.by !== direction) flow.answered = true;
        if (protocol === 'tcp' && flags.includes('fin')) flow.fins.add(direction);
        flow.reset = protocol === 'tcp' && flags.includes('rst');
        return 'next';
      }
    }
    if (!starts || !allowed(sent)) return 'denied';
    if (protocol !== 'echo' || asks) this.#flows.set(name, { by: direction, last: now, answered: false, reset: false, fins: new Set() });
    return 'next';
  }

  #lifetime(protocol: ModelPacket['protocol'], { answered, reset, fins }: ModelFlow): bigint {
    if (reset || fins.size === 2) return 30n * second;
    if (protocol === 'echo') return 60n * second;
    if (!answered) return 60n * second;
    return (protocol === 'tcp' ? 7_440n : 180n) * second;
  }
}

describe('flows', { timeout: 30_000 }, () => {
  it('are what a list of flows says, packet by packet', () => {
    const anyPacket: fc.Arbitrary<ModelPacket> = fc.record({
      direction: fc.constantFrom('in' as const, 'out' as const),
      protocol: fc.constantFrom('tcp' as const, 'tcp' as const, 'udp' as const, 'echo' as const),
      peer: fc.constantFrom('10.0.0.1', '10.0.0.1', '10.0.0.1', '2001:db8:0:0:0:0:0:1'),
      local: fc.constantFrom(80, 80, 80, 53),
      remote: fc.constant(1),
      flags: fc.oneof(
        fc.constantFrom(['syn'] as const, ['ack'] as const, ['syn', 'ack'] as const, ['fin', 'ack'] as const, ['rst'] as const),
        fc.subarray(['syn', 'ack', 'fin', 'rst'] as const),
      ),
      asks: fc.boolean(),
    });
    const pause = fc.constantFrom(1, 29, 30, 31, 60, 179, 180, 7_440);
    const step = fc.oneof({ weight: 4, arbitrary: anyPacket }, { weight: 1, arbitrary: pause });
    fc.assert(
      fc.property(fc.array(step, { minLength: 60, maxLength: 100 }), (steps) => {
        const { send, at } = simulatedPolicy([stateful]);
        const model = new ModelFlows();
        for (const [index, what] of steps.entries()) {
          if (typeof what === 'number') {
            at.now += BigInt(what) * second;
            continue;
          }
          const { direction, protocol, peer, local, remote, flags, asks } = what;
          const [sport, dport] = direction === 'in' ? [remote, local] : [local, remote];
          const ip = between(direction, peer);
          const set = Object.fromEntries(flags.map((flag) => [flag, true]));
          const type = peer.includes(':') ? (asks ? 128 : 129) : asks ? 8 : 0;
          const echo = peer.includes(':') ? ip.icmpv6({ type, id: local }) : ip.icmp({ type, id: local });
          const frame = protocol === 'tcp' ? ip.tcp({ sport, dport, ...set }) : protocol === 'udp' ? ip.udp({ sport, dport }) : echo;
          expect([index, send(direction, frame)]).toEqual([index, model.decide(what, at.now)]);
        }
      }),
      { numRuns: 40 },
    );
  });
});
