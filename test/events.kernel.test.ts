/** Events from stages at XDP to streams of the control plane: by test runs and by traffic, faster than they are read, and through swaps. */
import { readdirSync, readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { packet, topology } from '@tailrace/testing';
import { map, mergeMap, take, tap, timer, toArray } from 'rxjs';
import { arrayMap, be32, events, kernel, pipeline, stage, struct, u8, u16, u64 } from 'tailrace';
import { expect, test } from 'vitest';
import { watched } from './watched-engine.ts';

/** 16 bytes: with its header a record takes 24. */
const Seen = struct({ number: u64, source: be32, length: u16, cpu: u8 });

/** A stage that numbers its packets and tells of each. */
function teller(bytes?: number) {
  const seen = events({ name: 'seen', value: Seen, ...(bytes === undefined ? {} : { bytes }) });
  const sent = arrayMap({ name: 'sent', value: u64, maxEntries: 1 });
  const tell = stage({
    name: 'tell',
    hook: 'xdp',
    uses: { seen, sent },
    program(ctx, { seen, sent }) {
      const ip = ctx.ipv4();
      const count = sent.lookup(0);
      if (!ip || !count) return ctx.next();
      count.value += 1n;
      seen.send({ number: count.value, source: ip.saddr, length: ip.totalLength, cpu: ctx.cpu() & 0xff });
      return ctx.next();
    },
  });
  return { seen, sent, tell };
}

const PLACE = 24;

const frame = packet().ipv4({ saddr: '10.0.0.7' }).udp({}).payload('hello').bytes();
const LENGTH = frame.length - 14;

/** Runs a teller; `send` gives its chain a packet so many times, on a thread of the pool and whatever CPU that has. */
async function run(bytes?: number) {
  const parts = teller(bytes);
  const { engine, attached } = watched(kernel({ interfaces: [] }));
  const running = await pipeline('edge', { xdp: [parts.tell] }).run(engine);
  return {
    running,
    handle: running.handle(parts.seen),
    sent: () => running.map(parts.sent).get(0) ?? 0n,
    send: async (repeat: number) => void (await attached[0]?.testRun({ packet: frame, repeat })),
    [Symbol.asyncDispose]: () => running.stop(),
  };
}

/** Open files and mappings of maps; a directory that is being read is open too. */
function held(): readonly [files: number, mappings: number] {
  const mappings = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return [readdirSync('/proc/self/fd').length, mappings.filter((line) => line.includes('bpf-map')).length];
}

test('events are typed and in order', async () => {
  await using parts = await run();
  const first = new Promise((resolve) => {
    parts.handle.events$.pipe(take(3), toArray()).subscribe(resolve);
  });
  await parts.send(3);
  const cpu = expect.any(Number);
  const event = { source: 0x0a000007, length: LENGTH, cpu };
  expect(await first).toEqual([1n, 2n, 3n].map((number) => ({ number, ...event })));
  expect([parts.handle.received, parts.handle.lost, parts.handle.pending]).toEqual([3n, 0n, 0]);
});

test('traffic comes as events too', async () => {
  await using network = await topology({
    hosts: { client: {}, server: {} },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.0.1/24'] },
          { host: 'server', addresses: ['10.0.0.2/24'], xdp: true },
        ],
      },
    ],
  });
  const { client, server } = network.hosts;
  const { seen, tell } = teller();
  await using running = await pipeline('edge', { xdp: [tell] }).run(kernel({ interfaces: ['client'], netns: server.namespace }));
  const sources: number[] = [];
  running.handle(seen).events$.subscribe(({ source, length }) => {
    if (length === 28 + 4) sources.push(source);
  });
  await using service = await server.udpEcho({ port: 9000 });
  await using socket = await client.udp({ address: '10.0.0.1' });
  for (let i = 0; i < 20; i++) await socket.send('ping', '10.0.0.2', 9000);
  await expect.poll(() => sources.length).toBe(20);
  expect(new Set(sources)).toEqual(new Set([0x0a000001]));
  expect(service).toBeDefined();
});

test('a million events, more than are read: each is received or counted as lost, and each CPU keeps its order', async () => {
  await using parts = await run(64 * 1024);
  const last = new Map<number, bigint>();
  let disorder = 0;
  const read = parts.handle.events$.subscribe(({ number, cpu }) => {
    if (number <= (last.get(cpu) ?? 0n)) disorder += 1;
    last.set(cpu, number);
    const until = performance.now() + 0.002;
    while (performance.now() < until);
  });
  const sender = async (): Promise<void> => {
    for (let run = 0; run < 20; run++) await parts.send(25_000);
  };
  await Promise.all([sender(), sender()]);
  await expect.poll(() => parts.handle.pending).toBe(0);
  read.unsubscribe();
  expect(parts.sent()).toBeGreaterThanOrEqual(1_000_000n);
  expect(parts.handle.received + parts.handle.lost).toBe(parts.sent());
  expect(parts.handle.lost).toBeGreaterThan(0n);
  expect(parts.handle.received).toBeGreaterThan(10_000n);
  expect(disorder).toBe(0);
});

