import { eventually, fragments, type Packet, packet, truncations } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { simulatedPolicy } from './fixture.ts';
import { type DeniedPacket, type PolicyEndpoint, policy } from './index.ts';

const second = 1_000_000_000n;
const HOST = '10.0.0.5';
const HOST6 = '2001:db8::5';
const PEER = '192.0.2.1';
const PEER6 = '2001:db8:1::1';

/** A packet from the peer to the endpoint, and one back. */
const inward = (fields: Parameters<Packet['ipv4']>[0] = {}) => packet().ipv4({ saddr: PEER, daddr: HOST, ...fields });
const outward = (fields: Parameters<Packet['ipv4']>[0] = {}) => packet().ipv4({ saddr: HOST, daddr: PEER, ...fields });
const inward6 = () => packet().ipv6({ saddr: PEER6, daddr: HOST6 });
const outward6 = () => packet().ipv6({ saddr: HOST6, daddr: PEER6 });

const web: PolicyEndpoint = {
  name: 'web',
  address: [HOST, HOST6],
  rules: [
    { direction: 'ingress', protocol: 'tcp', ports: [80, [8000, 8099]] },
    { direction: 'ingress', peer: ['192.0.2.0/24', '2001:db8:1::/48'], protocol: 'udp', ports: 53 },
    { direction: 'egress', protocol: 'tcp', ports: 443 },
    { direction: 'egress', protocol: 'udp' },
    { direction: 'egress', protocol: 'icmp' },
  ],
};
const client = { sport: 40_000, dport: 80 };
const server = { sport: 80, dport: 40_000 };

describe('rules', () => {
  it('let in what they name, and nothing else', () => {
    const { controller, send } = simulatedPolicy([web]);
    expect(send('in', inward().tcp({ ...client, syn: true }))).toBe('next');
    expect(send('in', inward().tcp({ dport: 8050, syn: true }))).toBe('next');
    expect(send('in', inward().tcp({ dport: 8100, syn: true }))).toBe('denied');
    expect(send('in', inward().tcp({ dport: 443, syn: true }))).toBe('denied');
    expect(send('out', outward().tcp({ sport: 1, dport: 443, syn: true }))).toBe('next');
    expect(send('out', outward().tcp({ sport: 2, dport: 80, syn: true }))).toBe('denied');
    expect(send('in', inward().udp({ dport: 53 }))).toBe('next');
    expect(send('in', inward({ saddr: '198.51.100.1' }).udp({ dport: 53 }))).toBe('denied');
    expect(send('in', inward6().udp({ dport: 53 }))).toBe('next');
    expect(send('in', inward6().tcp({ dport: 80, syn: true }))).toBe('next');
    expect(send('in', inward6().icmpv6())).toBe('denied');
    expect(send('out', outward({ protocol: 47 }).payload(20))).toBe('denied');
    expect(controller.rules().map(({ packets }) => packets)).toEqual([3n, 2n, 1n, 0n, 0n]);
    expect(controller.denials()).toMatchObject([{ endpoint: 'web', reason: 'rule', packets: 6n }]);
  });

  it('are those of the longest address', () => {
    const { controller, send } = simulatedPolicy([
      { address: '10.0.0.0/24', rules: [{ direction: 'ingress' }] },
      { address: HOST, rules: [{ direction: 'egress' }] },
    ]);
    expect(send('in', inward({ daddr: '10.0.0.9' }).tcp({ syn: true }))).toBe('next');
    expect(send('in', inward().tcp({ syn: true }))).toBe('denied');
    expect(controller.endpoints.map(({ address }) => address)).toEqual(['10.0.0.0/24', HOST]);
    expect(controller.rules().map(({ endpoint }) => endpoint)).toEqual(['10.0.0.0/24', HOST]);
  });

  it('deny strangers, unless they may pass', () => {
    const frame = inward({ daddr: '10.9.9.9' }).tcp({ syn: true });
    const strict = simulatedPolicy([web]);
    expect(strict.send('in', frame)).toBe('denied');
    expect(strict.controller.denials()).toEqual([{ endpoint: undefined, reason: 'endpoint', packets: 1n, bytes: 54n }]);
    expect(simulatedPolicy([web], { strangers: true }).send('in', frame)).toBe('next');
  });

  it('count segments', () => {
    const { controller, send } = simulatedPolicy([web]);
    send('in', inward().tcp({ ...client, syn: true }));
    send(
      'in',
      inward()
        .tcp({ ...client, ack: true })
        .payload(3_000),
      3,
    );
    send('in', inward().tcp({ dport: 81, syn: true }), 2);
    expect(controller.rules()[0]).toMatchObject({ packets: 4n, bytes: 54n + 3_054n });
    expect(controller.denials()[0]?.packets).toBe(2n);
  });
});

