/** The monitor on real traffic: what it counts is what the kernel counts, with offloads and without, and nothing is lost. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type EndedFlow, type FlowRecord, monitor } from '@tailrace/functions/monitor';
import { eventually, type Host, packet, topology } from '@tailrace/testing';
import { kernel, pipeline } from 'tailrace';
import { expect, test } from 'vitest';

const SIZE = 5_000_000;
const allOff = { tso: false, gso: false, gro: false, txChecksum: false } as const;

/** A client and a server; the monitor watches the server's interface, which is called `client`. */
async function network(offloads: Partial<typeof allOff> = {}) {
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
  return { net, ...net.hosts, engine: kernel({ interfaces: ['client'], netns: net.hosts.server.namespace }) };
}

/** Columns of a host's interface in /proc/net/dev. */
function interfaceCounters(host: Host, name: string) {
  const line = host
    .enter(() => readFileSync('/proc/thread-self/net/dev', 'utf8'))
    .split('\n')
    .find((text) => text.trim().startsWith(`${name}:`));
  const fields = (line ?? '').split(':')[1]?.trim().split(/ +/).map(BigInt) ?? [];
  return { rxBytes: fields[0] ?? 0n, rxPackets: fields[1] ?? 0n, txBytes: fields[8] ?? 0n, txPackets: fields[9] ?? 0n };
}

/** TCP segments that a host has sent and got (RFC 4022); the kernel counts them as they are on the wire. */
function segments(host: Host) {
  const [names = [], values = []] = host
    .enter(() => readFileSync('/proc/thread-self/net/snmp', 'utf8'))
    .split('\n')
    .filter((line) => line.startsWith('Tcp:'))
    .map((line) => line.split(' '));
  const of = (name: string): bigint => BigInt(values[names.indexOf(name)] ?? '0');
  return { sent: of('OutSegs'), received: of('InSegs') };
}

const sum = (records: readonly FlowRecord[], field: 'packets' | 'bytes'): bigint =>
  records.reduce((total, record) => total + record[field], 0n);

test.each([
  ['off', allOff],
  ['on', {}],
] as const)('an upload with offloads %s: as many packets and bytes as the kernel counts', async (_, offloads) => {
  const { net, client, server, engine } = await network(offloads);
  await using _net = net;
  const http = await server.http();
  await client.request(`http://10.0.0.2:${http.port}/`);
  const watch = monitor();
  await using running = await pipeline('edge', { tcIngress: [watch], tcEgress: [watch] }).run(engine);
  const before = { client: segments(client), server: segments(server), wire: interfaceCounters(server, 'client') };
  const up = await client.request(`http://10.0.0.2:${http.port}/`, { method: 'PUT', body: randomBytes(SIZE), timeoutMs: 10_000 });
  expect(up.text).toBe(String(SIZE));
  const control = running.controller(watch);
  const ofTcp = (direction: 'in' | 'out') => control.flows().filter((flow) => flow.direction === direction && flow.protocol === 6);
  await eventually(() => ofTcp('in')[0] && (ofTcp('in')[0]?.tcpFlags ?? 0) & 1 && (ofTcp('out')[0]?.tcpFlags ?? 0) & 1 && true);
  await eventually(async () => {
    const seen = segments(client);
    await new Promise((resolve) => setTimeout(resolve, 50));
    return segments(client).sent === seen.sent && segments(client).received === seen.received;
  });
  const after = { client: segments(client), server: segments(server), wire: interfaceCounters(server, 'client') };
  const [into, out] = [ofTcp('in'), ofTcp('out')];
  expect(into).toMatchObject([{ source: '10.0.0.1', destination: '10.0.0.2', destinationPort: http.port, fragments: false, vlan: 0 }]);
  expect(out).toMatchObject([{ source: '10.0.0.2', destination: '10.0.0.1', sourcePort: http.port, ifindex: server.ifindex('client') }]);
  expect(sum(into, 'packets')).toBe(after.client.sent - before.client.sent);
  expect(sum(out, 'packets')).toBe(after.server.sent - before.server.sent);
  // SYN, ACK, PSH, FIN
  expect((into[0]?.tcpFlags ?? 0) & 0x1b).toBe(0x1b);
  // An interface counts buffers: each stands for so many segments more, with 66 bytes of headers each (14 + 20 + 32).
  const all = control.flows();
  const others = control.counters().other;
  const [inPackets, inBytes] = (['packets', 'bytes'] as const).map((field) =>
    sum(
      all.filter(({ direction }) => direction === 'in'),
      field,
    ),
  ) as [bigint, bigint];
  const buffers = after.wire.rxPackets - before.wire.rxPackets;
  const folded = inPackets - buffers;
  if (offloads === allOff) expect(folded).toBe(0n);
  else expect(folded).toBeGreaterThan(2_000n);
  if (others.packets === 0n) expect(inBytes).toBe(after.wire.rxBytes - before.wire.rxBytes + folded * 66n);
  expect(control.counters().lost).toEqual({ packets: 0n, bytes: 0n });
  const { tcIngress, tcEgress } = running.stats();
  expect(sum(all, 'packets') + others.packets).toBe(tcIngress['monitor.flows'].packets + tcEgress['monitor.flows'].packets);
});