test('consume holds reading back: the ring fills, and what finds no place is counted', async () => {
  await using parts = await run(4096);
  const numbers: bigint[] = [];
  let under = 0;
  let most = 0;
  const done = new Promise<void>((resolve) => {
    parts.handle
      .consume(({ number }) => {
        under += 1;
        most = Math.max(most, under);
        return timer(2).pipe(
          map(() => number),
          tap(() => {
            under -= 1;
          }),
        );
      })
      .pipe(take(100))
      .subscribe({ next: (number) => numbers.push(number), complete: resolve });
  });
  await parts.send(500);
  await done;
  expect(most).toBe(1);
  expect(numbers).toEqual(Array.from({ length: 100 }, (_, i) => BigInt(i + 1)));
  const { received, lost, pending } = parts.handle;
  expect(received + lost + BigInt(pending / PLACE)).toBe(parts.sent());
  // 4,096 bytes are 170 records
  expect(lost).toBeGreaterThan(300n);
  expect(pending).toBeGreaterThan(0);
});

test('a loop reads as it is asked; leaving it and coming back goes on', async () => {
  await using parts = await run();
  await parts.send(10);
  const numbers: bigint[] = [];
  for await (const { number } of parts.handle) {
    numbers.push(number);
    if (numbers.length === 4) break;
  }
  await turn();
  await parts.send(2);
  expect(parts.handle.pending).toBe(8 * PLACE);
  const rest = await new Promise<bigint[]>((resolve) => {
    parts.handle.events$
      .pipe(
        map(({ number }) => number),
        take(8),
        toArray(),
      )
      .subscribe(resolve);
  });
  expect([...numbers, ...rest]).toEqual(Array.from({ length: 12 }, (_, i) => BigInt(i + 1)));
});

test('a swap changes nothing for those who read', async () => {
  const { seen, tell, sent } = teller();
  const other = stage({
    name: 'tell',
    hook: 'xdp',
    uses: { seen },
    program(ctx, { seen }) {
      seen.send({ number: 99n, source: 1, length: 2, cpu: 3 });
      return ctx.next();
    },
  });
  await using running = await pipeline('edge', { xdp: [tell] }).run(kernel({ interfaces: [] }));
  const numbers: bigint[] = [];
  running.handle(seen).events$.subscribe(({ number }) => numbers.push(number));
  await running.run(frame);
  expect(running.map(sent).get(0)).toBe(1n);
  await running.replace(tell, other);
  await running.run(frame);
  await expect.poll(() => numbers).toEqual([1n, 99n]);
});

test('stopping delivers what is left, completes everything and leaves nothing', async () => {
  await (await run()).running.stop();
  await turn();
  const before = held();
  for (let round = 0; round < 5; round++) {
    const parts = await run();
    const numbers: bigint[] = [];
    const ended: string[] = [];
    if (round % 2 === 0)
      parts.handle.events$.subscribe({ next: ({ number }) => numbers.push(number), complete: () => ended.push('events$') });
    else parts.handle.consume(() => timer(1e6)).subscribe({ complete: () => ended.push('consume') });
    await turn();
    const sending = parts.send(1500);
    if (round < 4) await sending;
    await parts.running.stop();
    await sending.catch(() => undefined);
    if (round % 2 === 0 && round < 4) expect(numbers).toHaveLength(1500);
    expect(ended).toEqual([round % 2 === 0 ? 'events$' : 'consume']);
  }
  await expect.poll(held).toEqual(before);
});

test('a subscriber that fails harms no other', async () => {
  await using parts = await run();
  const [numbers, errors]: [bigint[], unknown[]] = [[], []];
  parts.handle.events$
    .pipe(
      mergeMap(({ number }) => {
        if (number === 2n) throw new RangeError('mine');
        return [number];
      }),
    )
    .subscribe({ error: (error) => errors.push(error) });
  parts.handle.events$.subscribe(({ number }) => numbers.push(number));
  await parts.send(3);
  await expect.poll(() => numbers).toEqual([1n, 2n, 3n]);
  expect(errors).toEqual([new RangeError('mine')]);
});

test('TC tells of its packets as XDP does', async () => {
  const seen = events({ name: 'seen', value: Seen });
  const tell = stage({
    name: 'tell',
    hook: 'tc',
    uses: { seen },
    program(ctx, { seen }) {
      const ip = ctx.ipv4();
      if (ip) seen.send({ number: 1n, source: ip.saddr, length: ip.totalLength, cpu: 0 });
      return ctx.next();
    },
  });
  await using running = await pipeline('edge', { tcIngress: [tell], tcEgress: [tell] }).run(kernel({ interfaces: [] }));
  await running.run(frame, { hook: 'tcIngress' });
  await running.run(frame, { hook: 'tcEgress' });
  const told = await new Promise((resolve) => {
    running.handle(seen).events$.pipe(take(2), toArray()).subscribe(resolve);
  });
  const event = { number: 1n, source: 0x0a000007, length: LENGTH, cpu: 0 };
  expect(told).toEqual([event, event]);
});