describe('flows', () => {
  it('let answers back, in either direction', () => {
    const { controller, send } = simulatedPolicy([web]);
    expect(send('out', outward().tcp({ ...server, syn: true, ack: true }))).toBe('denied');
    expect(send('in', inward().tcp({ ...client, syn: true }))).toBe('next');
    expect(send('out', outward().tcp({ ...server, syn: true, ack: true }))).toBe('next');
    expect(send('in', inward().tcp({ ...client, ack: true }))).toBe('next');
    expect(send('out', outward().tcp({ ...server, sport: 81, ack: true }))).toBe('denied');
    expect(send('in', inward().udp({ sport: 53, dport: 9 }))).toBe('denied');
    expect(send('out', outward().udp({ sport: 9, dport: 53 }))).toBe('next');
    expect(send('in', inward().udp({ sport: 53, dport: 9 }))).toBe('next');
    expect(send('out', outward6().udp({ sport: 9, dport: 53 }))).toBe('next');
    expect(send('in', inward6().udp({ sport: 53, dport: 9 }))).toBe('next');
    expect(
      controller.flows('web').map(({ direction, peer, peerPort, localPort, answered }) => [direction, peer, peerPort, localPort, answered]),
    ).toEqual([
      ['ingress', PEER, 40_000, 80, true],
      ['egress', PEER, 53, 9, true],
      ['egress', PEER6, 53, 9, true],
    ]);
  });

  it('of TCP start with a SYN', () => {
    const { controller, send } = simulatedPolicy([web]);
    for (const flags of [
      { ack: true },
      { syn: true, ack: true },
      { fin: true },
      { rst: true },
      {},
      { syn: true, fin: true },
      { syn: true, rst: true },
    ])
      expect(send('in', inward().tcp({ ...client, ...flags }))).toBe('denied');
    expect(controller.denials()).toMatchObject([{ reason: 'state', packets: 7n }]);
    expect(send('in', inward().tcp({ ...client, syn: true, ece: true, cwr: true }))).toBe('next');
  });

  it('are not taken over by a SYN from the other side', () => {
    const { send } = simulatedPolicy([web]);
    expect(send('out', outward().tcp({ sport: 5_000, dport: 443, syn: true }))).toBe('next');
    expect(send('in', inward().tcp({ sport: 443, dport: 5_000, syn: true }))).toBe('denied');
    expect(send('in', inward().tcp({ sport: 443, dport: 5_000, syn: true, ack: true }))).toBe('next');
    expect(send('out', outward().tcp({ sport: 5_000, dport: 443, syn: true }))).toBe('next');
  });

  it('end: idle, unanswered, closed from both sides, reset', () => {
    const { send, at } = simulatedPolicy([web]);
    const start = (sport: number) => expect(send('in', inward().tcp({ ...client, sport, syn: true }))).toBe('next');
    const forth = (sport: number, fields: object = {}) => send('in', inward().tcp({ ...client, sport, ack: true, ...fields }));
    const back = (dport: number, fields: object = {}) => send('out', outward().tcp({ ...server, dport, ack: true, ...fields }));
    for (const port of [1, 2, 3, 4, 5]) start(port);
    for (const port of [2, 3, 4, 5]) expect(back(port, { syn: true })).toBe('next');
    expect([forth(3, { fin: true }), back(3, { fin: true })]).toEqual(['next', 'next']);
    expect(forth(4, { fin: true })).toBe('next');
    expect(back(5, { rst: true })).toBe('next');
    expect([forth(3), forth(4), back(4)]).toEqual(['next', 'next', 'next']);
    at.now += 30n * second;
    expect([3, 4, 5].map((port) => forth(port))).toEqual(['denied', 'next', 'denied']);
    at.now += 30n * second;
    expect([1, 2].map((port) => forth(port))).toEqual(['denied', 'next']);
    at.now += 7_439n * second;
    expect(forth(2)).toBe('next');
    at.now += 7_440n * second;
    expect(forth(2)).toBe('denied');
    start(3);
  });

  it('go on after a reset that was not meant', () => {
    const { send, at } = simulatedPolicy([web]);
    send('in', inward().tcp({ ...client, syn: true }));
    send('out', outward().tcp({ ...server, syn: true, ack: true }));
    send('in', inward().tcp({ ...client, rst: true }));
    expect(send('out', outward().tcp({ ...server, ack: true }))).toBe('next');
    at.now += 100n * second;
    expect(send('out', outward().tcp({ ...server, ack: true }))).toBe('next');
  });

  it('start anew on ports that are used again, if rules let them', () => {
    const { controller, send } = simulatedPolicy([web]);
    send('in', inward().tcp({ ...client, syn: true }));
    send('out', outward().tcp({ ...server, rst: true, ack: true }));
    controller.set({ ...web, rules: [] });
    expect(send('in', inward().tcp({ ...client, syn: true }))).toBe('denied');
    controller.set(web);
    expect(send('in', inward().tcp({ ...client, syn: true }))).toBe('next');
  });

  it('of echoes let answers in and no questions', () => {
    const { send } = simulatedPolicy([web]);
    const ask = { type: 8, id: 7 };
    const answer = { type: 0, id: 7 };
    expect(send('in', inward().icmp(answer))).toBe('denied');
    expect(send('out', outward().icmp(ask))).toBe('next');
    expect(send('in', inward().icmp(answer))).toBe('next');
    expect(send('in', inward().icmp({ ...answer, id: 8 }))).toBe('denied');
    expect(send('in', inward().icmp(ask))).toBe('denied');
    expect(send('out', outward6().icmpv6({ type: 128, id: 7 }))).toBe('next');
    expect(send('in', inward6().icmpv6({ type: 129, id: 7 }))).toBe('next');
    expect(send('in', inward6().icmpv6({ type: 128, id: 7 }))).toBe('denied');
  });

  it('are forgotten when asked to, and with their endpoint', async () => {
    const { controller, send, needs } = simulatedPolicy([web, { address: '10.0.0.6', rules: [{ direction: 'ingress' }] }]);
    send('in', inward().tcp({ ...client, syn: true }));
    send('in', inward({ daddr: '10.0.0.6' }).tcp({ syn: true }));
    expect(controller.flush('nobody')).toBe(0);
    expect(controller.flush('web')).toBe(1);
    expect(send('in', inward().tcp({ ...client, ack: true }))).toBe('denied');
    expect(send('in', inward({ daddr: '10.0.0.6' }).tcp({ ack: true }))).toBe('next');
    expect(controller.remove('10.0.0.6')).toBe(true);
    expect(controller.remove('10.0.0.6')).toBe(false);
    expect(send('in', inward({ daddr: '10.0.0.6' }).tcp({ ack: true }))).toBe('denied');
    expect(needs.flows.size).toBe(0);
    await controller.settled();
    expect([needs.peers4.size, needs.peers6.size]).toEqual([3, 3]);
  });
});

