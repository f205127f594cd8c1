/** Large bodies through a vip, and packets that no longer fit behind an outer header: what senders are told, and learn. */
import '@tailrace/testing/matchers';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { l4lb, OUTER_BYTES } from '@tailrace/functions/l4lb';
import { listenTcp } from '@tailrace/kernel';
import { checksum, eventually, type Frames, fragments, type Packet, packet, parse } from '@tailrace/testing';
import { pipeline } from 'tailrace';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type BalancedNetwork, balancedNetwork, realsOf, SOURCE, slotsAt, ToldHealth, UDP_PORT, VIP } from './balanced-network.ts';

const UPLOAD_PORT = 8080;
const SIZE = 10 << 20;
const MTU = 1_500;
const FITS = MTU - OUTER_BYTES;

// A client remembers the path's MTU for ten minutes: each test has a network of its own.
let network: BalancedNetwork;
beforeEach(async () => {
  network = await balancedNetwork();
});
afterEach(() => network[Symbol.asyncDispose]());

async function balanced() {
  const reals = realsOf('real1', 'real2', 'real3');
  const balancer = l4lb({
    source: SOURCE,
    reals,
    vips: [
      { address: VIP, port: UPLOAD_PORT, protocol: 'tcp' },
      { address: VIP, port: UDP_PORT, protocol: 'udp' },
    ],
  }).on({ notVip: 'next' });
  const running = await pipeline('edge', { xdp: [balancer] }).run(network.engine(), {
    services: [new ToldHealth().service, network.nextHops],
  });
  await slotsAt(running.controller(balancer), 'real1', 'real2', 'real3');
  return { running, stats: () => running.stats().xdp };
}

/** On every real a server that answers uploads with their hash, and anything else with the content. */
async function hashingServers(): Promise<AsyncDisposable> {
  const stack = new AsyncDisposableStack();
  for (const name of ['real1', 'real2', 'real3'] as const) {
    const server = createServer(async (request, response) => {
      const hash = createHash('sha256');
      for await (const chunk of request) hash.update(chunk as Buffer);
      response.end(request.method === 'GET' ? content : hash.digest('hex'));
    });
    server.listen({ fd: listenTcp(network.hosts[name].namespace, '0.0.0.0', UPLOAD_PORT) });
    await once(server, 'listening');
    stack.defer(() => void server.close());
  }
  return stack;
}

const content = randomBytes(SIZE);
const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

test('10 MB go up and down whole; the sender learns the MTU of the path', async () => {
  await using _servers = await hashingServers();
  const { running, stats } = await balanced();
  await using _running = running;
  const url = `http://${VIP}:${UPLOAD_PORT}/`;
  const up = await network.hosts.client.request(url, { method: 'PUT', body: content, timeoutMs: 8_000 });
  expect(up.text).toBe(hashOf(content));
  const told = stats()['l4lb.tooBig'].verdicts.tx;
  expect(told).toBeGreaterThan(0n);
  expect(stats()['l4lb.encap'].exits.tooBig).toBe(told);
  const down = await network.hosts.client.request(url, { timeoutMs: 8_000 });
  expect(hashOf(down.body)).toBe(hashOf(content));
  // Known from the first connection on: a second upload is told nothing.
  const before = stats()['l4lb.tooBig'].packets;
  expect((await network.hosts.client.request(url, { method: 'PUT', body: content, timeoutMs: 8_000 })).text).toBe(hashOf(content));
  expect(stats()['l4lb.tooBig'].packets).toBe(before);
  const sent = stats()['l4lb.encap'];
  expect(sent.bytes).toBeGreaterThan(BigInt(2 * SIZE));
});

/** A datagram to the vip with so many bytes of IP packet, from the client's interface to the balancer. */
function datagram(length: number, fields: Parameters<Packet['ipv4']>[0] = {}): Packet {
  const { client, lb } = network.hosts;
  return packet()
    .ethernet({ src: client.mac('lb'), dst: lb.mac('client') })
    .ipv4({ saddr: '10.0.0.2', daddr: VIP, id: 7, ...fields })
    .udp({ sport: 4_000, dport: UDP_PORT })
    .payload(length - 28 - (fields.options?.length ?? 0));
}

