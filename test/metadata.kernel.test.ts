/** Metadata that a stage at XDP writes decide at TC ingress, in the driver and behind it; packets without are told apart. */
import { eventually, type Host, packet, topology } from '@tailrace/testing';
import { hash, kernel, pipeline, stage, u8, u16, u32, u64 } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { quiet } from './host-counters.ts';
import { watchLeaks } from './leak-watch.ts';

const SIZE = 5 << 20;
const PORT = { http: 8_080, known: 7_001, banned: 7_002, other: 7_003 } as const;

const makeNetwork = () =>
  topology({
    hosts: { client: {}, server: {} },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.0.1/24', 'fd00::1/64'] },
          { host: 'server', addresses: ['10.0.0.2/24', 'fd00::2/64'] },
        ],
      },
      {
        ends: [
          { host: 'client', interface: 'side' },
          { host: 'server', interface: 'side' },
        ],
      },
    ],
  });
let network: Awaited<ReturnType<typeof makeNetwork>>;
let client: Host;
let server: Host;

const leaks = watchLeaks(() => [client, server]);
beforeAll(async () => {
  network = await makeNetwork();
  ({ client, server } = network.hosts);
  await server.http({ port: PORT.http });
  server.route.setOffloads('client', { gro: true });
  for (const port of [PORT.known, PORT.banned, PORT.other]) await server.udpEcho({ port });
});
afterAll(() => network.close());

const engine = (mode: 'native' | 'generic', link: 'tcx' | 'clsact' = 'tcx') =>
  kernel({ interfaces: ['client'], netns: server.namespace, mode, tc: { link } });

/** Ports to tenants; 666 is banned. */
const tenants = hash({ name: 'tenants', key: u16, value: u16, maxEntries: 8 });
const classify = stage({
  name: 'classify',
  hook: 'xdp',
  uses: { tenants },
  writes: { tenant: u16, source: u32, hops: u8 },
  program(ctx, { tenants }) {
    const ip = ctx.ipv4();
    const ports = ctx.ports();
    const tenant = ports ? tenants.lookup(ports.dport) : undefined;
    ctx.meta.tenant = tenant ? tenant.value : 0;
    ctx.meta.source = ip ? ip.saddr : 0;
    ctx.meta.hops = ip ? ip.ttl : 0;
    return ctx.next();
  },
});
const decide = stage({
  name: 'decide',
  hook: 'tcIngress',
  reads: { tenant: u16, source: u32, hops: u8 },
  program(ctx) {
    const { tenant, source, hops } = ctx.meta;
    if (tenant === 666) return ctx.drop();
    if (tenant === 0) return ctx.next();
    const ip = ctx.ipv4();
    if (!ip || ip.saddr !== source || ip.ttl !== hops) return ctx.exit('forged');
    ctx.mark = tenant;
    return ctx.next();
  },
});
/** What the packet was marked with. */
const judge = stage({
  name: 'judge',
  hook: 'tcIngress',
  program: (ctx) => (ctx.mark === 42 ? ctx.exit('marked') : ctx.next()),
});
const guard = pipeline('guard', { xdp: [classify], tcIngress: [decide.on({ forged: 'drop' }), judge.on({ marked: 'next' })] });

test.each([
  ['native', 'tcx'],
  ['native', 'clsact'],
  ['generic', 'tcx'],
  ['generic', 'clsact'],
] as const)('a tenant found at %s XDP is marked or dropped at TC ingress, by %s', async (mode, link) => {
  await using running = await guard.run(engine(mode, link));
  leaks.remember();
  expect(server.route.interface('client').xdp).toMatchObject([{ mode }]);
  running.map(tenants).setMany([
    [PORT.http, 42],
    [PORT.known, 42],
    [PORT.banned, 666],
  ]);
  await using socket = await client.udp();
  for (let sent = 1; sent <= 10; sent++) {
    for (const port of [PORT.known, PORT.banned, PORT.other]) await socket.send(`${sent}`, '10.0.0.2', port);
    await eventually(() => socket.received === 2 * sent);
  }
  const before = running.stats().tcIngress;
  expect(before.decide).toMatchObject({ verdicts: { drop: 10n }, exits: { forged: 0n } });
  expect(before.judge.exits.marked).toBe(10n);
  await client.upload(`http://10.0.0.2:${PORT.http}/`, SIZE);
  await quiet(client, server);
  const { tcIngress, roots } = running.stats();
  expect(tcIngress.judge.exits.marked).toBeGreaterThan(BigInt(Math.floor(SIZE / 1_448)));
  expect(tcIngress.decide).toMatchObject({ verdicts: { drop: 10n }, exits: { forged: 0n } });
  expect(roots.tcIngress).toEqual({ misses: 0n, withoutMetadata: 0n });
});