describe('ICMP errors', () => {
  const frame = outward({ saddr: HOST }).udp({ sport: 9, dport: 53 }).payload(30);

  it('about known flows come in, from whomever', () => {
    const { send } = simulatedPolicy([web]);
    const error = (quoted: Packet | Uint8Array, type = 3) =>
      packet().ipv4({ saddr: '203.0.113.1', daddr: HOST }).icmp({ type, code: 4 }).quote(quoted);
    expect(send('in', error(frame))).toBe('denied');
    expect(send('out', frame)).toBe('next');
    expect([3, 11, 12].map((type) => send('in', error(frame, type)))).toEqual(['next', 'next', 'next']);
    expect(send('in', error(outward().udp({ sport: 10, dport: 53 })))).toBe('denied');
    expect(send('in', error(frame, 5))).toBe('denied');
    // quoted by somebody else than its sender
    expect(send('in', error(inward().udp({ sport: 53, dport: 9 })))).toBe('denied');
    expect(send('out', outward().icmp({ type: 8, id: 3 }))).toBe('next');
    expect(send('in', error(outward().icmp({ type: 8, id: 3 })))).toBe('next');
    expect(send('in', error(outward().icmp({ type: 8, id: 4 })))).toBe('denied');
  });

  it('about known flows go out, and those of IPv6 too', () => {
    const { send } = simulatedPolicy([
      {
        ...web,
        rules: [
          { direction: 'ingress', protocol: 'udp' },
          { direction: 'egress', protocol: 'tcp' },
        ],
      },
    ]);
    const asked = inward6().udp({ sport: 9, dport: 53 }).payload(30);
    const refusal = outward6().icmpv6({ type: 1, code: 4 }).quote(asked);
    expect(send('out', refusal)).toBe('denied');
    expect(send('in', asked)).toBe('next');
    expect(send('out', refusal)).toBe('next');
    const syn = outward6().tcp({ sport: 5, dport: 443, syn: true });
    const tooBig = packet().ipv6({ saddr: '2001:db8:9::1', daddr: HOST6 }).icmpv6({ type: 2, mtu: 1280 }).quote(syn);
    expect(send('in', tooBig)).toBe('denied');
    expect(send('out', syn)).toBe('next');
    expect(send('in', tooBig)).toBe('next');
  });

  it('that are cut short go by the rules', () => {
    const { send } = simulatedPolicy([web]);
    send('out', frame);
    const whole = packet().ipv4({ saddr: '203.0.113.1', daddr: HOST }).icmp({ type: 3 }).quote(frame).bytes();
    for (const cut of truncations(whole, 42))
      expect([cut.length, send('in', cut)]).toEqual([cut.length, cut.length < 66 ? 'denied' : expect.any(String)]);
    expect(send('in', whole)).toBe('next');
  });
});

