/** Stages at TC that rewrite TCP and UDP under all offloads: the far end finds every checksum right and gets every byte. */
import { eventually, type Host, type Topology } from '@tailrace/testing';
import { ip, ipv6, kernel, pipeline, stage } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checksumErrors } from './host-counters.ts';
import { watchLeaks } from './leak-watch.ts';
import { pairNetwork } from './pair-network.ts';

const SIZE = 5 << 20;
const PORT = 8_080;
/** What the client asks for; the server has another address and another port. */
const ASKED = { ipv4: '10.0.0.9', ipv6: 'fd00::9', port: 80 } as const;
const DSCP = 0xb8;

let network: Topology<'client' | 'server'>;
let client: Host;
let server: Host;

const leaks = watchLeaks(() => [client, server]);
beforeAll(async () => {
  network = await pairNetwork();
  ({ client, server } = network.hosts);
  for (const address of [ASKED.ipv4, ASKED.ipv6]) client.route.setNeighbour('server', address, server.mac('client'));
  await server.http({ address: '::', port: PORT });
  await server.udpEcho({ address: '::', port: PORT });
});
afterAll(() => network.close());

const [asked6, own6] = [ipv6(ASKED.ipv6), ipv6('fd00::2')];
const asked = { address: ip(ASKED.ipv4), hi: asked6.hi, lo: asked6.lo, port: ASKED.port };
const own = { address: ip('10.0.0.2'), hi: own6.hi, lo: own6.lo, port: PORT };

/** Packets to what was asked for go to the server, with another DSCP. */
const there = stage({
  name: 'there',
  hook: 'tc',
  uses: {
    from: asked.address,
    fromHi: asked.hi,
    fromLo: asked.lo,
    fromPort: asked.port,
    to: own.address,
    toHi: own.hi,
    toLo: own.lo,
    toPort: own.port,
    dscp: DSCP,
  },
  program(ctx, { from, fromHi, fromLo, fromPort, to, toHi, toLo, toPort, dscp }) {
    const tcp = ctx.tcp();
    const udp = ctx.udp();
    if ((tcp ? tcp.dport : udp ? udp.dport : 0) !== fromPort) return ctx.next();
    const ip = ctx.ipv4();
    const ip6 = ctx.ipv6();
    if (ip && ip.daddr === from) {
      if (tcp) ctx.updateChecksum(tcp, from, to, 'pseudoHeader');
      else if (udp) ctx.updateChecksum(udp, from, to, 'pseudoHeader');
      const first = ip.versionIhl * 256;
      ip.checksum = ctx.checksumReplace(ctx.checksumReplace(ip.checksum, first + ip.tos, first + dscp), from, to);
      ip.tos = dscp;
      ip.daddr = to;
    } else if (ip6 && ip6.daddr.hi === fromHi && ip6.daddr.lo === fromLo) {
      if (tcp) ctx.updateChecksum(tcp, { hi: fromHi, lo: fromLo }, { hi: toHi, lo: toLo }, 'pseudoHeader');
      else if (udp) ctx.updateChecksum(udp, { hi: fromHi, lo: fromLo }, { hi: toHi, lo: toLo }, 'pseudoHeader');
      ip6.versionClassFlow = ((ip6.versionClassFlow & 0xf00f_ffff) | (dscp << 20)) >>> 0;
      ip6.daddr.hi = toHi;
      ip6.daddr.lo = toLo;
    } else return ctx.next();
    if (tcp) {
      ctx.updateChecksum(tcp, fromPort, toPort);
      tcp.dport = toPort;
    } else if (udp) {
      ctx.updateChecksum(udp, fromPort, toPort);
      udp.dport = toPort;
    }
    return ctx.exit('rewritten');
  },
});
/** Answers come from where was asked. */
const back = stage({
  name: 'back',
  hook: 'tc',
  uses: {
    from: own.address,
    fromHi: own.hi,
    fromLo: own.lo,
    fromPort: own.port,
    to: asked.address,
    toHi: asked.hi,
    toLo: asked.lo,
    toPort: asked.port,
  },
  program(ctx, { from, fromHi, fromLo, fromPort, to, toHi, toLo, toPort }) {
    const tcp = ctx.tcp();
    const udp = ctx.udp();
    if ((tcp ? tcp.sport : udp ? udp.sport : 0) !== fromPort) return ctx.next();
    const ip = ctx.ipv4();
    const ip6 = ctx.ipv6();
    if (ip && ip.saddr === from) {
      if (tcp) ctx.updateChecksum(tcp, from, to, 'pseudoHeader');
      else if (udp) ctx.updateChecksum(udp, from, to, 'pseudoHeader');
      ip.checksum = ctx.checksumReplace(ip.checksum, from, to);
      ip.saddr = to;
    } else if (ip6 && ip6.saddr.hi === fromHi && ip6.saddr.lo === fromLo) {
      if (tcp) ctx.updateChecksum(tcp, { hi: fromHi, lo: fromLo }, { hi: toHi, lo: toLo }, 'pseudoHeader');
      else if (udp) ctx.updateChecksum(udp, { hi: fromHi, lo: fromLo }, { hi: toHi, lo: toLo }, 'pseudoHeader');
      ip6.saddr.hi = toHi;
      ip6.saddr.lo = toLo;
    } else return ctx.next();
    if (tcp) {
      ctx.updateChecksum(tcp, fromPort, toPort);
      tcp.sport = toPort;
    } else if (udp) {
      ctx.updateChecksum(udp, fromPort, toPort);
      udp.sport = toPort;
    }
    return ctx.exit('rewritten');
  },
});

