/** The policy on real traffic: what rules let in works in both directions, and nothing else does. */
import { randomBytes } from 'node:crypto';
import { monitor } from '@tailrace/functions/monitor';
import { type DeniedPacket, type PolicyEndpoint, policy } from '@tailrace/functions/policy';
import { eventually, packet, topology } from '@tailrace/testing';
import { kernel, pipeline } from 'tailrace';
import { describe, expect, test } from 'vitest';

const SIZE = 3_000_000;
const WEB = 8080;
const allOff = { tso: false, gso: false, gro: false, txChecksum: false } as const;
const timedOut = { code: 'syscall', errno: 110 };

/** The policy is for `server`: at its own interface (`host`), or at the interface of `client` that leads to it (`peer`). */
async function network(side: 'host' | 'peer', offloads: Partial<typeof allOff> = {}) {
  const net = await topology({
    hosts: { client: {}, server: {} },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.0.1/24', 'fd00::1/64'], offloads },
          { host: 'server', addresses: ['10.0.0.2/24', 'fd00::2/64'], offloads },
        ],
      },
    ],
  });
  const { client, server } = net.hosts;
  const engine =
    side === 'host'
      ? kernel({ interfaces: ['client'], netns: server.namespace })
      : kernel({ interfaces: ['server'], netns: client.namespace });
  return { net, client, server, engine };
}

const web: PolicyEndpoint = {
  name: 'web',
  address: ['10.0.0.2', 'fd00::2'],
  rules: [
    { direction: 'ingress', protocol: 'tcp', ports: [[8080, 8099]] },
    { direction: 'ingress', peer: ['10.0.0.0/24', 'fd00::/64'], protocol: 'udp', ports: 7 },
    { direction: 'egress', protocol: 'udp', ports: 9 },
    { direction: 'egress', protocol: 'icmp' },
  ],
};

