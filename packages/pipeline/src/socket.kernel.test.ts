/** Chains on sockets, in the kernel and on real ones. */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { kernel } from '@tailrace/kernel';
import { sockhash, stage, struct, u32 } from '@tailrace/stage';
import { afterEach, describe, expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { arrives, closeConnections, connection, socketSuite } from './socket.suite.ts';

afterEach(closeConnections);

const fdOf = (socket: Socket): number => (socket as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;

describe('what comes in', () => socketSuite(kernel({}), fdOf));

const key = struct({ localPort: u32, remotePort: u32 });
const local = sockhash({ name: 'local', key, maxEntries: 64 });
const track = stage({
  name: 'track',
  hook: 'sockOps',
  uses: { local },
  program(ctx, { local }) {
    if (ctx.activeEstablished || ctx.passiveEstablished) local.add({ localPort: ctx.localPort, remotePort: ctx.remotePort });
    return ctx.pass();
  },
});
const shortcut = stage({
  name: 'shortcut',
  hook: 'skMsg',
  uses: { local },
  program: (ctx, { local }) => ctx.redirectIngress(local, { localPort: ctx.remotePort, remotePort: ctx.localPort }),
});

test('events find both ends of connections, what they send goes from one to the other', async () => {
  const mount = readFileSync('/proc/self/mounts', 'utf8').match(/^\S+ (\S+) cgroup2 /m)?.[1] as string;
  const home = `${mount}${readFileSync('/proc/self/cgroup', 'utf8').match(/^0::(.*)$/m)?.[1] ?? '/'}`;
  const cgroup = `${mount}/tailrace-pipeline-${process.pid}`;
  mkdirSync(cgroup);
  try {
    await using running = await pipeline('bypass', { sockOps: [track], skMsg: [shortcut] }).run(kernel({ cgroup }));
    writeFileSync(`${cgroup}/cgroup.procs`, String(process.pid));
    const { near, far } = await connection();
    expect(running.map(local).size).toBe(2);
    near.write('ping');
    expect(await arrives(far, 4)).toBe('ping');
    far.write('pong!');
    expect(await arrives(near, 5)).toBe('pong!');
    expect(running.stats().skMsg.shortcut).toMatchObject({ packets: 2n, bytes: 9n, verdicts: { redirect: 2n } });
    expect(running.stats().sockOps.track.packets).toBeGreaterThan(1n);
  } finally {
    writeFileSync(`${home}/cgroup.procs`, String(process.pid));
    rmdirSync(cgroup);
  }
}, 30_000);

test('mistakes', async () => {
  const blind = stage({ name: 'blind', hook: 'skSkb', program: (ctx) => ctx.drop() });
  await expect(pipeline('p', { skSkb: [blind] }).run(kernel({}))).rejects.toThrow('no stage of the skSkb chain uses a map of sockets');
  await expect(pipeline('p', { sockOps: [track] }).run(kernel({}))).rejects.toThrow('the engine has no cgroup');
});