test('datagrams, ICMP, IPv6, VLAN tags and fragments are flows of their own', async () => {
  const { net, client, server, engine } = await network();
  await using _net = net;
  const watch = monitor();
  await using running = await pipeline('edge', { tcIngress: [watch], tcEgress: [watch] }).run(engine);
  const control = running.controller(watch);
  const echo = await server.udpEcho({ port: 7 });
  const socket = await client.udp({ address: '10.0.0.1' });
  for (let i = 0; i < 5; i++) await socket.send('hello', '10.0.0.2', echo.port);
  await eventually(() => socket.received === 5);
  const wire = client.frames('server');
  const ethernet = { src: client.mac('server'), dst: server.mac('client') };
  const [v4, v6] = [
    { saddr: '10.0.0.1', daddr: '10.0.0.2' },
    { saddr: 'fd00::1', daddr: 'fd00::2' },
  ];
  wire.send(packet().ethernet(ethernet).ipv4(v4).icmp({ id: 5 }).payload(10));
  wire.send(packet().ethernet(ethernet).ipv6(v6).icmpv6({ id: 5 }).payload(10));
  wire.send(packet().ethernet(ethernet).vlan({ id: 42 }).ipv4(v4).udp({ sport: 9, dport: 10 }).payload(100));
  wire.send(packet().ethernet(ethernet).vlan({ id: 43, tpid: 0x88a8 }).vlan({ id: 42 }).ipv6(v6).udp({ sport: 9, dport: 10 }).payload(100));
  for (const fragmentOffset of [0, 48])
    wire.send(
      packet()
        .ethernet(ethernet)
        .ipv4({ ...v4, moreFragments: fragmentOffset === 0, fragmentOffset, protocol: 17 })
        .payload(48),
    );
  const inward = (where: Partial<FlowRecord>) =>
    control
      .flows()
      .filter((flow) => Object.entries({ direction: 'in', ...where }).every(([name, value]) => flow[name as keyof FlowRecord] === value));
  await eventually(() => inward({ fragments: true })[0]?.packets === 2n);
  expect(inward({ protocol: 17, destinationPort: 7 })).toMatchObject([{ packets: 5n, bytes: 5n * 47n, vlan: 0, source: '10.0.0.1' }]);
  expect(control.flows().filter(({ sourcePort, direction }) => sourcePort === 7 && direction === 'out')).toMatchObject([{ packets: 5n }]);
  expect(inward({ protocol: 1 })).toMatchObject([{ icmp: { type: 8, code: 0 }, packets: 1n, bytes: 52n, sourcePort: 0 }]);
  expect(inward({ protocol: 58, source: 'fd00::1' }).filter(({ icmp }) => icmp?.type === 128)).toMatchObject([{ packets: 1n, bytes: 72n }]);
  expect(inward({ vlan: 42 })).toMatchObject([{ packets: 1n, bytes: 146n, sourcePort: 9, destinationPort: 10, source: '10.0.0.1' }]);
  expect(inward({ vlan: 43 })).toMatchObject([{ packets: 1n, bytes: 170n, sourcePort: 9, source: 'fd00::1' }]);
  expect(inward({ fragments: true })).toMatchObject([{ protocol: 17, packets: 2n, bytes: 164n, sourcePort: 0, destinationPort: 0 }]);
  const [ping] = inward({ protocol: 1 });
  expect(Math.abs((ping?.first ?? 0) - Date.now())).toBeLessThan(2_000);
  expect(ping?.last).toBe(ping?.first);
});

