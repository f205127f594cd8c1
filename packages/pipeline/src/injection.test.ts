/** Packets that are handed to a pipeline in userspace: their way from hook to hook, in order, with what travels along. */
import { UnsupportedError } from '@tailrace/bpf';
import { be32, hash, stage, u16, u32, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { userspace } from '@tailrace/userspace';
import { describe, expect, test } from 'vitest';
import { FakeEngine } from './fake-engine.ts';
import type { Injected } from './injection.ts';
import { pipeline } from './pipeline.ts';

const mark = stage({
  name: 'mark',
  hook: 'xdp',
  writes: { tenant: u16 },
  program(ctx) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.drop();
    ctx.meta.tenant = ip.saddr & 0xff;
    if (ip.ttl === 1) return ctx.exit('expired');
    return ctx.next();
  },
});
const seen = hash({ name: 'seen', key: u32, value: u64, maxEntries: 16 });
const account = stage({
  name: 'account',
  hook: 'tcIngress',
  reads: { tenant: u16 },
  uses: { seen },
  program(ctx, { seen }) {
    const key = ctx.meta.tenant;
    const count = seen.lookup(key);
    if (count) count.value += 1n;
    else seen.update(key, 1n);
    return key === 9 ? ctx.drop() : ctx.next();
  },
});
const bounce = stage({ name: 'bounce', hook: 'tcEgress', program: (ctx) => ctx.redirect(7) });
const edge = pipeline('edge', { xdp: [mark.on({ expired: 'tx' })], tcIngress: [account], tcEgress: [bounce] });
const from = (last: number, ttl = 64) =>
  packet()
    .ipv4({ saddr: `10.0.0.${last}`, ttl })
    .udp()
    .bytes();

async function all(results: AsyncIterable<Injected>): Promise<Injected[]> {
  const list: Injected[] = [];
  for await (const result of results) list.push(result);
  return list;
}

describe.each(['wasm', 'interpreter'] as const)('%s', (mode) => {
  test('from hook to hook as long as packets pass, with metadata from XDP', async () => {
    await using running = await edge.run(userspace({ mode }));
    const results = await all(running.inject([from(3), from(9), from(3, 1), packet().arp().bytes(), from(3)]));
    expect(results.map(({ index, hook, verdict }) => `${index} ${hook} ${verdict}`)).toEqual([
      '0 tcIngress pass',
      '1 tcIngress drop',
      '2 xdp tx',
      '3 xdp drop',
      '4 tcIngress pass',
    ]);
    expect(Buffer.compare(results[0]?.packet ?? new Uint8Array(), from(3))).toBe(0);
    expect(running.map(seen).getAll()).toEqual([
      [3, 2n],
      [9, 1n],
    ]);
    expect(running.stats().xdp.mark.packets).toBe(5n);
  });

  test('paths, packet by packet', async () => {
    await using running = await edge.run(userspace({ mode }));
    expect((await running.inject(from(9), { path: true })).path).toEqual([
      { hook: 'xdp', stage: 'mark', verdict: 'next' },
      { hook: 'tcIngress', stage: 'account', verdict: 'drop' },
    ]);
    expect((await running.inject(from(3, 1), { path: true })).path).toEqual([
      { hook: 'xdp', stage: 'mark', verdict: 'exit', exit: 'expired' },
    ]);
  });

  test('egress, and where a redirect goes', async () => {
    await using running = await edge.run(userspace({ mode }));
    expect(await running.inject(from(3), { direction: 'egress' })).toMatchObject({
      hook: 'tcEgress',
      verdict: 'redirect',
      redirect: { ifindex: 7, kind: 'redirect' },
    });
  });

  test('streams and batches, more than fit at a time', async () => {
    await using running = await edge.run(userspace({ mode }));
    const count = mode === 'wasm' ? 3_000 : 300;
    async function* batches() {
      for (let i = 0; i < count; i += 100) yield Array.from({ length: 100 }, (_, k) => from((i + k) % 7));
      yield from(6);
    }
    const results = await all(running.inject(batches()));
    expect(results.map(({ index }) => index)).toEqual(Array.from({ length: count + 1 }, (_, i) => i));
    expect(results.every(({ verdict, packet: { length } }) => verdict === 'pass' && length === from(0).length)).toBe(true);
    expect(running.stats().tcIngress.account.packets).toBe(BigInt(count + 1));
  });
});

test('hashes that redirect by maps say which entry', async () => {
  const hosts = hash({ name: 'hosts', key: be32, value: u32, maxEntries: 4 });
  const to = stage({
    name: 'to',
    hook: 'xdp',
    uses: { hosts },
    program(ctx, { hosts }) {
      const ip = ctx.ipv4();
      if (!ip) return ctx.pass();
      const at = hosts.lookup(ip.daddr);
      return at ? ctx.redirect(at.value) : ctx.pass();
    },
  });
  await using running = await pipeline('to', { xdp: [to] }).run(userspace());
  running.map(hosts).set(0x0a000001, 12);
  expect((await running.inject(packet().ipv4({ daddr: '10.0.0.1' }).udp().bytes())).redirect).toEqual({ ifindex: 12, kind: 'redirect' });
  expect(await running.inject(packet().ipv4({ daddr: '10.0.0.2' }).udp().bytes())).not.toHaveProperty('redirect');
});

test('what cannot be: engines with interfaces, no chain for the direction, packets that are none', async () => {
  await using fake = await edge.run(new FakeEngine());
  await expect(fake.inject(from(1))).rejects.toThrow(UnsupportedError);
  await using running = await pipeline('one', { xdp: [mark.on({ expired: 'tx' })] }).run(userspace());
  await expect(running.inject(from(1), { direction: 'egress' })).rejects.toThrow('the pipeline has no chain for egress');
  await expect(running.inject(new Uint8Array(5))).rejects.toThrow('a packet takes at least 14 bytes, got 5');
  expect((await running.inject(from(1))).verdict).toBe('pass');
});

test('a stage is replaced while packets go in without a pause', async () => {
  const pass = stage({ name: 'gate', hook: 'xdp', program: (ctx) => ctx.pass() });
  await using running = await pipeline('gated', { xdp: [pass] }).run(userspace());
  let [isReplaced, left] = [false, 1_000_000];
  function* packets() {
    for (; left > 0 && !isReplaced; left--) yield from(1);
  }
  const replaced = running.replace(pass, stage({ name: 'shut', hook: 'xdp', program: (ctx) => ctx.drop() })).then(() => {
    isReplaced = true;
  });
  const verdicts = new Set<string>();
  for await (const { verdict } of running.inject(packets())) verdicts.add(verdict);
  await replaced;
  expect([left > 0, verdicts.has('pass')]).toEqual([true, true]);
  expect((await running.inject(from(1))).verdict).toBe('drop');
});
