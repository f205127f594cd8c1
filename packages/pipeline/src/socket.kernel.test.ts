/** Chains on sockets, in the kernel and on real ones. */
import type { Socket } from 'node:net';
import { kernel } from '@tailrace/kernel';
import { stage } from '@tailrace/stage';
import { Cgroup } from '@tailrace/testing';
import { afterEach, describe, expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { bypassing, carriesBothWays, closeConnections, connection, count, messageSuite, socketSuite } from './socket.suite.ts';

afterEach(closeConnections);

const fdOf = (socket: Socket): number => (socket as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;

describe('what comes in', () => socketSuite(kernel({}), fdOf));
describe('what is written', () => messageSuite(kernel({}), fdOf));

test('events find both ends of connections, what they send goes from one to the other', async () => {
  using cgroup = new Cgroup();
  await using running = await bypassing.run(kernel({ cgroup: cgroup.path }));
  cgroup.enter();
  const { near, far } = await connection();
  await carriesBothWays(running, near, far);
}, 30_000);

test('mistakes', async () => {
  const blind = stage({ name: 'blind', hook: 'skSkb', program: (ctx) => ctx.drop() });
  await expect(pipeline('p', { skSkb: [blind] }).run(kernel({}))).rejects.toThrow('no stage of the skSkb chain uses a map of sockets');
  await using running = await pipeline('p', { skMsg: [count] }).run(kernel({}));
  await expect(running.run(new Uint8Array(4))).rejects.toThrow('the kernel has no test runs for programs of type skMsg');
  await expect(bypassing.run(kernel({}))).rejects.toThrow('the engine has no cgroup');
});
