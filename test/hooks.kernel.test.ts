/** One pipeline at all three hooks of an interface, under real traffic: nothing changes on its way, and all of it is counted. */
import { eventually, type Host, type Topology } from '@tailrace/testing';
import { be32, hash, kernel, packed, perCpuArray, pipeline, stage, struct, u8, u32, u64 } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checksumErrors, quiet, sentSegments } from './host-counters.ts';
import { watchLeaks } from './leak-watch.ts';
import { pairNetwork } from './pair-network.ts';
import { exchange } from './streams.ts';

const SIZE = 10 << 20;
/** What each segment has in front of its payload: Ethernet, IP, TCP with timestamps. */
const HEADERS = { ipv4: 14n + 20n + 32n, ipv6: 14n + 40n + 32n } as const;
const ADDRESS = { client: { ipv4: '10.0.0.1', ipv6: 'fd00::1' }, server: { ipv4: '10.0.0.2', ipv6: 'fd00::2' } } as const;
const PORT = 8_080;

let network: Topology<'client' | 'server'>;
let client: Host;
let server: Host;

const leaks = watchLeaks(() => [client, server]);
beforeAll(async () => {
  network = await pairNetwork();
  ({ client, server } = network.hosts);
  for (const host of [client, server]) await host.http({ address: '::', port: PORT });
});
afterAll(() => network.close());

const engine = (link: 'tcx' | 'clsact') => kernel({ interfaces: ['client'], netns: server.namespace, tc: { link } });

const allOn = { tso: true, gso: true, gro: true, txChecksum: true } as const;
const allOff = { tso: false, gso: false, gro: false, txChecksum: false } as const;
type Offloads = { readonly [K in keyof typeof allOn]: boolean };

function setOffloads(atClient: Offloads, atServer: Offloads): void {
  client.route.setOffloads('server', atClient);
  server.route.setOffloads('client', atServer);
}

const Sum = struct({ buffers: u64, bytes: u64, payload: u64 });
const kinds = ['tcp', 'udp', 'icmp', 'icmpv6', 'other'] as const;
type Kind = (typeof kinds)[number];
const sums = (name: string) => perCpuArray({ name, value: Sum, maxEntries: kinds.length });

/** Counts buffers; the chain counts the packets that these stand for, by exit. */
const tally = stage({
  name: 'tally',
  hook: 'xdp',
  uses: { sums: sums('arrived') },
  program(ctx, { sums }) {
    const echo = ctx.icmpv6();
    const isEcho = echo ? echo.type === 128 || echo.type === 129 : false;
    const tcp = ctx.tcp();
    const kind = tcp ? 0 : ctx.udp() ? 1 : ctx.icmp() ? 2 : isEcho ? 3 : 4;
    const sum = sums.lookup(kind);
    if (!sum) return ctx.drop();
    sum.buffers += 1n;
    sum.bytes += BigInt(ctx.length);
    if (tcp) {
      const payload = ctx.length - ctx.offsetOf(tcp) - tcp.headerLength;
      if (payload > 0) sum.payload += BigInt(payload);
      return ctx.exit('tcp');
    }
    return kind === 1 ? ctx.exit('udp') : kind === 2 ? ctx.exit('icmp') : kind === 3 ? ctx.exit('icmpv6') : ctx.exit('other');
  },
});
const onwards = { tcp: 'next', udp: 'next', icmp: 'next', icmpv6: 'next', other: 'next' } as const;
const arrive = tally.as('arrive').on(onwards);
const enter = tally
  .at('tc')
  .as('enter')
  .with({ sums: sums('entered') })
  .on(onwards);
const leave = tally
  .at('tc')
  .as('leave')
  .with({ sums: sums('left') })
  .on(onwards);
const counting = pipeline('counting', { xdp: [arrive], tcIngress: [enter], tcEgress: [leave] });

/** Runs it, and gives what was counted since. */
async function counted(link: 'tcx' | 'clsact') {
  const running = await counting.run(engine(link));
  leaks.remember();
  const read = (kind: Kind) => {
    const { xdp, tcIngress, tcEgress } = running.stats();
    const of = ({ uses }: { readonly uses: typeof tally.uses }, exits: Readonly<Record<string, bigint>>) => ({
      packets: exits[kind] ?? 0n,
      ...(running.map(uses.sums).sum(kinds.indexOf(kind)) ?? { buffers: 0n, bytes: 0n, payload: 0n }),
    });
    return { arrived: of(arrive, xdp.arrive.exits), entered: of(enter, tcIngress.enter.exits), left: of(leave, tcEgress.leave.exits) };
  };
  return {
    read,
    /** The bytes of the chains' own counters, and that no packet missed a stage. */
    check() {
      const all = kinds.map(read);
      const bytes = (at: 'arrived' | 'entered' | 'left') => all.reduce((total, counts) => total + counts[at].bytes, 0n);
      const { xdp, tcIngress, tcEgress, roots } = running.stats();
      expect(xdp.arrive).toMatchObject({ bytes: bytes('arrived'), misses: 0n });
      expect(tcIngress.enter).toMatchObject({ bytes: bytes('entered'), misses: 0n });
      expect(tcEgress.leave).toMatchObject({ bytes: bytes('left'), misses: 0n });
      expect([roots.xdp, roots.tcIngress, roots.tcEgress].map(({ misses }) => misses)).toEqual([0n, 0n, 0n]);
    },
    [Symbol.asyncDispose]: () => running.stop(),
  };
}

