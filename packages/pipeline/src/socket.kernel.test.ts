/** Chains on sockets, in the kernel and on real ones. */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { kernel } from '@tailrace/kernel';
import { stage } from '@tailrace/stage';
import { afterEach, describe, expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { bypassing, carriesBothWays, closeConnections, connection, count, messageSuite, socketSuite } from './socket.suite.ts';

afterEach(closeConnections);

const fdOf = (socket: Socket): number => (socket as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;

describe('what comes in', () => socketSuite(kernel({}), fdOf));
describe('what is written', () => messageSuite(kernel({}), fdOf));

test('events find both ends of connections, what they send goes from one to the other', async () => {
  const mount = readFileSync('/proc/self/mounts', 'utf8').match(/^\S+ (\S+) cgroup2 /m)?.[1] as string;
  const home = `${mount}${readFileSync('/proc/self/cgroup', 'utf8').match(/^0::(.*)$/m)?.[1] ?? '/'}`;
  const cgroup = `${mount}/tailrace-pipeline-${process.pid}`;
  mkdirSync(cgroup);
  try {
    await using running = await bypassing.run(kernel({ cgroup }));
    writeFileSync(`${cgroup}/cgroup.procs`, String(process.pid));
    const { near, far } = await connection();
    await carriesBothWays(running, near, far);
  } finally {
    writeFileSync(`${home}/cgroup.procs`, String(process.pid));
    rmdirSync(cgroup);
  }
}, 30_000);

test('mistakes', async () => {
  const blind = stage({ name: 'blind', hook: 'skSkb', program: (ctx) => ctx.drop() });
  await expect(pipeline('p', { skSkb: [blind] }).run(kernel({}))).rejects.toThrow('no stage of the skSkb chain uses a map of sockets');
  await using running = await pipeline('p', { skMsg: [count] }).run(kernel({}));
  await expect(running.run(new Uint8Array(4))).rejects.toThrow('the kernel has no test runs for programs of type skMsg');
  await expect(bypassing.run(kernel({}))).rejects.toThrow('the engine has no cgroup');
});