const wired = { rewritten: 'next' } as const;
const atClient = pipeline('edge', { tcEgress: [there.on(wired)], tcIngress: [back.on(wired)] });
const atServer = pipeline('edge', { tcIngress: [there.on(wired)], tcEgress: [back.on(wired)] });
const allOn = { tso: true, gso: true, gro: true, txChecksum: true } as const;
const allOff = { tso: false, gso: false, gro: false, txChecksum: false } as const;

const run = (side: 'client' | 'server', link: 'tcx' | 'clsact') =>
  side === 'client'
    ? atClient.run(kernel({ interfaces: ['server'], netns: client.namespace, tc: { link } }))
    : atServer.run(kernel({ interfaces: ['client'], netns: server.namespace, tc: { link } }));

/** A frame to the server's own address with the DSCP that stages write. */
const isMarked = (frame: Uint8Array): boolean => {
  const [kind, first, second] = [((frame[12] ?? 0) << 8) | (frame[13] ?? 0), frame[14] ?? 0, frame[15] ?? 0];
  return kind === 0x0800 ? second === DSCP : kind === 0x86dd && (((first << 8) | second) & 0x0ff0) === DSCP << 4;
};

test.each([
  ['client', 'tcx', 'on', allOn, allOn],
  ['client', 'tcx', 'off', allOff, allOff],
  ['client', 'clsact', 'on, no GRO', { ...allOn, gro: false }, { ...allOn, gro: false }],
  ['client', 'tcx', 'on, no checksums by the client', { ...allOn, txChecksum: false }, allOn],
  ['client', 'tcx', 'on, no checksums by the server', allOn, { ...allOn, txChecksum: false }],
  ['server', 'tcx', 'on', allOn, allOn],
  ['server', 'clsact', 'off', allOff, allOff],
  ['server', 'tcx', 'on, no checksums by the client', { ...allOn, txChecksum: false }, allOn],
  ['server', 'tcx', 'on, no TSO', { ...allOn, tso: false }, { ...allOn, tso: false }],
] as const)('at the %s by %s, offloads %s', async (side, link, _, ofClient, ofServer) => {
  client.route.setOffloads('server', ofClient);
  server.route.setOffloads('client', ofServer);
  const errors = [checksumErrors(client), checksumErrors(server)];
  await using running = await run(side, link);
  leaks.remember();
  for (const address of [ASKED.ipv4, ASKED.ipv6]) {
    const host = address.includes(':') ? `[${address}]` : address;
    await client.upload(`http://${host}:${ASKED.port}/`, SIZE);
    const down = await client.request(`http://${host}:${ASKED.port}/bytes/${SIZE}`, { timeoutMs: 20_000 });
    expect(bytes.equals(down.body)).toBe(true);
    using wire = server.frames('client');
    await using socket = await client.udp({ address: address.includes(':') ? '::' : '0.0.0.0' });
    for (const size of [0, 1, 2, 3, 64, 1_400]) {
      await socket.send(new Uint8Array(size).fill(size), address, ASKED.port);
      expect(await socket.receive()).toMatchObject({ address, port: ASKED.port, payload: Buffer.alloc(size, size) });
    }
    // Sockets that look at an interface see what comes in ahead of TC.
    expect((await wire.collect({ durationMs: 0, where: isMarked })).length > 0).toBe(side === 'client');
  }
  const { tcIngress, tcEgress } = running.stats();
  const changed = (stats: Readonly<Record<string, { readonly exits: Readonly<Record<string, bigint>> }>>) =>
    Object.values(stats).reduce((sum, { exits }) => sum + (exits.rewritten ?? 0n), 0n);
  for (const chain of [tcIngress, tcEgress]) expect(changed(chain)).toBeGreaterThan(BigInt(Math.floor((2 * SIZE) / 1_448)));
  expect([checksumErrors(client), checksumErrors(server)]).toEqual(errors);
});

/** What `GET /bytes/SIZE` sends. */
const bytes = Buffer.alloc(
  SIZE,
  Uint8Array.from({ length: 256 }, (_, index) => index),
);

test('a stage that forgets the checksum is found out: the far end refuses what it sends', async () => {
  client.route.setOffloads('server', { ...allOn, txChecksum: false });
  const careless = stage({
    name: 'careless',
    hook: 'tcEgress',
    uses: { asked: ASKED.port, port: PORT },
    program(ctx, { asked, port }) {
      const udp = ctx.udp();
      if (udp && udp.dport === asked) udp.dport = port;
      return ctx.next();
    },
  });
  await using _running = await pipeline('careless', { tcEgress: [careless] }).run(
    kernel({ interfaces: ['server'], netns: client.namespace }),
  );
  const errors = checksumErrors(server);
  await using socket = await client.udp();
  for (let sent = 0; sent < 3; sent++) await socket.send('hello', '10.0.0.2', ASKED.port);
  await eventually(() => checksumErrors(server) === errors + 3n);
  expect(socket.received).toBe(0);
});