const cases = [
  ['tcx', 'ipv4', 'all on', allOn, allOn],
  ['tcx', 'ipv4', 'all off', allOff, allOff],
  ['tcx', 'ipv6', 'off at the client', allOff, allOn],
  ['tcx', 'ipv4', 'off at the server', allOn, allOff],
  ['tcx', 'ipv4', 'no TSO', { ...allOn, tso: false }, { ...allOn, tso: false }],
  ['tcx', 'ipv4', 'no GRO', { ...allOn, gro: false }, { ...allOn, gro: false }],
  ['tcx', 'ipv4', 'no checksums by the card', { ...allOn, txChecksum: false }, { ...allOn, txChecksum: false }],
  ['clsact', 'ipv4', 'all on', allOn, allOn],
  ['clsact', 'ipv6', 'all off', allOff, allOff],
] as const;

test.each(cases)('by %s over %s, offloads: %s', async (link, family, _, atClient, atServer) => {
  setOffloads(atClient, atServer);
  await quiet(client, server);
  await using counts = await counted(link);
  const to = (host: 'client' | 'server') => (family === 'ipv4' ? ADDRESS[host].ipv4 : `[${ADDRESS[host].ipv6}]`);
  const before = { client: sentSegments(client), server: sentSegments(server) };
  const errors = [checksumErrors(client), checksumErrors(server)];
  // What arrives is checked by its hash.
  await client.upload(`http://${to('server')}:${PORT}/`, SIZE);
  await server.upload(`http://${to('client')}:${PORT}/`, SIZE);
  await quiet(client, server);
  const after = { client: sentSegments(client), server: sentSegments(server) };
  expect([checksumErrors(client), checksumErrors(server)]).toEqual(errors);
  const { arrived, entered, left } = counts.read('tcp');
  // What one side has sent is what XDP has seen and TC behind it, however it was put together in between.
  expect(arrived.packets).toBe(after.client - before.client);
  expect([entered.packets, entered.payload]).toEqual([arrived.packets, arrived.payload]);
  expect(left.packets).toBe(after.server - before.server);
  // A buffer of many segments has their headers once.
  expect(arrived.bytes - entered.bytes).toBe((entered.packets - entered.buffers) * HEADERS[family]);
  for (const { payload } of [arrived, left]) {
    expect(payload).toBeGreaterThan(BigInt(SIZE));
    expect(payload).toBeLessThan((BigInt(SIZE) * 11n) / 10n);
  }
  const merged = { entered: entered.packets - entered.buffers, left: left.packets - left.buffers };
  if (atServer.gro) expect(merged.entered).toBeGreaterThan(1_000n);
  else expect(merged.entered).toBe(0n);
  // TCP hands down large buffers whatever the interface can do: without offloads they are cut behind TC.
  expect(merged.left).toBeGreaterThan(1_000n);
  counts.check();
});

test.each(['tcx', 'clsact'] as const)('datagrams and echoes are counted one by one, by %s', async (link) => {
  setOffloads(allOn, allOn);
  await using counts = await counted(link);
  for (const family of ['ipv4', 'ipv6'] as const) {
    const any = family === 'ipv4' ? '0.0.0.0' : '::';
    const [port, size] = [family === 'ipv4' ? 7 : 8, family === 'ipv4' ? 100 : 1_000];
    await using _echo = await server.udpEcho({ port, address: any });
    await using socket = await client.udp({ address: any });
    for (let sent = 1; sent <= 100; sent++) {
      await socket.send(new Uint8Array(size), ADDRESS.server[family], port);
      if (sent % 20 === 0) await eventually(() => socket.received === sent);
    }
  }
  for (let sequence = 0; sequence < 10; sequence++) {
    expect((await client.ping(ADDRESS.server.ipv4, { sequence })).kind).toBe('reply');
    expect((await client.ping(ADDRESS.server.ipv6, { sequence, payload: 1_000 })).kind).toBe('reply');
  }
  const udp = { packets: 200n, buffers: 200n, bytes: 100n * (14n + 20n + 8n + 100n) + 100n * (14n + 40n + 8n + 1_000n), payload: 0n };
  expect(counts.read('udp')).toEqual({ arrived: udp, entered: udp, left: udp });
  const icmp = { packets: 10n, buffers: 10n, bytes: 10n * (14n + 20n + 8n + 4n), payload: 0n };
  expect(counts.read('icmp')).toEqual({ arrived: icmp, entered: icmp, left: icmp });
  const icmpv6 = { packets: 10n, buffers: 10n, bytes: 10n * (14n + 40n + 8n + 1_000n), payload: 0n };
  expect(counts.read('icmpv6')).toEqual({ arrived: icmpv6, entered: icmpv6, left: icmpv6 });
  counts.check();
});

