/** Connections of one host past TCP, between processes that know nothing of it. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Socket } from 'node:net';
import { bypass } from '@tailrace/functions/bypass';
import { Cgroup, topology } from '@tailrace/testing';
import { kernel, pipeline } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { drained, loopback, sha1 } from './loopback.ts';

let cgroup: Cgroup;
beforeAll(() => {
  cgroup = new Cgroup();
});
afterAll(() => cgroup.close());

/** A process that says back what it is told, at a port of its own. */
const ECHO = `
const server = require('node:net').createServer({ allowHalfOpen: true }, (s) => { s.on('error', () => {}); s.pipe(s); });
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();`;

async function echo(joins: boolean) {
  if (joins) cgroup.enter();
  else cgroup.leave();
  const child = spawn(process.execPath, ['-e', ECHO], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  cgroup.enter();
  return {
    port: Number(String(line)),
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await once(child, 'exit');
    },
  };
}

/** Sends bytes in pieces, and gives what comes back. */
async function roundTrip(port: number, bytes: Buffer, pieces: number): Promise<string> {
  const socket = new Socket({ allowHalfOpen: true }).connect(port, '127.0.0.1');
  await once(socket, 'connect');
  const hash = createHash('sha1');
  socket.on('data', (chunk: Buffer) => hash.update(chunk));
  const size = Math.ceil(bytes.length / pieces);
  for (let at = 0; at < bytes.length; at += size) if (!socket.write(bytes.subarray(at, at + size))) await once(socket, 'drain');
  socket.end();
  await once(socket, 'end');
  return hash.digest('hex');
}

test('a connection to a process outside stays with TCP, and is counted', async () => {
  const local = bypass();
  await using running = await pipeline('local', { sockOps: [local], skMsg: [local] }).run(kernel({ cgroup: cgroup.path }));
  await using outside = await echo(false);
  const bytes = randomBytes(1 << 20);
  expect(await roundTrip(outside.port, bytes, 16)).toBe(sha1(bytes));
  const { next, verdicts } = running.stats().skMsg['bypass.handOver'];
  expect(next).toBeGreaterThan(0n);
  expect(verdicts.redirect).toBe(0n);
});

test('what two processes of the cgroup say goes past TCP, in order and whole', async () => {
  const local = bypass();
  await using running = await pipeline('local', { sockOps: [local], skMsg: [local] }).run(kernel({ cgroup: cgroup.path }));
  await using inside = await echo(true);
  const all = Array.from({ length: 50 }, (_, i) => randomBytes(1 + i * 20_000));
  const sums = await Promise.all(all.map((bytes, i) => roundTrip(inside.port, bytes, 1 + (i % 7))));
  expect(sums).toEqual(all.map(sha1));
  const { next, verdicts } = running.stats().skMsg['bypass.handOver'];
  expect(verdicts.redirect).toBeGreaterThan(100n);
  expect({ next, pass: verdicts.pass }).toEqual({ next: 0n, pass: 0n });
});

test('connections of two namespaces that are the same but for that are kept apart', async () => {
  const local = bypass();
  await using running = await pipeline('local', { sockOps: [local], skMsg: [local] }).run(kernel({ cgroup: cgroup.path }));
  cgroup.enter();
  const sysctls = { 'net/ipv4/ip_local_port_range': '40000 40000' };
  await using net = await topology({ hosts: { box: { sysctls }, other: { sysctls } } });
  await using box = await loopback('127.0.0.1', net.hosts.box.namespace);
  await using other = await loopback('127.0.0.1', net.hosts.other.namespace);
  const [one, same] = [await box.connection(), await other.connection()];
  expect([one.inner.localPort, one.inner.remotePort]).toEqual([same.inner.localPort, same.inner.remotePort]);
  for (const connection of [one, same]) {
    const [bytes, answer] = [randomBytes(50_000), randomBytes(50_000)];
    const [there, back] = [drained(connection.inner), drained(connection.outer)];
    connection.outer.end(bytes);
    connection.inner.end(answer);
    expect((await there).hash).toBe(sha1(bytes));
    expect((await back).hash).toBe(sha1(answer));
  }
  expect(running.stats().skMsg['bypass.handOver'].verdicts.redirect).toBeGreaterThan(3n);
});

test('connections beyond the room for them stay with TCP, and those that are forgotten go on with it', async () => {
  const local = bypass({ maxConnections: 2 });
  await using running = await pipeline('local', { sockOps: [local], skMsg: [local] }).run(kernel({ cgroup: cgroup.path }));
  await using inside = await echo(true);
  for (let round = 0; round < 5; round++) {
    const all = Array.from({ length: 20 }, (_, i) => randomBytes(1 + i * 10_000));
    expect(await Promise.all(all.map((bytes, i) => roundTrip(inside.port, bytes, 1 + i)))).toEqual(all.map(sha1));
  }
  const { verdicts, packets } = running.stats().skMsg['bypass.handOver'];
  expect(verdicts.redirect).toBeGreaterThan(0n);
  expect(verdicts.redirect).toBeLessThan(packets);
  // 100 connections of two ends, and places for four
  const { withoutRoom } = running.controller(local);
  expect(withoutRoom).toBeGreaterThan(0n);
  expect(withoutRoom).toBeLessThanOrEqual(200n);
});
