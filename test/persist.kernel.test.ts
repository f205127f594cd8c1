/**
 * Processes that run a persistent pipeline are killed at random moments of starting, taking over and changing it, while numbered frames
 * cross it: none is lost, none meets stages of two processes, and the next process goes on. `TAILRACE_KILLS=N` kills N, default 12.
 */
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { createNamespace, kernel, PacketSocket, Rtnetlink, setSysctl } from '@tailrace/kernel';
import { keptPipelines, stopKept } from '@tailrace/pipeline';
import { afterEach, expect, test } from 'vitest';
import { AT, keptEdge } from './kept-edge.ts';
import { killAll, type ProcessToKill, start } from './killed-process.ts';
import { frames } from './numbered-frames.ts';

const kills = Number(process.env.TAILRACE_KILLS ?? 12);
/** About as long as a process takes to take over a pipeline, or to change it some times. */
const LONGEST_MS = 400;

const name = `killed-${process.pid}`;

afterEach(async () => {
  killAll();
  await using outside = await kernel({ interfaces: [] }).open();
  if (keptPipelines(outside).some((kept) => kept.name === name)) await stopKept(outside, name);
});

test('kill -9 at any moment: packets go on in one chain or another, and the next process goes on', {
  timeout: 30_000 + 3_000 * kills,
}, async () => {
  using namespace = createNamespace();
  using route = new Rtnetlink(namespace);
  // frames of others come without metadata while only TC is attached
  setSysctl(namespace, 'net/ipv6/conf/default/disable_ipv6', 1);
  route.createVeth({ name: 'left' }, { name: 'right' });
  for (const end of ['left', 'right']) route.change(end, { up: true });
  using sender = new PacketSocket(namespace, 'left');
  using receiver = new PacketSocket(namespace, 'right');
  const { seen, edge } = keptEdge(name);
  const engine = kernel({ interfaces: ['right'], netns: namespace });

  await (await started(namespace.path, 0, 'running')).kill();
  const traffic = frames(sender, receiver);
  for (let at = 1; at <= kills; at++) {
    // while it takes over what is there, and while it changes it
    const word = at % 2 === 0 ? 'running' : 'starting';
    await (await started(namespace.path, at * 1000, word)).kill(Math.random() * LONGEST_MS);
  }
  const running = await edge(kills * 1000 + 999).run(engine, { persist: true });
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
    expect(Object.values(stats.xdp).map(({ misses }) => misses)).toEqual([0n, 0n]);
    const pins = readdirSync(`/sys/fs/bpf/tailrace/${name}`).map((pin) =>
      decodeURIComponent(pin).replace(/:\d+:/, ':N:').replace(name, 'NAME'),
    );
    expect(pins.sort()).toMatchInlineSnapshot(`
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

/** A process once it has said so. */
async function started(netns: string, generation: number, word: string): Promise<ProcessToKill> {
  const process = start('kept-edge-process.ts', [name, netns, String(generation)]);
  await process.says(word);
  return process;
}
