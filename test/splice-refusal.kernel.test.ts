/** Sockets that the kernel does not take, and those that nobody should: piping with the reason, or a typed error, and no byte lost. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { type SpliceController, type Spliced, type SpliceOptions, splicer, TcpSockets } from '@tailrace/functions/splice';
import { topology } from '@tailrace/testing';
import { kernel, kernelSockets, override, pipeline } from 'tailrace';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Connection, drained, type Loopback, loopback, sha1 } from './loopback.ts';

const joiner = splicer({ maxPairs: 2 });
let stop: () => Promise<void>;
let controller: SpliceController;
let network: Loopback;
beforeAll(async () => {
  const running = await pipeline('proxy', { skSkb: [joiner] }).run(kernel({}), { services: [override(TcpSockets, kernelSockets())] });
  stop = () => running.stop();
  controller = running.controller(joiner);
  network = await loopback();
});
afterAll(async () => {
  await network[Symbol.asyncDispose]();
  await stop();
});
afterEach(() => network.clear());

/** Joins two connections, and talks. Returns who carries it. */
async function exchanged(left: Connection, right: Connection, options: SpliceOptions = {}) {
  const spliced = await controller.splice(left.inner, right.inner, options);
  await talk(left, right, spliced);
  return spliced.by;
}

/** Sends a good deal both ways: all of it arrives, and both ends hear of the end. */
async function talk(left: Connection, right: Connection, spliced: Spliced): Promise<void> {
  const [bytes, answer] = [randomBytes(300_000), randomBytes(200_000)];
  const [there, back] = [drained(right.outer), drained(left.outer)];
  left.outer.end(bytes);
  expect((await there).hash).toBe(sha1(bytes));
  right.outer.end(answer);
  expect((await back).hash).toBe(sha1(answer));
  await spliced.closed;
  expect(spliced.stats.forth.sent + spliced.stats.forth.passedOn).toBe(BigInt(bytes.length));
  expect(spliced.stats.back.sent + spliced.stats.back.passedOn).toBe(BigInt(answer.length));
}

/** A connection over a Unix socket, in a folder that is gone again. */
async function unixConnection(): Promise<Connection & Disposable> {
  const folder = mkdtempSync(join(tmpdir(), 'tailrace-splice-'));
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(join(folder, 'socket'));
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const outer = new Socket({ allowHalfOpen: true }).connect(join(folder, 'socket'));
  const [inner] = (await accepted) as [Socket];
  server.close();
  for (const socket of [outer, inner]) socket.on('error', () => undefined);
  const end = (): void => {
    for (const socket of [outer, inner]) socket.destroy();
    rmSync(folder, { recursive: true });
  };
  return { outer, inner, [Symbol.dispose]: end };
}

test('a Unix socket is piped', async () => {
  using local = await unixConnection();
  expect(await exchanged(local, await network.connection())).toEqual({ process: 'one side is no TCP socket' });
  using other = await unixConnection();
  const tcp = await network.connection();
  await expect(controller.splice(tcp.inner, other.inner, { require: 'kernel' })).rejects.toMatchObject({
    code: 'unsupported',
    message: 'splice: one side is no TCP socket',
  });
  expect([tcp.inner.destroyed, other.inner.destroyed]).toEqual([true, true]);
});

test('the reset of a connection ends a Unix socket that it is joined with', async () => {
  using local = await unixConnection();
  const tcp = await network.connection();
  const spliced = await controller.splice(tcp.inner, local.inner);
  const closed = once(local.outer.resume(), 'close');
  local.outer.on('end', () => local.outer.end());
  tcp.outer.resetAndDestroy();
  await closed;
  await spliced.closed;
});

test('a held connection whose partner is a Unix socket loses nothing', async () => {
  for (let i = 0; i < 20; i++) {
    using local = await unixConnection();
    const left = await network.connection();
    expect(controller.hold(left.inner)).toBe('kernel');
    const early = randomBytes(10_000);
    left.outer.write(early);
    const spliced = await controller.splice(left.inner, local.inner);
    expect(spliced.by).toEqual({ process: 'one side is no TCP socket' });
    const there = drained(local.outer);
    const bytes = randomBytes(2_000_000);
    left.outer.end(bytes);
    local.outer.end();
    expect((await there).hash).toBe(sha1(Buffer.concat([early, bytes])));
    await spliced.closed;
    expect(spliced.stats.forth).toEqual({ sent: 0n, passedOn: 2_010_000n });
  }
});

