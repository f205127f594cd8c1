/** C that clang compiled, as stages of chains in the kernel: maps, variables, functions, real traffic, swaps under load. */
import { readElf } from '@tailrace/bpf';
import { eventually, type Host, packet, topology } from '@tailrace/testing';
import { userspace } from '@tailrace/userspace';
import { arrayMap, hash, kernel, objectStage, pipeline, stage, struct, u16, u32, u64, VerifierError } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compileC } from './clang-object.ts';
import { watchLeaks } from './leak-watch.ts';

const SOURCE = `
struct skb { u32 len, pkt_type, mark, queue, protocol, vlan[3], priority, ingress, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end; };
struct flow { u64 packets, bytes; };
struct { __uint(type, HASH); __uint(max_entries, 64); __type(key, u32); __type(value, struct flow); } flows SEC(".maps");
u64 seen;
u32 step = 3;
const volatile u32 limit = 1000;

static noinline int count(u32 key, u64 bytes) {
  struct flow first = { 1, bytes }, *flow = map_lookup(&flows, &key);
  if (flow) {
    __sync_fetch_and_add(&flow->packets, 1);
    __sync_fetch_and_add(&flow->bytes, bytes);
    return 1;
  }
  return map_update(&flows, &key, &first, 0) == 0;
}
static long add(u32 turn, void *sum) { *(u32 *)sum += turn; return 0; }

SEC("xdp") int meter(struct xdp_md *ctx) {
  u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
  u32 sum = 0;
  loop(step, add, &sum, 0);
  seen += sum;
  if (data + 34 > end || data[12] != 8 || data[13] != 0) return XDP_PASS;
  u64 bytes = end - data;
  if (!count(data[23], bytes)) return XDP_ABORTED;
  if (bytes > limit) return 7;
  if (data[22] == 1) return XDP_DROP;
  return XDP_PASS;
}

SEC("tc") int label(struct skb *skb) {
  if (!count(1000 + skb->mark, skb->len)) return 2;
  return skb->mark == 5 ? 2 : 0;
}

SEC("xdp") int careless(struct xdp_md *ctx) {
  u8 *data = (u8 *)(long)ctx->data;
  return data[20] == 4 ? XDP_DROP : XDP_PASS;
}`;

const flows = hash({ name: 'flows', key: u32, value: struct({ packets: u64, bytes: u64 }), maxEntries: 64 });
let object: ReturnType<typeof readElf>;
let network: Awaited<ReturnType<typeof makeNetwork>>;
let client: Host;
let server: Host;
const makeNetwork = () =>
  topology({
    hosts: { client: {}, server: {} },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.0.1/24'] },
          { host: 'server', addresses: ['10.0.0.2/24'] },
        ],
      },
    ],
  });
const leaks = watchLeaks(() => [client, server]);
beforeAll(async () => {
  object = readElf(compileC(SOURCE));
  network = await makeNetwork();
  ({ client, server } = network.hosts);
  await server.udpEcho({ port: 7_000 });
});
afterAll(() => network.close());

const meter = () => objectStage({ name: 'meter', hook: 'xdp', object, program: 'meter', uses: { flows }, exits: { large: 7 } });
const label = () => objectStage({ name: 'label', hook: 'tc', object, uses: { flows } });
/** What C does to a packet of UDP, in TypeScript. */
const typed = stage({
  name: 'typed',
  hook: 'xdp',
  uses: { flows },
  program(ctx, { flows }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    const flow = flows.lookup(ip.protocol);
    if (flow) {
      flow.packets += 1n;
      flow.bytes += BigInt(ctx.length);
    } else if (!flows.update(ip.protocol, { packets: 1n, bytes: BigInt(ctx.length) })) return ctx.abort();
    if (ctx.length > 1000) return ctx.exit('large');
    return ip.ttl === 1 ? ctx.drop() : ctx.next();
  },
});
const last = stage({ name: 'last', hook: 'xdp', program: (ctx) => ctx.pass() });
const mark = stage({
  name: 'mark',
  hook: 'xdp',
  writes: { tenant: u16 },
  program(ctx) {
    const udp = ctx.udp();
    ctx.meta.tenant = udp ? udp.dport & 0xfff : 0;
    return ctx.next();
  },
});
const byTenant = hash({ name: 'tenants', key: u32, value: u64, maxEntries: 64 });
const account = stage({
  name: 'account',
  hook: 'tcIngress',
  reads: { tenant: u16 },
  uses: { byTenant },
  program(ctx, { byTenant }) {
    const tenant = byTenant.lookup(ctx.meta.tenant);
    if (tenant) tenant.value += 1n;
    else byTenant.update(ctx.meta.tenant, 1n);
    return ctx.next();
  },
});

