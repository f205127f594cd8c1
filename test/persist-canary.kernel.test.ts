/**
 * Processes that try another pipeline on some packets are killed meanwhile: both sides go on until the next process leads all packets
 * to what it declares. `TAILRACE_KILLS=N` kills N at random moments, default 8.
 */
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { createNamespace, kernel, PacketSocket, Rtnetlink, setSysctl } from '@tailrace/kernel';
import { keptPipelines, pipeline, stopKept } from '@tailrace/pipeline';
import { stage } from '@tailrace/stage';
import { afterEach, expect, test } from 'vitest';
import { AT, keptEdge, PROBE } from './kept-edge.ts';
import { killAll, type ProcessToKill, start } from './killed-process.ts';
import { frames } from './numbered-frames.ts';

const kills = Number(process.env.TAILRACE_KILLS ?? 8);
const LONGEST_MS = 400;

const name = `tried-${process.pid}`;
const folder = `/sys/fs/bpf/tailrace/${name}`;

afterEach(async () => {
  killAll();
  await using outside = await kernel({ interfaces: [] }).open();
  if (keptPipelines(outside).some((kept) => kept.name === name)) await stopKept(outside, name);
});

/** A veth whose right end the pipeline is on. */
function link() {
  using stack = new DisposableStack();
  const namespace = stack.use(createNamespace());
  const route = stack.use(new Rtnetlink(namespace));
  // frames of others come without metadata while only TC is attached
  setSysctl(namespace, 'net/ipv6/conf/default/disable_ipv6', 1);
  route.createVeth({ name: 'left' }, { name: 'right' });
  for (const end of ['left', 'right']) route.change(end, { up: true });
  const [sender, receiver] = [stack.use(new PacketSocket(namespace, 'left')), stack.use(new PacketSocket(namespace, 'right'))];
  const kept = stack.move();
  return { namespace, sender, receiver, [Symbol.dispose]: () => kept.dispose() };
}

/** Pins of a pipeline that does not change, without numbers. */
const pinned = (): readonly string[] =>
  readdirSync(folder)
    .map((pin) => decodeURIComponent(pin).replace(/:\d+:/, ':N:'))
    .sort();

test('killed within a canary: both sides go on, and the next process ends it', { timeout: 60_000 }, async () => {
  using net = link();
  const { seen, edge } = keptEdge(name);
  const engine = kernel({ interfaces: ['right'], netns: net.namespace });
  const first = await edge(1).run(engine, { persist: true });
  for (const key of Object.values(AT)) first.map(seen).set(key, 0n);
  const before = pinned();
  await first.leave();

  const traffic = frames(net.sender, net.receiver);
  const process = await started(net.namespace.path, 7, 'canary', 'canary');
  expect(await traffic.meets(200)).toEqual({ odd: [8], even: [7] });
  await process.kill();
  expect(await traffic.meets(200)).toEqual({ odd: [8], even: [7] });

  // a stage that neither had: its counters lie where nobody counts
  const again = keptEdge(name);
  const { first: enters, last, guard, out } = again.stages(9);
  const more = stage({ name: 'keptMore', hook: 'xdp', program: (ctx) => ctx.next() });
  const grown = pipeline(name, { xdp: [enters.on({ other: 'pass' }), last, more], tcIngress: [guard], tcEgress: [out] });
  await using running = await grown.run(engine, { persist: true });
  expect(await traffic.meets(200)).toEqual({ odd: [9], even: [9] });
  const { sent, lost, mixed, by } = await traffic.end();
  expect({ lost, mixed }).toEqual({ lost: 0, mixed: 0 });
  const { keptFirst, keptMore } = running.stats().xdp;
  const met = BigInt(by.get(9) ?? 0);
  expect(keptMore).toMatchObject({ packets: met, next: met, bytes: met * BigInt(PROBE.bytes) });
  // that of the present pipeline counts on, what the canary counted is lost
  expect(keptFirst.next).toBe(BigInt(sent - (by.get(8) ?? 0)));
  for (const key of [AT.xdp, AT.tcIngress]) expect(running.map(again.seen).get(key)).toBe(BigInt(sent));
  expect(running.map(again.seen).get(AT.mixed)).toBe(0n);
  expect(pinned()).toEqual(before);
  expect(running.orphans).toEqual([]);
  await running.stop();
  expect(existsSync(folder)).toBe(false);
});

test('killed at any moment of canaries, and of traces that come and go', { timeout: 30_000 + 3_000 * kills }, async () => {
  using net = link();
  const { seen, edge } = keptEdge(name);
  await (await started(net.namespace.path, 0, 'running', 'canaries')).kill();
  const traffic = frames(net.sender, net.receiver);
  for (let at = 1; at <= kills; at++) {
    const word = ['starting', 'running', 'canary'][at % 3] ?? '';
    await (await started(net.namespace.path, at * 1000, word, 'canaries')).kill(Math.random() * LONGEST_MS);
  }
  const running = await edge(kills * 1000 + 999).run(kernel({ interfaces: ['right'], netns: net.namespace }), { persist: true });
  await setTimeout(50);
  const { sent, lost, mixed } = await traffic.end();
  const stats = running.stats();
  try {
    expect({ lost, mixed }).toEqual({ lost: 0, mixed: 0 });
    expect(sent).toBeGreaterThan(100 * kills);
    for (const key of [AT.xdp, AT.tcIngress]) expect(running.map(seen).get(key)).toBe(BigInt(sent));
    expect(running.map(seen).get(AT.mixed)).toBe(0n);
    const none = { misses: 0n, withoutMetadata: 0n };
    expect(stats.roots).toEqual({ xdp: none, tcIngress: none, tcEgress: none });
    expect(pinned().filter((pin) => pin.startsWith('object:array:'))).toEqual(
      ['tcEgress', 'tcIngress', 'xdp'].map((hook) => `object:array:N:${name}/${hook}.array`),
    );
  } finally {
    await running.stop();
  }
  expect(existsSync(folder)).toBe(false);
});

/** A process that tries one pipeline after the other, or one for good, once it has said so. */
async function started(netns: string, generation: number, word: string, work: 'canaries' | 'canary'): Promise<ProcessToKill> {
  const process = start('kept-edge-process.ts', [name, netns, String(generation), work]);
  await process.says(word);
  return process;
}
