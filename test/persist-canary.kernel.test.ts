/**
 * Processes that try another pipeline on some packets are killed meanwhile: both sides go on until the next process leads all packets
 * to what it declares. `TAILRACE_KILLS=N` kills N at random moments, default 8.
 */
import { existsSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { pipeline } from '@tailrace/pipeline';
import { stage } from '@tailrace/stage';
import { Wire } from '@tailrace/testing';
import { afterEach, expect, test } from 'vitest';
import { AT, keptEdge, PROBE } from './kept-edge.ts';
import { killAll, type ProcessToKill, start } from './killed-process.ts';
import { frames } from './numbered-frames.ts';
import { pinsOf, stopLeft } from './pipeline-objects.ts';

const kills = Number(process.env.TAILRACE_KILLS ?? 8);
const LONGEST_MS = 400;

const name = `tried-${process.pid}`;
const folder = `/sys/fs/bpf/tailrace/${name}`;

afterEach(async () => {
  killAll();
  await stopLeft(name);
});

test('killed within a canary: both sides go on, and the next process ends it', { timeout: 60_000 }, async () => {
  using wire = new Wire();
  const { seen, edge } = keptEdge(name);
  const engine = wire.engine();
  const first = await edge(1).run(engine, { persist: true });
  for (const key of Object.values(AT)) first.map(seen).set(key, 0n);
  const before = pinsOf(name);
  await first.leave();

  const traffic = frames(wire.left, wire.right);
  const process = await started(wire.namespace.path, 7, 'canary', 'canary');
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
  expect(pinsOf(name)).toEqual(before);
  expect(running.orphans).toEqual([]);
  await running.stop();
  expect(existsSync(folder)).toBe(false);
});

test('killed at any moment of canaries, and of traces that come and go', { timeout: 30_000 + 3_000 * kills }, async () => {
  using wire = new Wire();
  const { seen, edge } = keptEdge(name);
  await (await started(wire.namespace.path, 0, 'running', 'canaries')).kill();
  const traffic = frames(wire.left, wire.right);
  for (let at = 1; at <= kills; at++) {
    const word = ['starting', 'running', 'canary'][at % 3] ?? '';
    await (await started(wire.namespace.path, at * 1000, word, 'canaries')).kill(Math.random() * LONGEST_MS);
  }
  const running = await edge(kills * 1000 + 999).run(wire.engine(), { persist: true });
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
    expect(pinsOf(name).filter((pin) => pin.startsWith('object:array:'))).toEqual(
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