/** What is behind the fixed header of a TCP segment that has timestamps: two times no operation, then the option. */
const Timestamps = packed({ start: be32, value: be32, echo: be32 });
const Byte = packed({ value: u8 });
const STREAM_PORT = 9_090;
/**
 * Looks behind the headers of TCP. Each byte of a stream says its place modulo 256 there, so that a segment's first one is as far
 * from its sequence number as the connection's first: one key for each direction. Exits count the segments.
 */
const look = stage({
  name: 'look',
  hook: 'xdp',
  uses: { Timestamps, Byte, port: STREAM_PORT, looks: hash({ name: 'looks', key: u32, value: u64, maxEntries: 1_024 }) },
  program(ctx, { Timestamps, Byte, looks, port }) {
    const tcp = ctx.tcp();
    if (!tcp || (tcp.sport !== port && tcp.dport !== port)) return ctx.next();
    const at = ctx.offsetOf(tcp);
    const behind = tcp.headerLength;
    if (ctx.length <= at + behind) return ctx.next();
    const distance = tcp.seq & 255;
    const inward = tcp.dport === port ? 256 : 0;
    const options = ctx.at(Timestamps, at + 20);
    const known = options ? options.start === 0x0101_080a : false;
    if (!known) return ctx.exit('bare');
    const first = ctx.at(Byte, at + behind);
    if (!first) return ctx.exit('hidden');
    const key = ((first.value - distance) & 255) + inward;
    const seen = looks.lookup(key);
    if (seen) seen.value += 1n;
    else looks.update(key, 1n);
    return ctx.exit('looked');
  },
});

test.each([
  ['tcx', 'on', allOn],
  ['clsact', 'on', allOn],
  ['tcx', 'off', allOff],
] as const)(
  'what lies behind the headers is the same in large buffers as in single packets, by %s, offloads %s',
  async (link, _, offloads) => {
    setOffloads(offloads, offloads);
    const looks = (name: string) => hash({ name, key: u32, value: u64, maxEntries: 1_024 });
    const onwards = { bare: 'next', hidden: 'next', looked: 'next' } as const;
    const atXdp = look.on(onwards);
    const inside = look
      .at('tc')
      .as('inside')
      .with({ looks: looks('inside') })
      .on(onwards);
    const outside = look
      .at('tc')
      .as('outside')
      .with({ looks: looks('outside') })
      .on(onwards);
    const peek = pipeline('peek', { xdp: [atXdp], tcIngress: [inside], tcEgress: [outside] });
    await using running = await peek.run(engine(link));
    leaks.remember();
    await exchange(client, server, '10.0.0.2', STREAM_PORT, SIZE);
    await quiet(client, server);
    const { xdp, tcIngress, tcEgress } = running.stats();
    for (const { exits } of [xdp.look, tcIngress.inside, tcEgress.outside]) expect(exits).toMatchObject({ bare: 0n, hidden: 0n });
    const segments = BigInt(Math.floor(SIZE / 1_448));
    expect(xdp.look.exits.looked).toBeGreaterThanOrEqual(segments);
    expect(tcIngress.inside.exits.looked).toBe(xdp.look.exits.looked);
    expect(tcEgress.outside.exits.looked).toBeGreaterThanOrEqual(segments);
    const [far, near, back] = [atXdp, inside, outside].map(({ uses }) => running.map(uses.looks).getAll());
    const [inward] = far ?? [];
    expect(far).toEqual([[inward?.[0], xdp.look.exits.looked]]);
    expect(near?.map(([key]) => key)).toEqual([inward?.[0]]);
    expect(back).toHaveLength(1);
    // Large buffers were among them, where there are any.
    expect((near?.[0]?.[1] ?? 0n) < segments).toBe(offloads.gro);
    expect(back?.[0]?.[1]).toBeLessThan(segments);
  },
);