describe('pieces of packets', () => {
  it('follow the first one', () => {
    const { controller, send, at } = simulatedPolicy([web]);
    for (const whole of [inward({ id: 5 }).udp({ dport: 53 }).payload(200), inward6().udp({ dport: 53 }).payload(200)]) {
      const [first, ...others] = fragments(whole, 64);
      if (first === undefined) throw new RangeError('no pieces');
      for (const piece of others) expect(send('in', piece)).toBe('denied');
      expect(send('in', first)).toBe('next');
      for (const piece of others) expect(send('in', piece)).toBe('next');
      for (const piece of others) expect(send('out', piece)).toBe('denied');
      at.now += 30n * second;
      for (const piece of others) expect(send('in', piece)).toBe('denied');
    }
    expect(controller.rules()[1]?.packets).toBe(8n);
    expect(controller.denials()).toMatchObject([
      { endpoint: 'web', reason: 'fragment', packets: 12n },
      { endpoint: undefined, reason: 'endpoint', packets: 6n },
    ]);
  });

  it('of packets of known flows follow too; of those that are denied they do not', () => {
    const { send } = simulatedPolicy([web]);
    send('out', outward().udp({ sport: 9, dport: 53 }));
    for (const piece of fragments(inward({ id: 6 }).udp({ sport: 53, dport: 9 }).payload(100), 64)) expect(send('in', piece)).toBe('next');
    for (const piece of fragments(inward({ id: 7 }).udp({ sport: 54, dport: 9 }).payload(100), 64))
      expect(send('in', piece)).toBe('denied');
  });

  it('may not reach into the header of TCP', () => {
    const { send } = simulatedPolicy([web]);
    const [first, second, third] = fragments(
      inward({ id: 8 })
        .tcp({ ...client, syn: true })
        .payload(100),
      8,
    );
    if (!first || !second || !third) throw new RangeError('no pieces');
    expect(send('in', first)).toBe('denied');
    const whole = fragments(
      inward({ id: 8 })
        .tcp({ ...client, syn: true })
        .payload(100),
      32,
    );
    expect(whole.map((piece) => send('in', piece))).toEqual(['next', 'next', 'next', 'next']);
    expect([second, third].map((piece) => send('in', piece))).toEqual(['denied', 'denied']);
  });
});

