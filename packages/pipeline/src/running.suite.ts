/** Pipelines on an engine: compiled stages, real maps and tail calls. */
import type { Engine } from '@tailrace/bpf';
import { hash, ipv4Prefix, lpmTrie, override, perCpuArray, stage, u32, u64 } from '@tailrace/stage';
import { map, VirtualTimeScheduler } from 'rxjs';
import { expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { Clock } from './service.ts';

/** Ethernet, IPv4 with a TTL and a source, UDP. */
function packet(options: { readonly ttl?: number; readonly saddr?: number; readonly length?: number } = {}): Uint8Array {
  const { ttl = 64, saddr = 0x0a00_0001, length = 60 } = options;
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint16(12, 0x0800);
  view.setUint8(14, 0x45);
  view.setUint16(16, length - 14);
  view.setUint8(22, ttl);
  view.setUint8(23, 17);
  view.setUint32(26, saddr);
  view.setUint32(30, 0x0a00_0002);
  view.setUint16(38, length - 34);
  return bytes;
}

const acl = stage({
  name: 'acl',
  hook: 'xdp',
  uses: { blocked: lpmTrie({ name: 'blocked', key: ipv4Prefix, value: u64, maxEntries: 100 }), minTtl: 2 },
  program(ctx, { blocked, minTtl }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    if (ip.ttl < minTtl) return ctx.exit('expired');
    const hits = blocked.lookup({ prefixLen: 32, addr: ip.saddr });
    if (hits) {
      hits.value += 1n;
      return ctx.drop();
    }
    return ctx.next();
  },
});
const reject = stage({ name: 'reject', hook: 'xdp', program: (ctx) => ctx.tx() });
const classify = stage({
  name: 'classify',
  hook: 'xdp',
  writes: { size: u32 },
  program(ctx) {
    ctx.meta.size = ctx.length;
    return ctx.next();
  },
});
const sizes = perCpuArray({ name: 'sizes', value: u64, maxEntries: 4 });
const meter = stage({
  name: 'meter',
  hook: 'xdp',
  reads: { size: u32 },
  uses: { sizes },
  program(ctx, { sizes }) {
    const sum = sizes.lookup(0);
    if (sum) sum.value += BigInt(ctx.meta.size);
    return ctx.meta.size > 100 ? ctx.drop() : ctx.next();
  },
});
const edge = pipeline('edge', { xdp: [acl.on({ expired: reject }), classify, meter] });

/** The cases, on an engine. */
export function runningSuite(engine: Engine): void {
  test('packets take their ways, maps are typed, counters count', async () => {
    await using running = await edge.run(engine);
    running.map(acl.uses.blocked).set({ prefixLen: 8, addr: 0x0b00_0000 }, 0n);
    expect((await running.run(packet())).verdict).toBe('pass');
    expect((await running.run(packet({ ttl: 1 }))).verdict).toBe('tx');
    expect((await running.run(packet({ saddr: 0x0b01_0203 }))).verdict).toBe('drop');
    expect((await running.run(packet({ length: 200 }))).verdict).toBe('drop');
    expect(running.map(acl.uses.blocked).get({ prefixLen: 8, addr: 0x0b00_0000 })).toBe(1n);
    expect(running.map(sizes).sum(0)).toBe(260n);
    const { xdp, roots } = running.stats();
    expect(xdp.acl).toEqual({
      packets: 4n,
      bytes: 380n,
      verdicts: { abort: 0n, drop: 1n, pass: 0n, tx: 0n, redirect: 0n },
      next: 2n,
      exits: { expired: 1n },
      drops: {},
      misses: 0n,
    });
    expect(xdp.reject).toMatchObject({ packets: 1n, bytes: 60n, verdicts: { tx: 1n } });
    expect(xdp.meter).toMatchObject({ packets: 2n, next: 1n, verdicts: { drop: 1n } });
    expect(roots.xdp.misses).toBe(0n);
  });

  test('stages are swapped by a slot and by a generation, keeping maps and counters', async () => {
    await using running = await edge.run(engine);
    await running.run(packet({ ttl: 1 }));
    await running.replace(reject, stage({ name: 'rejectV2', hook: 'xdp', program: (ctx) => ctx.drop() }));
    expect((await running.run(packet({ ttl: 1 }))).verdict).toBe('drop');
    expect(running.stats().xdp.reject).toMatchObject({ packets: 2n, verdicts: { tx: 1n, drop: 1n } });
    await running.replace(
      acl,
      acl.with({ minTtl: 65 }).on({ expired: [stage({ name: 'answer', hook: 'xdp', program: (ctx) => ctx.next() }), 'abort'] }),
    );
    expect((await running.run(packet())).verdict).toBe('abort');
    expect(running.stats().xdp.acl).toMatchObject({ packets: 3n, exits: { expired: 3n } });
  });

  test('counters as a stream: one timer for all, ended by the last to leave; who fails fails alone; stopping completes', async () => {
    const clock = new VirtualTimeScheduler(undefined, 0);
    const running = await edge.run(engine, { statsIntervalMs: 1_000, services: [override(Clock, clock)] });
    const at = (ms: number): void => {
      clock.maxFrames = ms;
      clock.flush();
    };
    const [seen, errors]: [bigint[], unknown[]] = [[], []];
    let isDone = false;
    const counts$ = running.stats$.pipe(map(({ xdp }) => xdp.acl.packets));
    const failing = map((packets: bigint) => {
      if (packets === 1n) throw new RangeError('mine');
      return packets;
    });
    counts$.pipe(failing).subscribe({ error: (error) => errors.push(error) });
    const subscription = counts$.subscribe((packets) => seen.push(packets));
    at(0);
    await running.run(packet());
    at(2_500);
    expect([seen, errors]).toEqual([[0n, 1n, 1n], [new RangeError('mine')]]);
    expect(clock.actions).toHaveLength(1);
    subscription.unsubscribe();
    expect(clock.actions).toEqual([]);
    counts$.subscribe({
      next: (packets) => seen.push(packets),
      complete: () => {
        isDone = true;
      },
    });
    // a value at once, and whoever is slow gets no queue of old ones: the next is read when it is due
    await running.run(packet());
    at(2_500);
    expect(seen.at(-1)).toBe(2n);
    await running.stop();
    expect([isDone, clock.actions.filter(({ closed }) => !closed)]).toEqual([true, []]);
  });

  test('a hash and its batches', async () => {
    const table = hash({ name: 'table', key: u32, value: u64, maxEntries: 5000 });
    const user = stage({
      name: 'user',
      hook: 'xdp',
      uses: { table },
      program: (ctx, { table }) => (table.lookup(1) ? ctx.drop() : ctx.pass()),
    });
    await using running = await pipeline('maps', { xdp: [user] }).run(engine);
    const handle = running.map(table);
    handle.setMany(Array.from({ length: 1000 }, (_, i) => [i, BigInt(i) * 2n] as const));
    expect(handle.size).toBe(1000);
    expect(new Map(handle.getAll()).get(999)).toBe(1998n);
    expect(handle.deleteMany([0, 1, 5000])).toBe(2);
    expect([...handle.entries()]).toHaveLength(998);
    expect(() => handle.set(-1, 0n)).toThrow("key of 'table': expected 0..4294967295, got -1");
    expect((await running.run(packet())).verdict).toBe('pass');
    handle.set(1, 1n);
    expect((await running.run(packet())).verdict).toBe('drop');
  });
}