test('sweeps in the middle of traffic lose nothing: ended records and those that are left add up to what was sent', async () => {
  const { net, client, server, engine } = await network();
  await using _net = net;
  const watch = monitor({ sweepMs: 60_000, idleMs: 1, activeMs: 1 });
  const running = await pipeline('edge', { tcIngress: [watch], tcEgress: [watch] }).run(engine);
  await using _running = running;
  const control = running.controller(watch);
  const ended: EndedFlow[] = [];
  control.flows$.subscribe((flow) => ended.push(flow));
  const echo = await server.udpEcho({ port: 7 });
  const sockets = await Promise.all(Array.from({ length: 8 }, () => client.udp({ address: '10.0.0.1' })));
  let sweeping = true;
  const sweeps = (async () => {
    let count = 0;
    for (; sweeping; count++) await control.sweep();
    return count;
  })();
  const each = 2_000;
  await Promise.all(
    sockets.map(async (socket) => {
      for (let i = 0; i < each; i++) {
        await socket.send('0123456789', '10.0.0.2', echo.port);
        // no more than a few are on the way, so that none is dropped by a full socket
        if (i % 50 === 49) await eventually(() => socket.received === i + 1, 5_000);
      }
    }),
  );
  sweeping = false;
  expect(await sweeps).toBeGreaterThan(10);
  const total = 8n * BigInt(each);
  const here = [...ended, ...control.flows()];
  for (const direction of ['in', 'out'] as const)
    expect(
      sum(
        here.filter((flow) => flow.direction === direction && flow.protocol === 17),
        'packets',
      ),
    ).toBe(total);
  await running.stop();
  expect(ended.length).toBeGreaterThan(20);
  expect(new Set(ended.map(({ end }) => end)).has('forced') || ended.every(({ end }) => end === 'idle' || end === 'active')).toBe(true);
  for (const direction of ['in', 'out'] as const) {
    const mine = ended.filter((flow) => flow.direction === direction && flow.protocol === 17);
    expect(sum(mine, 'packets')).toBe(total);
    expect(sum(mine, 'bytes')).toBe(total * 52n);
  }
});

/** Sends datagrams as fast as it can, in a process and so on a CPU of its own. */
const flood = (count: number) => `
  const socket = require('node:dgram').createSocket('udp4');
  let left = ${count};
  const more = () => left-- > 0 ? socket.send('0123456789', 5000 + left % 64, '10.0.0.2', more) : socket.close();
  socket.bind(0, '10.0.0.1', more);
`;

test('processes that send at once on several CPUs: every packet is in one record, while it is swept all the time', async () => {
  const { net, client, server, engine } = await network();
  await using _net = net;
  const watch = monitor({ sweepMs: 1, idleMs: 5, activeMs: 50, maxFlows: 2_048 });
  const running = await pipeline('edge', { tcIngress: [watch], tcEgress: [watch] }).run(engine);
  await using _running = running;
  const control = running.controller(watch);
  const ended: EndedFlow[] = [];
  control.flows$.subscribe((flow) => ended.push(flow));
  const before = interfaceCounters(server, 'client');
  const processes = Array.from({ length: 3 }, () => client.spawn(process.execPath, ['-e', flood(10_000)], { stdio: 'inherit' }));
  await Promise.all(processes.map((child) => once(child, 'exit')));
  const after = interfaceCounters(server, 'client');
  const { lost, other } = control.counters();
  await running.stop();
  expect(lost.packets).toBe(0n);
  const inward = ended.filter(({ direction, destinationPort }) => direction === 'in' && destinationPort >= 5_000);
  expect(sum(inward, 'packets')).toBe(30_000n);
  expect(sum(inward, 'bytes')).toBe(30_000n * 52n);
  expect(inward.length).toBeGreaterThan(3 * 64);
  const wire = after.rxPackets - before.rxPackets + after.txPackets - before.txPackets;
  expect(sum(ended, 'packets') + other.packets).toBeGreaterThanOrEqual(wire);
});