describe('what a network needs', () => {
  const solicitation = inward6().icmpv6({ type: 135 }).payload(20);
  it('passes: ARP, neighbour discovery, listener reports', () => {
    const { send } = simulatedPolicy([web]);
    expect(send('in', packet().arp())).toBe('next');
    expect(send('in', packet().ipv6({ hopLimit: 255 }).icmpv6({ type: 135 }).payload(20))).toBe('next');
    expect(send('out', packet().ipv6({ hopLimit: 1 }).icmpv6({ type: 143 }).payload(20))).toBe('next');
    expect(send('in', solicitation)).toBe('denied');
    expect(send('in', packet().ethernet({ etherType: 0x88cc }).payload(46))).toBe('denied');
  });

  it('does not, where that is not wanted', () => {
    const { controller, send } = simulatedPolicy([web], { neighbours: false });
    expect(send('in', packet().arp())).toBe('denied');
    expect(send('in', packet().ipv6({ daddr: HOST6, hopLimit: 255 }).icmpv6({ type: 135 }).payload(20))).toBe('denied');
    expect(controller.denials().map(({ endpoint, reason }) => [endpoint, reason])).toEqual([
      ['web', 'rule'],
      [undefined, 'protocol'],
    ]);
  });

  it('is denied where it is malformed', () => {
    const { controller, send } = simulatedPolicy([web]);
    const cuts = [...truncations(inward().tcp({ ...client, syn: true }), 34)];
    expect(new Set(cuts.map((cut) => send('in', cut)))).toEqual(new Set(['denied']));
    expect(controller.denials()).toMatchObject([{ endpoint: 'web', reason: 'malformed', packets: BigInt(cuts.length) }]);
  });
});