test('C and TypeScript come to the same in either engine, packet by packet', async () => {
  const frames = [
    packet().ipv4().udp().payload(20),
    packet().ipv4({ ttl: 1 }).tcp(),
    packet().ipv6().udp(),
    packet().ipv4().udp().payload(1200),
    packet().arp(),
    packet().ipv4({ ttl: 1 }).udp().payload(1300),
  ].map((made) => made.bytes());
  const answers: unknown[] = [];
  for (const engine of [kernel({ interfaces: [] }), userspace()])
    for (const subject of [meter(), typed]) {
      const wired = subject.as('subject').on({ large: 'tx' });
      await using running = await pipeline('same', { xdp: [wired, last] }).run(engine);
      const results: unknown[] = [];
      for (const frame of frames) {
        const { verdict, path } = await running.run(frame);
        results.push([verdict, path]);
      }
      answers.push({
        results,
        flows: running
          .map(flows)
          .getAll()
          .sort(([a], [b]) => a - b),
        stats: running.stats().xdp,
      });
    }
  const [first, ...others] = answers;
  expect(first).toMatchObject({ stats: { subject: { packets: 6n, next: 3n, exits: { large: 2n }, verdicts: { drop: 1n } } } });
  for (const other of others) expect(other).toEqual(first);
});

test('on an interface: metadata cross C from XDP to TC, and a swap loses nothing', async () => {
  const c = meter().on({ large: 'pass' });
  const edge = pipeline('edge', { xdp: [mark, c, last], tcIngress: [label(), account], tcEgress: [label().as('out')] });
  const engine = kernel({ interfaces: ['client'], netns: server.namespace });
  await using running = await edge.run(engine);
  leaks.remember();
  await using socket = await client.udp();
  const sent = 40;
  for (let i = 0; i < sent; i++) {
    await socket.send(new Uint8Array(i % 2 === 0 ? 100 : 1_200), '10.0.0.2', 7_000);
    if (i % 10 === 4) await running.replace(c, typed.on({ large: 'pass' }));
    if (i % 10 === 9) await running.replace(c, c);
  }
  const packets = (key: number) => running.map(flows).get(key)?.packets ?? 0n;
  await eventually(() => packets(17) === BigInt(sent) && packets(1000) >= BigInt(2 * sent));
  const { xdp, tcIngress, tcEgress, roots } = running.stats();
  expect(xdp.meter).toMatchObject({ misses: 0n, exits: { large: BigInt(sent / 2) }, verdicts: { drop: 0n, abort: 0n } });
  expect(xdp.meter.packets).toBe(xdp.mark.packets);
  expect([tcIngress.label.misses, tcEgress.out.packets >= BigInt(sent), roots.tcIngress.withoutMetadata]).toEqual([0n, true, 0n]);
  expect(running.map(byTenant).get(7_000 & 0xfff)).toBe(BigInt(sent));
});

test('variables, functions and callbacks run in their place; constants are known to the verifier', async () => {
  const variables = arrayMap({ name: 'variables', value: u64, maxEntries: 1 });
  const uses = { flows, '.bss': variables, limit: 50 };
  const strict = objectStage({ name: 'strict', hook: 'xdp', object, program: 'meter', uses, exits: { large: 7 } });
  await using running = await pipeline('vars', { xdp: [strict.on({ large: 'tx' })] }).run(kernel({ interfaces: [] }));
  const frame = packet().ipv4().udp().payload(40).bytes();
  expect([(await running.run(frame)).verdict, (await running.run(frame)).verdict]).toEqual(['tx', 'tx']);
  expect(running.map(variables).get(0)).toBe(2n * (0n + 1n + 2n));
});

test('what the verifier refuses is shown at its line of C', async () => {
  const careless = objectStage({ name: 'careless', hook: 'xdp', object, program: 'careless' });
  const error = await pipeline('bad', { xdp: [careless, last] })
    .run(kernel({ interfaces: [] }))
    .catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(VerifierError);
  expect(error).toMatchObject({ source: { text: expect.stringContaining('data[20] == 4') } });
});