describe.each(['host', 'peer'] as const)('endpoints at the side %s', (side) => {
  test.each([
    ['off', allOff],
    ['on', {}],
  ] as const)('TCP with offloads %s: the port that is open, over both families, and no other', async (_, offloads) => {
    const { net, client, server, engine } = await network(side, offloads);
    await using _net = net;
    await server.http({ port: WEB, address: '::' });
    await server.http({ port: 8100 });
    await client.http({ port: 8100 });
    const guard = policy({ side, endpoints: [web] }).on({ denied: 'drop' });
    await using running = await pipeline('edge', { tcIngress: [guard], tcEgress: [guard] }).run(engine);
    const control = running.controller(guard);
    const body = randomBytes(SIZE);
    for (const address of ['10.0.0.2', '[fd00::2]']) {
      const up = await client.request(`http://${address}:${WEB}/`, { method: 'PUT', body, timeoutMs: 10_000 });
      expect(up.text).toBe(String(SIZE));
      expect((await client.request(`http://${address}:${WEB}/bytes/${SIZE}`, { timeoutMs: 10_000 })).body).toHaveLength(SIZE);
    }
    await expect(client.request('http://10.0.0.2:8100/', { timeoutMs: 300 })).rejects.toMatchObject(timedOut);
    await expect(server.request('http://10.0.0.1:8100/', { timeoutMs: 300 })).rejects.toMatchObject(timedOut);
    const [tcp] = control.rules();
    // both ways, as many packets as there were segments
    expect(tcp?.packets).toBeGreaterThan(BigInt(Math.floor((4 * SIZE) / 1_448)));
    const started = control.flows('web').filter(({ protocol }) => protocol === 6);
    expect(started.map(({ direction, localPort, answered }) => [direction, localPort, answered])).toEqual(
      Array.from({ length: 4 }, () => ['ingress', WEB, true]),
    );
    const denied = control.denials();
    expect(denied).toMatchObject([{ endpoint: 'web', reason: 'rule' }]);
    expect(denied[0]?.packets).toBeGreaterThanOrEqual(2n);
  });

  test('datagrams, pieces of them, echoes and errors: answers come back', async () => {
    const { net, client, server, engine } = await network(side);
    await using _net = net;
    const guard = policy({ side, endpoints: [web] }).on({ denied: 'drop' });
    await using running = await pipeline('edge', { tcIngress: [guard], tcEgress: [guard] }).run(engine);
    const control = running.controller(guard);
    await server.udpEcho({ port: 7 });
    await server.udpEcho({ port: 8 });
    await client.udpEcho({ port: 9 });
    await using asker = await client.udp({ address: '10.0.0.1' });
    await asker.send('hello', '10.0.0.2', 8);
    await asker.send('hello', '10.0.0.2', 7);
    expect((await asker.receive()).text).toBe('hello');
    // three pieces each way
    await asker.send(new Uint8Array(4_000), '10.0.0.2', 7);
    expect((await asker.receive()).payload).toHaveLength(4_000);
    expect(asker.received).toBe(2);
    await using answered = await server.udp({ address: '10.0.0.2' });
    await answered.send('hello', '10.0.0.1', 9);
    expect((await answered.receive()).text).toBe('hello');
    await answered.send('hello', '10.0.0.1', 10);
    expect(control.rules().map(({ packets }) => packets)).toEqual([0n, 8n, 2n, 0n]);

    // nobody listens there: the client says so, and that it is about a packet of a flow
    control.set({ ...web, rules: [...(web.rules ?? []), { direction: 'egress', protocol: 'udp', ports: 11 }] });
    const wire = server.frames('client');
    await answered.send('anybody?', '10.0.0.1', 11);
    const refusal = await wire.receive({ where: (frame) => frame[12] === 8 && frame[13] === 0 && frame[23] === 1 });
    expect([refusal[34], refusal[35]]).toEqual([3, 3]);
    if (side === 'host') await eventually(() => running.stats().tcIngress['policy.related'].next === 1n);
    else await eventually(() => running.stats().tcEgress['policy.related'].next === 1n);

    const at = { src: server.mac('client'), dst: client.mac('server') };
    const back = { src: client.mac('server'), dst: server.mac('client') };
    const there = client.frames('server');
    const isEcho = (type: number) => (frame: Uint8Array) => frame[23] === 1 && frame[34] === type;
    wire.send(packet().ethernet(at).ipv4({ saddr: '10.0.0.2', daddr: '10.0.0.1' }).icmp({ type: 8, id: 77 }).payload(32));
    expect(await there.receive({ where: isEcho(8) })).toHaveLength(74);
    expect(await wire.receive({ where: isEcho(0) })).toHaveLength(74);
    const question = () =>
      there.send(packet().ethernet(back).ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' }).icmp({ type: 8, id: 77 }).payload(32));
    // whose packet is denied on its way out is told at once
    if (side === 'host') question();
    else expect(question).toThrow('ENOBUFS');
    const reasons = () => control.denials().map(({ endpoint, reason, packets }) => [endpoint, reason, packets]);
    await eventually(() => reasons().some(([, , packets]) => packets === 3n));
    expect(reasons()).toEqual([['web', 'rule', 3n]]);
  });
});

test('tags do not hide a packet', async () => {
  const { net, client, server, engine } = await network('host');
  await using _net = net;
  const guard = policy({ endpoints: [web] }).on({ denied: 'drop' });
  await using running = await pipeline('edge', { tcIngress: [guard], tcEgress: [guard] }).run(engine);
  const control = running.controller(guard);
  const told: DeniedPacket[] = [];
  control.denied$.subscribe((denied) => told.push(denied));
  const wire = client.frames('server');
  const tagged = packet()
    .ethernet({ src: client.mac('server'), dst: server.mac('client') })
    .vlan({ id: 42 });
  const ends = { saddr: '10.0.0.1', daddr: '10.0.0.2' };
  wire.send(tagged.ipv4(ends).udp({ sport: 5, dport: 7 }).payload(10));
  wire.send(tagged.ipv4(ends).udp({ sport: 5, dport: 8 }).payload(10));
  wire.send(tagged.vlan({ id: 43 }).ipv6({ saddr: 'fd00::1', daddr: 'fd00::2' }).udp({ sport: 5, dport: 8 }).payload(10));
  await eventually(() => told.length === 2);
  expect(told).toMatchObject([
    {
      direction: 'ingress',
      reason: 'rule',
      endpoint: 'web',
      source: '10.0.0.1',
      destination: '10.0.0.2',
      sourcePort: 5,
      destinationPort: 8,
    },
    { direction: 'ingress', reason: 'rule', endpoint: 'web', source: 'fd00::1', destination: 'fd00::2', protocol: 17, destinationPort: 8 },
  ]);
  expect(Math.abs((told[0]?.time ?? 0) - Date.now())).toBeLessThan(2_000);
  expect(control.rules()[1]?.packets).toBe(1n);
  expect(control.untold).toBe(0n);
});

test('rules change under traffic: no packet meets half of them', async () => {
  const { net, client, server, engine } = await network('host');
  await using _net = net;
  const guard = policy({ endpoints: [web], timeouts: { openingMs: 1, udpMs: 1 } }).on({ denied: 'drop' });
  await using running = await pipeline('edge', { tcIngress: [guard], tcEgress: [guard] }).run(engine);
  const control = running.controller(guard);
  // both ways by rules: flows are over at once, so that every packet is decided anew
  const open = (other: number): PolicyEndpoint => ({
    ...web,
    rules: [
      { direction: 'ingress', peer: ['10.0.0.0/24', `192.0.${other}.0/24`], protocol: 'udp', ports: [7, other] },
      { direction: 'egress', protocol: 'udp' },
      { direction: 'ingress', peer: `10.${other}.0.0/16`, protocol: 'tcp', ports: [[1_000, 30_000 + other]] },
    ],
  });
  control.set(open(0));
  await server.udpEcho({ port: 7 });
  await using socket = await client.udp({ address: '10.0.0.1' });
  let changes = 0;
  for (let sent = 1; sent <= 1_500; sent++) {
    await socket.send('hello', '10.0.0.2', 7);
    if (sent % 5 === 0) control.set(open(++changes % 200));
    if (sent % 50 === 0) await eventually(() => socket.received === sent, 3_000);
  }
  expect([socket.received, changes]).toEqual([1_500, 300]);
  expect(control.denials()).toEqual([]);
  await control.settled();
});

test('flows stay when rules change, until they are flushed; an audit denies nothing', async () => {
  const { net, client, server, engine } = await network('host');
  await using _net = net;
  await server.http({ port: WEB });
  const guard = policy({ endpoints: [web] }).on({ denied: 'drop' });
  {
    await using running = await pipeline('edge', { tcIngress: [guard], tcEgress: [guard] }).run(engine);
    const control = running.controller(guard);
    await using connection = await client.connectHttp(`http://10.0.0.2:${WEB}/`, { timeoutMs: 2_000 });
    expect((await connection.request('/')).text).toBe('server');
    control.set({ ...web, rules: [] });
    expect((await connection.request('/')).text).toBe('server');
    await expect(client.request(`http://10.0.0.2:${WEB}/`, { timeoutMs: 300 })).rejects.toMatchObject(timedOut);
    expect(control.flush('web')).toBe(1);
    await expect(connection.request('/', { timeoutMs: 300 })).rejects.toThrow();
    expect(control.denials().map(({ reason }) => reason)).toEqual(['rule', 'state']);
  }
  const watch = policy({ endpoints: [{ ...web, rules: [] }], audit: true }).on({ audit: 'pass' });
  await using running = await pipeline('edge', { tcIngress: [watch], tcEgress: [watch] }).run(engine);
  expect((await client.request(`http://10.0.0.2:${WEB}/`, { timeoutMs: 2_000 })).text).toBe('server');
  const { tcIngress } = running.stats();
  expect(tcIngress['policy.decide'].exits.audit).toBeGreaterThan(2n);
  expect(
    running
      .controller(watch)
      .denials()
      .map(({ reason }) => reason),
  ).toEqual(['rule', 'state']);
});

test('functions stand in a pipeline twice, with maps of their own', async () => {
  const [outer, inner] = [policy({ endpoints: [web] }), policy({ endpoints: [{ ...web, rules: [] }] }).as('inner')];
  const [first, second] = [monitor(), monitor({ side: 'peer' }).as('behind')];
  const [guard, strict] = [outer.on({ denied: 'drop' }), inner.on({ denied: 'drop' })];
  const edge = pipeline('edge', { tcIngress: [first, guard, second, strict], tcEgress: [first, guard, second, strict] });
  await using running = await edge.run(kernel({ interfaces: [] }));
  const frame = (dport: number) => packet().ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' }).tcp({ dport, syn: true }).bytes();
  for (const dport of [8080, 8080, 9090]) expect((await running.run(frame(dport), { hook: 'tcIngress' })).verdict).toBe('drop');
  const seen = (of: typeof first | typeof second) =>
    running
      .controller(of)
      .flows()
      .map(({ direction, packets }) => `${direction} ${packets}`);
  expect([seen(first).sort(), seen(second)]).toEqual([['in 1', 'in 2'], ['out 2']]);
  expect(running.controller(guard).denials()).toMatchObject([{ reason: 'rule', packets: 1n }]);
  expect(running.controller(strict).denials()).toMatchObject([{ reason: 'rule', packets: 2n }]);
});