describe('the controller', () => {
  it('keeps counters of rules that stay', async () => {
    const { controller, send } = simulatedPolicy([web], { maxRules: 6 });
    send('in', inward().tcp({ ...client, syn: true }));
    send('in', inward().udp({ dport: 53 }));
    const [tcp, , ...others] = web.rules ?? [];
    if (!tcp) throw new RangeError('no rule');
    controller.set({ ...web, rules: [{ direction: 'ingress', protocol: 'icmp' }, ...others, tcp] });
    send('in', inward().tcp({ ...client, ack: true }));
    // the flow of a rule that is gone counts for nobody else
    send('in', inward().udp({ dport: 53 }));
    expect(controller.rules().map(({ packets }) => packets)).toEqual([0n, 0n, 0n, 0n, 2n]);
    await controller.settled();
    const more = (protocol: number) => controller.set({ ...web, rules: [{ direction: 'ingress', protocol }, ...others, tcp] });
    expect(() => more(99)).toThrow("policy: 6 rules are there, no room for those of 'web'");
    controller.flush();
    more(99);
    expect(controller.rules().map(({ packets }) => packets)).toEqual([0n, 0n, 0n, 0n, 2n]);
  });

  it('decides each packet by the old rules or by the new ones', async () => {
    const open = { ...web, rules: [{ direction: 'ingress', protocol: 'tcp', ports: 80 }] } as const;
    const { controller, send, needs, grace } = simulatedPolicy([open]);
    let waiting = 0;
    const { promise, resolve } = Promise.withResolvers<void>();
    grace.wait = () => {
      waiting++;
      return promise;
    };
    controller.set({ ...web, rules: [{ direction: 'ingress', protocol: 'tcp', ports: 81 }] });
    await Promise.resolve();
    expect([waiting, needs.ports.size]).toEqual([1, 2]);
    expect([80, 81].map((dport) => send('in', inward().tcp({ dport, syn: true })))).toEqual(['denied', 'next']);
    // those who read the scope before the change still find all of the old rules
    needs.scopes.set(1, 1);
    expect([80, 81].map((dport) => send('in', inward().tcp({ sport: 5, dport, syn: true })))).toEqual(['next', 'denied']);
    resolve();
    await controller.settled();
    expect(needs.ports.size).toBe(1);
  });

  it('changes nothing where something does not fit', async () => {
    const { controller, needs, send } = simulatedPolicy([web], { maxEndpoints: 2, maxPeers: 12, maxPorts: 20, maxRules: 8 });
    const sizes = () => [needs.peers4, needs.peers6, needs.ports, needs.endpoints4, needs.endpoints6].map(({ size }) => size);
    const before = sizes();
    const peer = Array.from({ length: 12 }, (_, i) => `10.1.${i}.0/24`);
    const message = (endpoint: PolicyEndpoint): string => {
      try {
        return controller.set(endpoint);
      } catch (error) {
        return String(error);
      }
    };
    expect([
      message({ address: '10.0.0.6', rules: [{ direction: 'ingress', peer }] }),
      message({ address: '10.0.0.6', rules: [{ direction: 'ingress', protocol: 'tcp', ports: [[1, 65_534]] }] }),
      message({ address: '10.0.0.6', rules: [6, 7, 8, 9].map((protocol) => ({ direction: 'egress', protocol })) }),
      message({ name: 'other', address: ['10.0.0.7', HOST] }),
      message({ address: [] }),
      message({ address: '10.0.0.6', rules: [{ direction: 'ingress', ports: 80 }] }),
      message({ address: '10.0.0.6', rules: [{ direction: 'ingress', protocol: 'icmp', ports: 80 }] }),
      message({ address: '10.0.0.6', rules: [{ direction: 'ingress', protocol: 'tcp', ports: [[90, 80]] }] }),
      message({ address: '10.0.0.6', rules: [{ direction: 'in' as 'ingress' }] }),
      message({ address: '10.0.0.6', rules: [{ direction: 'ingress', protocol: 'gre' as 'tcp' }] }),
      message({ address: '10.0.0.6/8' }),
    ]).toMatchInlineSnapshot(`
      [
        "ArgumentError: policy: 3 IPv4 peers are there, no room for the 12 of '10.0.0.6'",
        "ArgumentError: policy: 13 blocks of ports are there, no room for the 30 of '10.0.0.6'",
        "ArgumentError: policy: 5 rules are there, no room for those of '10.0.0.6'",
        "ArgumentError: policy: address 10.0.0.5/32 of 'other' is that of 'web'",
        "ArgumentError: policy: endpoint '' has no address, expected at least one",
        "ArgumentError: policy: ports of protocol 'any', expected 'tcp' or 'udp'",
        "ArgumentError: policy: ports of protocol 'icmp', expected 'tcp' or 'udp'",
        "ArgumentError: policy: ports 90 to 80, expected 0..65535, the lower one first",
        "ArgumentError: policy: direction is 'in', expected 'ingress' or 'egress'",
        "ArgumentError: policy: protocol is 'gre', expected tcp, udp, icmp, sctp or 0..254",
        "ArgumentError: prefix '10.0.0.6/8' has bits set behind its length, expected 10.0.0.0/8",
      ]
    `);
    expect(sizes()).toEqual(before);
    expect(controller.endpoints).toEqual([web]);
    expect(message({ address: '10.0.0.6' })).toBe('10.0.0.6');
    expect(message({ address: '10.0.0.7' })).toBe("ArgumentError: policy: 2 endpoints are there, no room for '10.0.0.7'");
    controller.replace([{ address: '10.0.0.6', rules: [{ direction: 'ingress' }] }]);
    expect(send('in', inward({ daddr: '10.0.0.6' }).tcp({ syn: true }))).toBe('next');
    expect(send('in', inward().tcp({ ...client, syn: true }))).toBe('denied');
    await controller.settled();
    expect(message({ address: '10.0.0.7' })).toBe('10.0.0.7');
  });

  it('moves an endpoint to other addresses', () => {
    const { controller, send } = simulatedPolicy([web]);
    controller.set({ ...web, address: ['10.0.0.8', HOST6] });
    expect(send('in', inward().tcp({ ...client, syn: true }))).toBe('denied');
    expect(send('in', inward({ daddr: '10.0.0.8' }).tcp({ ...client, syn: true }))).toBe('next');
    expect(send('in', inward6().tcp({ ...client, syn: true }))).toBe('next');
  });

  it('tells of denied packets, a sample of them, by name', async () => {
    const { controller, send, at } = simulatedPolicy([web], { eventsPerSecond: 2 });
    const told: DeniedPacket[] = [];
    controller.denied$.subscribe((denied) => told.push(denied));
    for (let i = 0; i < 5; i++) send('in', inward().tcp({ sport: 5, dport: 22, syn: true }));
    at.now += 2n * second;
    send('out', packet().ethernet({ etherType: 0x88cc }).payload(46));
    expect(controller.untold).toBe(3n);
    await eventually(() => told.length === 3);
    expect(told).toEqual([
      ...Array.from({ length: 2 }, () => ({
        time: 1_000_000,
        direction: 'ingress',
        reason: 'rule',
        endpoint: 'web',
        source: PEER,
        destination: HOST,
        protocol: 6,
        sourcePort: 5,
        destinationPort: 22,
        tcpFlags: 2,
        length: 54,
        ifindex: 1,
      })),
      {
        time: 1_002_000,
        direction: 'egress',
        reason: 'protocol',
        endpoint: undefined,
        source: undefined,
        destination: undefined,
        protocol: 0,
        sourcePort: 0,
        destinationPort: 0,
        tcpFlags: 0,
        length: 60,
        ifindex: 1,
      },
    ]);
  });

  it('denies nothing in an audit, but tells of it', () => {
    const { controller, send } = simulatedPolicy([web], { audit: true });
    expect(send('in', inward().tcp({ dport: 22, syn: true }))).toBe('audit');
    expect(send('in', inward().tcp({ dport: 80, syn: true }))).toBe('next');
    expect(controller.denials()).toMatchObject([{ reason: 'rule', packets: 1n }]);
  });
});