test('a connection that this process encrypts is piped, in the clear', async () => {
  const ciphers = { ciphers: 'aNULL:@SECLEVEL=0', maxVersion: 'TLSv1.2' } as const;
  const server = createTlsServer({ ...ciphers, allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'secureConnection');
  const outer = connectTls({
    ...ciphers,
    port: (server.address() as { port: number }).port,
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
  const [inner] = (await accepted) as [Socket];
  server.close();
  outer.allowHalfOpen = true;
  expect(await exchanged({ outer, inner }, await network.connection())).toEqual({ process: 'one side is no TCP socket' });
});

test('where there is no room for another pair it is piped, and there is room again', async () => {
  const pairs = [];
  for (let i = 0; i < 2; i++) {
    const [left, right] = [await network.connection(), await network.connection()];
    pairs.push(await controller.splice(left.inner, right.inner, { require: 'kernel' }));
  }
  const full = { process: 'there is no room for another pair' };
  expect(await exchanged(await network.connection(), await network.connection())).toEqual(full);
  expect(controller.hold((await network.connection()).inner)).toEqual(full);
  network.clear();
  await Promise.all(pairs.map(({ closed }) => closed));
  expect(await exchanged(await network.connection(), await network.connection(), { require: 'kernel' })).toBe('kernel');
});

test('connections of another namespace are joined; of two that are the same in their namespaces one is piped', async () => {
  const sysctls = { 'net/ipv4/ip_local_port_range': '40000 40000' };
  await using net = await topology({ hosts: { box: { sysctls }, other: { sysctls } } });
  await using box = await loopback('127.0.0.1', net.hosts.box.namespace);
  await using other = await loopback('127.0.0.1', net.hosts.other.namespace);
  const [one, same] = [await box.connection(), await other.connection()];
  expect([one.inner.localPort, one.inner.remotePort]).toEqual([same.inner.localPort, same.inner.remotePort]);
  const far = await network.connection();
  const spliced = await controller.splice(one.inner, far.inner, { require: 'kernel' });
  expect(await exchanged(same, await network.connection())).toEqual({ process: expect.stringContaining('EEXIST') });
  await talk(one, far, spliced);
  expect(spliced.by).toBe('kernel');
});

test('what a socket has been through: corked, written to and not flushed, paused, read in part', async () => {
  const [left, right] = [await network.connection(), await network.connection()];
  left.inner.cork();
  left.inner.cork();
  left.inner.write('corked ');
  right.outer.pause();
  right.inner.write(Buffer.alloc(8 << 20, 'x'));
  expect(right.inner.writableLength).toBeGreaterThan(0);
  left.outer.write('read, and unread');
  const first = new Promise((resolve) => left.inner.once('data', resolve).resume());
  expect(String(await first)).toBe('read, and unread');
  left.inner.pause();
  left.inner.unshift('unread');
  const joined = controller.splice(left.inner, right.inner);
  const [there, back] = [drained(right.outer), drained(left.outer)];
  const spliced = await joined;
  expect(spliced.by).toBe('kernel');
  left.outer.end('!');
  right.outer.end('answer');
  expect(await there).toEqual({ bytes: (8 << 20) + 7, hash: sha1(Buffer.concat([Buffer.alloc(8 << 20, 'x'), Buffer.from('unread!')])) });
  expect((await back).hash).toBe(sha1(Buffer.from('corked answer')));
  await spliced.closed;
});

test('sockets that nobody should join are refused, and stay as they were', async () => {
  const [left, right] = [await network.connection(), await network.connection()];
  const refused = async (socket: Socket): Promise<string> => {
    const [error, same] = await Promise.all([
      controller.splice(socket, right.inner).catch((error: Error) => error),
      controller.splice(right.inner, socket).catch((error: Error) => error),
    ]);
    expect(error).toMatchObject({ code: 'argument' });
    expect(same).toEqual(error);
    return (error as Error).message;
  };
  expect(await refused(right.inner)).toBe('splice: a socket cannot be joined with itself');
  expect(await refused(new Socket())).toBe('splice: the socket is not connected yet');
  const connecting = new Socket().connect(1, '127.0.0.1').on('error', () => undefined);
  expect(await refused(connecting)).toBe('splice: the socket is not connected yet');
  const closed = await network.connection();
  closed.inner.destroy();
  expect(await refused(closed.inner)).toBe('splice: the socket is closed');
  const onData = (): void => undefined;
  left.inner.on('data', onData);
  expect(await refused(left.inner)).toBe("splice: something else reads the socket, it has a listener for 'data'");
  expect(() => controller.hold(left.inner)).toThrow('something else reads the socket');
  left.inner.off('data', onData).pause();
  const sink = await network.connection();
  left.inner.pipe(sink.inner);
  expect(await refused(left.inner)).toMatch('something else reads the socket');
  left.inner.unpipe(sink.inner).pause();
  left.inner.on('readable', onData);
  expect(await refused(left.inner)).toBe("splice: something else reads the socket, it has a listener for 'readable'");
  left.inner.off('readable', onData);
  const text = await network.connection();
  text.inner.setEncoding('utf8');
  expect(await refused(text.inner)).toBe('splice: the socket decodes what comes as utf8');
  await expect(controller.splice(left.inner, right.inner, { limitBytes: 0 })).rejects.toThrow('limitBytes is 0, expected 1 or more');
  await new Promise(setImmediate);
  expect(await exchanged(left, right)).toBe('kernel');
  expect(await refused(left.inner)).toBe('splice: the socket is joined already');
});

test('with carry: process nothing enters the kernel', async () => {
  expect(await exchanged(await network.connection(), await network.connection(), { carry: 'process' })).toEqual({
    process: 'it was asked to',
  });
  const held = await network.connection();
  controller.hold(held.inner);
  expect(await exchanged(held, await network.connection(), { carry: 'process' })).toEqual({ process: 'it was asked to' });
});