test.each(['native', 'generic'] as const)(
  'a packet that another program sends in comes without metadata where XDP does not meet it: %s',
  async (mode) => {
    const divert = stage({
      name: 'divert',
      hook: 'tcIngress',
      uses: { to: server.ifindex('client') },
      program: (ctx, { to }) => (ctx.udp() ? ctx.redirectIngress(to) : ctx.next()),
    });
    await using running = await guard.run(engine(mode));
    await using _aside = await pipeline('aside', { tcIngress: [divert] }).run(kernel({ interfaces: ['side'], netns: server.namespace }));
    leaks.remember();
    running.map(tenants).set(PORT.banned, 666);
    running.map(tenants).set(PORT.known, 42);
    using wire = client.frames('side');
    const frame = packet()
      .ethernet({ src: client.mac('server'), dst: server.mac('client') })
      .ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' });
    for (const dport of [PORT.known, PORT.banned, PORT.banned]) wire.send(frame.udp({ sport: 9, dport }).payload('around'));
    await eventually(() => running.stats().tcIngress.decide.packets >= 3n);
    const { tcIngress, roots } = running.stats();
    // Behind the driver XDP meets also what other programs send in.
    const [without, dropped, marked] = mode === 'native' ? [3n, 0n, 0n] : [0n, 2n, 1n];
    expect(roots.tcIngress.withoutMetadata).toBe(without);
    expect([tcIngress.decide.verdicts.drop, tcIngress.judge.exits.marked]).toEqual([dropped, marked]);
  },
);

test('packets with equal metadata are merged by GRO, others are not', async () => {
  const upload = async (spread: number) => {
    const note = stage({
      name: 'note',
      hook: 'xdp',
      uses: { spread },
      writes: { turn: u32 },
      program(ctx, { spread }) {
        const tcp = ctx.tcp();
        // Segments of a large upload start a multiple of 1,448 bytes apart: neighbours differ in this.
        ctx.meta.turn = tcp ? tcp.seq & spread : 0;
        return ctx.next();
      },
    });
    const sums = hash({ name: 'sums', key: u8, value: u64, maxEntries: 1 });
    const meet = stage({
      name: 'meet',
      hook: 'tcIngress',
      uses: { sums },
      reads: { turn: u32 },
      program(ctx, { sums }) {
        if (!ctx.tcp()) return ctx.next();
        const buffers = sums.lookup(0);
        if (buffers) buffers.value += 1n;
        return ctx.meta.turn === 0 ? ctx.exit('zero') : ctx.exit('other');
      },
    });
    await using running = await pipeline('merging', { xdp: [note], tcIngress: [meet.on({ zero: 'next', other: 'next' })] }).run(
      engine('native'),
    );
    leaks.remember();
    running.map(sums).set(0, 0n);
    await client.upload(`http://10.0.0.2:${PORT.http}/`, SIZE);
    await quiet(client, server);
    const { zero = 0n, other = 0n } = running.stats().tcIngress.meet.exits;
    return { zero, other, buffers: running.map(sums).get(0) ?? 0n };
  };
  const segments = BigInt(Math.floor(SIZE / 1_448));
  const equal = await upload(0);
  expect(equal.zero).toBeGreaterThan(segments);
  expect(equal.buffers).toBeLessThan(equal.zero / 4n);
  const different = await upload(0xffff_ffff | 0);
  expect(different.buffers).toBe(different.zero + different.other);
});
