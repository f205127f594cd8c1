/**
 * Processes that run a persistent pipeline are killed at random moments of starting, taking over, updating and replacing, while numbered frames
 * cross it: none is lost, none meets stages of two processes, and the next process goes on. `TAILRACE_KILLS=N` kills N, default 12, and half as many that start anew.
 */
import { existsSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { eventually, Wire } from '@tailrace/testing';
import { afterEach, expect, test } from 'vitest';
import { AT, keptEdge } from './kept-edge.ts';
import { killAll, type ProcessToKill, start } from './killed-process.ts';
import { frames, NOBODY } from './numbered-frames.ts';
import { pinsOf, stopLeft } from './pipeline-objects.ts';

const kills = Number(process.env.TAILRACE_KILLS ?? 12);
/** About as long as a process takes to take over a pipeline, or to change it some times. */
const LONGEST_MS = 400;
/** About as long as it takes to fill its folder of pins and attach. */
const STARTING_MS = 150;

const name = `killed-${process.pid}`;

afterEach(async () => {
  killAll();
  await stopLeft(name);
});

/** Frames in both directions. */
function traffic({ left, right }: Wire) {
  const [comes, goes] = [frames(left, right), frames(right, left, 1)];
  return { end: async () => ({ comes: await comes.end(), goes: await goes.end() }) };
}

test('kill -9 at any moment: packets go on in one chain or another, and the next process goes on', {
  timeout: 30_000 + 3_000 * kills,
}, async () => {
  using wire = new Wire();
  const { route, namespace } = wire;
  const { seen, edge } = keptEdge(name);

  await (await started(namespace.path, 0, 'running')).kill();
  const sent = traffic(wire);
  for (let at = 1; at <= kills; at++) {
    // while it takes over what is there, updates it, and replaces stages of it
    const [word, work] = at % 2 === 1 ? ['starting', 'updates'] : ['running', at % 4 === 0 ? 'updates' : 'replacements'];
    await (await started(namespace.path, at * 1000, word, work)).kill(Math.random() * LONGEST_MS);
  }
  const running = await edge(kills * 1000 + 999).run(wire.engine(), { persist: true });
  await setTimeout(50);
  const { comes, goes } = await sent.end();
  const stats = running.stats();
  try {
    expect(comes).toMatchObject({ lost: 0, mixed: 0 });
    expect(comes.by.has(NOBODY)).toBe(false);
    expect(goes).toMatchObject({ lost: 0 });
    expect(comes.sent).toBeGreaterThan(100 * kills);
    for (const key of [AT.xdp, AT.tcIngress]) expect(running.map(seen).get(key)).toBe(BigInt(comes.sent));
    expect(running.map(seen).get(AT.tcEgress)).toBe(BigInt(goes.sent));
    expect(running.map(seen).get(AT.mixed)).toBe(0n);
    const none = { misses: 0n, withoutMetadata: 0n };
    expect(stats.roots).toEqual({ xdp: none, tcIngress: none, tcEgress: none });
    expect(Object.values(stats.xdp).map(({ misses }) => misses)).toEqual([0n, 0n]);
    expect(pinsOf(name).map((pin) => pin.replace(name, 'NAME'))).toMatchInlineSnapshot(`
      [
        "link:tcEgress:right",
        "link:tcIngress:right",
        "link:xdp:right",
        "manifest",
        "object:array:N:NAME/tcEgress.array",
        "object:array:N:NAME/tcIngress.array",
        "object:array:N:NAME/xdp.array",
        "object:map:NAME/seen",
        "object:own:NAME/tcEgress.entry",
        "object:own:NAME/tcEgress.state",
        "object:own:NAME/tcIngress.entry",
        "object:own:NAME/tcIngress.state",
        "object:own:NAME/xdp.entry",
        "object:own:NAME/xdp.state",
        "object:root:tcEgress",
        "object:root:tcIngress",
        "object:root:xdp",
      ]
    `);
  } finally {
    await running.stop();
  }
  expect(existsSync(`/sys/fs/bpf/tailrace/${name}`)).toBe(false);
  expect(route.interface('right').xdp).toEqual([]);
});

test('kill -9 while it starts anew: the next process goes on or begins anew, and nothing stays when it stops', {
  timeout: 30_000 + 3_000 * kills,
}, async () => {
  using wire = new Wire();
  const sent = traffic(wire);
  const folder = `/sys/fs/bpf/tailrace/${name}`;
  for (let at = 1; at <= Math.ceil(kills / 2); at++) {
    const process = await started(wire.namespace.path, at * 1000, 'starting');
    await eventually(() => existsSync(folder), 10_000, 'a folder that is being filled');
    await process.kill(Math.random() * STARTING_MS);
    expect(existsSync(folder)).toBe(true);
    const running = await keptEdge(name).edge(1).run(wire.engine(), { persist: true });
    expect(pinsOf(name)).toHaveLength(17);
    await running.stop();
    expect(existsSync(folder)).toBe(false);
    expect(wire.route.interface('right').xdp).toEqual([]);
  }
  const { comes, goes } = await sent.end();
  expect(comes).toMatchObject({ lost: 0, mixed: 0 });
  expect(goes).toMatchObject({ lost: 0 });
});

/** A process once it has said so. */
async function started(netns: string, generation: number, word: string, work = 'updates'): Promise<ProcessToKill> {
  const process = start('kept-edge-process.ts', [name, netns, String(generation), work]);
  await process.says(word);
  return process;
}