const isIcmp = (frame: Uint8Array): boolean => parse(frame).some(({ kind }) => kind === 'icmp');

/** What any real sends back to the client. */
const answersOfReals = (): readonly Frames[] =>
  (['real1', 'real2', 'real3'] as const).map((name) => network.hosts[name].frames('client', { outgoing: true }));

test('what does not fit and must not be fragmented is answered with the MTU and the first bytes of the packet', async () => {
  const { running, stats } = await balanced();
  await using _running = running;
  const wire = network.hosts.client.frames('lb');
  const options = new Uint8Array(8).fill(1);
  for (const sent of [
    datagram(FITS + 1, { dontFragment: true }),
    datagram(MTU, { dontFragment: true }),
    datagram(MTU, { dontFragment: true, options }),
  ]) {
    wire.send(sent);
    const frame = await wire.receive({ where: isIcmp });
    const bytes = sent.bytes();
    expect(frame).toHaveLength(14 + 20 + 8 + 68);
    const [eth, ip, icmp] = parse(frame);
    expect(eth?.fields).toMatchObject({ src: network.hosts.lb.mac('client'), dst: network.hosts.client.mac('lb') });
    expect(ip?.fields).toMatchObject({ saddr: VIP, daddr: '10.0.0.2', protocol: '1', totalLength: '96' });
    expect(icmp?.fields).toMatchObject({ type: '3', code: '4' });
    // RFC 1191, section 4: 16 unused bits, then the next hop's MTU.
    const view = new DataView(frame.buffer, frame.byteOffset);
    expect([view.getUint16(38), view.getUint16(40)]).toEqual([0, FITS]);
    expect(frame.subarray(42)).toEqual(bytes.subarray(14, 14 + 68));
    expect(checksum(frame.subarray(14, 34))).toBe(0);
    expect(checksum(frame.subarray(34))).toBe(0);
  }
  expect(stats()['l4lb.encap'].exits.tooBig).toBe(3n);
  expect(stats()['l4lb.tooBig'].verdicts).toMatchObject({ tx: 3n, drop: 0n });
});

test('what just fits arrives whole; what does not and may be fragmented is dropped and counted, as fragments are', async () => {
  const { running, stats } = await balanced();
  await using _running = running;
  const wire = network.hosts.client.frames('lb');
  const atReals = answersOfReals();
  wire.send(datagram(FITS, { dontFragment: true }));
  const echoed = await Promise.any(atReals.map((at) => at.receive({ where: (frame) => frame.length === FITS + 14 + 6 })));
  // The echo has the real's name in front.
  expect(parse(echoed).find(({ kind }) => kind === 'udp')?.fields).toMatchObject({ sport: String(UDP_PORT), dport: '4000' });
  // Nobody listens at the client: its ICMP error about the echo goes the same way.
  await eventually(() => stats()['l4lb.icmpError'].next === 1n && stats()['l4lb.encap'].verdicts.redirect === 2n);
  expect(stats()['l4lb.encap'].exits.tooBig).toBe(0n);

  wire.send(datagram(FITS + 1));
  wire.send(datagram(MTU));
  for (const fragment of fragments(datagram(2_000), 1_480)) wire.send(fragment);
  await eventually(() => stats()['l4lb.vip'].exits.fragment === 2n && stats()['l4lb.tooBig'].packets === 2n);
  expect(stats()['l4lb.tooBig'].verdicts).toMatchObject({ drop: 2n, tx: 0n });
  expect(stats()['l4lb.encap'].verdicts.redirect).toBe(2n);
  // Frames keep their order: an answer to the last packet that fits comes after any to those before.
  wire.send(datagram(FITS + 2, { dontFragment: true }));
  const answer = await wire.receive({ where: isIcmp });
  expect(parse(answer)[2]?.fields).toMatchObject({ type: '3', code: '4' });
  expect(answer.subarray(42, 46)).toEqual(
    datagram(FITS + 2, { dontFragment: true })
      .bytes()
      .subarray(14, 18),
  );
});