describe('policy()', () => {
  it('leaves one exit open', () => {
    expect(policy().on({ denied: 'drop' }).wiring).toEqual({ denied: 'drop' });
    expect(policy({ audit: true }).on({ audit: 'pass' }).wiring).toEqual({ audit: 'pass' });
    // @ts-expect-error nothing leaves there
    policy().on({ audit: 'pass' });
    // @ts-expect-error nor there
    policy({ audit: true }).on({ denied: 'drop' });
  });

  it('knows its sides, and makes maps of its own', () => {
    const inbound = (side: 'host' | 'peer') => {
      const { tcIngress, tcEgress } = policy({ side }).stages;
      return [tcIngress?.[0]?.uses.inbound, tcIngress?.[1]?.uses.inbound, tcEgress?.[0]?.uses.inbound, tcEgress?.[1]?.uses.inbound];
    };
    expect([inbound('host'), inbound('peer')]).toEqual([
      [true, true, false, false],
      [false, false, true, true],
    ]);
    const [first, second] = [policy(), policy()].map(({ stages }) => stages.tcIngress?.[0]?.uses.flows);
    expect(first).not.toBe(second);
  });

  it('checks its options', () => {
    expect(() => policy({ maxRules: 0 })).toThrow('policy: maxRules is 0, expected 1..16777216');
    expect(() => policy({ maxEndpoints: 65_536 })).toThrow('policy: maxEndpoints is 65536, expected 1..65535');
    expect(() => policy({ eventsPerSecond: -1 })).toThrow('policy: eventsPerSecond is -1, expected 0..1000000');
    expect(() => policy({ timeouts: { tcpMs: 0.5 } })).toThrow('policy: timeouts.tcpMs is 0.5');
    expect(() => policy({ side: 'left' as 'host' })).toThrow("policy: side is 'left'");
    expect(() => policy({ strangers: 'no' as 'deny' })).toThrow("policy: strangers is 'no'");
    expect(() => policy({ endpoints: [{ address: 'here' }] })).toThrow("'here' is no IPv4 address");
  });
});
