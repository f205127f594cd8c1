/** Maps of sockets as the kernel has them, and what is this engine's own: back-pressure, traps, what a stream is told. */
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { Duplex, duplexPair } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { assemble, type MapType, type ProgramSpec } from '@tailrace/bpf';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { addressBytes, writeEnds } from './connection-ends.ts';
import { type UserspaceInstance, userspace } from './engine.ts';
import { mapSpec, u32 } from './fixture.ts';
import type { UserspaceMap } from './map.ts';
import { socketNumber } from './socket-table.ts';

let instance: UserspaceInstance;
const open = new Set<Duplex>();
beforeEach(async () => {
  instance = await userspace({ compile: 'quickly' }).open();
});
afterEach(async () => {
  for (const socket of open) socket.destroy();
  open.clear();
  await instance.close();
});

const number = (socket: Duplex): Uint8Array => Uint8Array.from([...u32(socketNumber(socket)), 0, 0, 0, 0]);
const sockets = (type: MapType = 'sockmap', maxEntries = 4): UserspaceMap =>
  instance.createMap(mapSpec(type, { name: 'sockets', valueSize: 8, maxEntries }));
const errno = (name: string): unknown => expect.objectContaining({ message: expect.stringContaining(name) });

function keysOf(map: UserspaceMap): readonly number[] {
  const { count, keys } = map.readAll();
  return Array.from(new Uint32Array(keys.slice(0, 4 * count).buffer)).sort((a, b) => a - b);
}

async function connection(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = connect({ port: (server.address() as { port: number }).port, host: '127.0.0.1', allowHalfOpen: true });
  const [far] = (await once(server, 'connection')) as [Socket];
  if (near.connecting) await once(near, 'connect');
  server.close();
  for (const socket of [near, far]) {
    open.add(socket);
    socket.on('error', () => undefined);
  }
  return { near, far };
}

function program(text: string, type: ProgramSpec['type'] = 'skSkb'): ProgramSpec {
  const { instructions, mapReferences } = assemble(text);
  return { name: 'sample', type, frags: false, license: 'GPL', instructions, mapReferences, functions: [], lines: [] };
}

/** bpf_sk_redirect_map(skb, &sockets, 1, 0) */
const REDIRECTS = 'r2 = map[sockets]\nr3 = 1\nr4 = 0\ncall 52\nexit';

async function attached(text: string, map: UserspaceMap): Promise<void> {
  const loaded = await instance.loadProgram(program(text), new Map([['sockets', map]]));
  await instance.attachToSockets(loaded, { hook: 'skSkb', map });
}

test.each(['sockmap', 'sockhash'] as const)('%s: numbers of sockets are found until they are closed', async (type) => {
  const { near } = await connection();
  const map = sockets(type, 2);
  expect(map.delete(u32(1))).toBe(false);
  map.update(u32(1), number(near));
  expect(map.lookup(u32(1))).toEqual(number(near));
  if (type === 'sockhash') expect(keysOf(map)).toEqual([1]);
  expect(() => map.update(u32(1), number(near), 'noexist')).toThrow(errno('EEXIST'));
  expect(() => map.update(u32(0), number(near), 'exist')).toThrow(errno('ENOENT'));
  expect(() => map.update(u32(0), Uint8Array.from([7, 0, 0, 0, 0, 0, 0, 0]))).toThrow(errno('EBADF'));
  near.destroy();
  await once(near, 'close');
  expect(map.lookup(u32(1))).toBeUndefined();
  expect(() => map.update(u32(1), number(near))).toThrow(errno('EBADF'));
});

test('each socket leaves its own key, whatever becomes of the bytes that named it', async () => {
  const [a, b] = [await connection(), await connection()];
  const map = sockets('sockhash');
  const key = u32(1);
  map.update(key, number(a.far));
  key.set(u32(2));
  map.update(key, number(b.far));
  key.fill(0xff);
  a.far.destroy();
  await once(a.far, 'close');
  expect(keysOf(map)).toEqual([2]);
});

/** bpf_sk_redirect_map(skb, &sockets, 1, BPF_F_INGRESS) */
const INWARDS = 'r2 = map[sockets]\nr3 = 1\nr4 = 1\ncall 52\nexit';

test.each([
  { text: REDIRECTS, end: ({ far }: { far: Socket }) => far.end() },
  { text: INWARDS, end: ({ near }: { near: Socket }) => near.end() },
])('a target that takes no more lets its sender go on, though it stays open', async ({ text, end }) => {
  const [a, b] = [await connection(), await connection()];
  const map = sockets();
  await attached(text, map);
  map.update(u32(0), number(a.far));
  map.update(u32(1), number(b.far));
  b.far.pause();
  a.near.write(Buffer.alloc(16 << 20));
  await sleep(100);
  expect(a.near.writableLength).toBeGreaterThan(0);
  end(b);
  // what lies in its buffers still goes to its peer
  b.near.resume();
  for (let waited = 0; waited < 5000 && a.near.writableLength > 0; waited += 10) await sleep(10);
  expect(a.near.writableLength).toBe(0);
  expect(b.far.destroyed).toBe(false);
});

test('keys beyond the end, a full table, numbers of 4 bytes', async () => {
  const { near, far } = await connection();
  expect(() => sockets('sockmap', 2).update(u32(7), number(far))).toThrow(errno('E2BIG'));
  const full = sockets('sockhash', 1);
  full.update(u32(1), number(near));
  expect(() => full.update(u32(2), number(far))).toThrow(errno('E2BIG'));
  const short = instance.createMap(mapSpec('sockmap', { name: 'short', valueSize: 4 }));
  short.update(u32(0), u32(socketNumber(near)));
  expect(() => short.lookup(u32(0))).toThrow(errno('ENOSPC'));
});

test('what is sent on waits with its sender while nobody takes it', async () => {
  const [a, b] = [await connection(), await connection()];
  const map = sockets();
  await attached(REDIRECTS, map);
  map.update(u32(0), number(a.far));
  map.update(u32(1), number(b.far));
  b.near.pause();
  let sent = 0;
  const send = (): void => {
    while (sent < 64 << 20 && a.near.write(Buffer.alloc(65_536, sent >> 16))) sent += 65_536;
  };
  a.near.on('drain', send);
  send();
  await sleep(300);
  const stuck = sent;
  await sleep(100);
  expect(sent).toBe(stuck);
  expect(stuck).toBeLessThan(32 << 20);
  expect(b.far.writableLength).toBeLessThan(1 << 20);
  let taken = 0;
  b.near.on('data', (chunk: Buffer) => {
    taken += chunk.length;
  });
  b.near.resume();
  for (let waited = 0; waited < 20_000 && taken < 64 << 20; waited += 10) await sleep(10);
  expect(taken).toBeGreaterThanOrEqual(64 << 20);
}, 30_000);

test('a target that is closed meanwhile lets its sender go on', async () => {
  const [a, b] = [await connection(), await connection()];
  const map = sockets();
  await attached(REDIRECTS, map);
  map.update(u32(0), number(a.far));
  map.update(u32(1), number(b.far));
  b.near.pause();
  const filled = Buffer.alloc(16 << 20);
  a.near.write(filled);
  await sleep(100);
  b.far.destroy();
  for (let waited = 0; waited < 5000 && a.near.writableLength > 0; waited += 10) await sleep(10);
  expect(a.near.writableLength).toBe(0);
});

test('a program stays with its sockets when it is closed, and another takes its place for those that come later', async () => {
  const [a, b] = [await connection(), await connection()];
  const map = sockets();
  const load = (text: string) => instance.loadProgram(program(text), new Map([['sockets', map]]));
  const [first, second] = [await load('r0 = 0\nexit'), await load('r0 = 1\nexit')];
  const attachment = await instance.attachToSockets(first, { hook: 'skSkb', map });
  map.update(u32(0), number(a.far));
  first.close();
  await instance.attachToSockets(second, { hook: 'skSkb', map });
  await attachment.detach();
  map.update(u32(1), number(b.far));
  for (const { near } of [a, b]) near.write('x');
  expect(String((await once(b.far, 'data'))[0])).toBe('x');
  await sleep(20);
  expect(a.far.readableLength).toBe(0);
  expect(a.far.destroyed).toBe(false);
  expect(map.delete(u32(0))).toBe(true);
  a.near.write('y');
  expect(String((await once(a.far, 'data'))[0])).toBe('y');
});

test('a program that is stopped ends the connection with the reason', async () => {
  const { near, far } = await connection();
  const map = sockets();
  // r1 + 76: data; a byte that nobody has checked
  await attached('r2 = *(u32 *)(r1 + 76)\nr0 = *(u8 *)(r2 + 100)\nexit', map);
  map.update(u32(0), number(far));
  const failed = once(far, 'error');
  near.write('x');
  expect((await failed)[0]).toMatchObject({ code: 'trap' });
});

test('streams that are no sockets of the system, and bytes that a program rewrites', async () => {
  const [outer, inner] = duplexPair();
  const map = sockets();
  await attached(
    `r2 = *(u32 *)(r1 + 76)
     r3 = *(u32 *)(r1 + 80)
     r4 = r2
     r4 += 1
     r0 = 1
     if r4 > r3 goto done
     r5 = 0x21
     *(u8 *)(r2 + 0) = r5
     done: exit`,
    map,
  );
  map.update(u32(0), number(inner));
  inner.setEncoding('utf8');
  const given = Buffer.from('hello');
  outer.write(given);
  expect(await once(inner, 'data')).toEqual(['!ello']);
  expect(String(given)).toBe('hello');
});

test('mistakes', async () => {
  const map = sockets();
  const loaded = await instance.loadProgram(program('r0 = 1\nexit'), new Map());
  await expect(instance.attachToSockets(loaded, { hook: 'skMsg', map })).rejects.toThrow(
    'program sample is of type skSkb, the hook is skMsg',
  );
  const array = instance.createMap(mapSpec('array'));
  await expect(instance.attachToSockets(loaded, { hook: 'skSkb', map: array })).rejects.toThrow(
    'is no map of sockets of the userspace engine',
  );
  const unconnected = new Duplex({ read() {}, write() {} });
  unconnected.end();
  expect(() => map.update(u32(0), number(unconnected))).toThrow(
    expect.objectContaining({ errno: 95, hint: 'one side of the socket has ended' }),
  );
});

test('a socket that an HTTP parser reads from is refused', async () => {
  const server = createHttpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = connect((server.address() as { port: number }).port, '127.0.0.1');
  open.add(near);
  const [far] = (await once(server, 'connection')) as [Socket];
  open.add(far);
  const map = sockets();
  expect(() => map.update(u32(0), number(far))).toThrow(
    expect.objectContaining({ errno: 95, hint: 'an HTTP parser reads from the socket' }),
  );
  server.close();
});

test('addresses as a context has them', () => {
  expect([...addressBytes('10.0.0.1')]).toEqual([10, 0, 0, 1]);
  expect(Buffer.from(addressBytes('2001:db8::a:1')).toString('hex')).toBe('20010db80000000000000000000a0001');
  expect(Buffer.from(addressBytes('::')).toString('hex')).toBe('0'.repeat(32));
  expect(Buffer.from(addressBytes('::ffff:1.2.3.4')).toString('hex')).toBe('00000000000000000000ffff01020304');
  const u8 = new Uint8Array(64);
  const ends = { localAddress: '::ffff:10.0.0.1', localPort: 80, remoteAddress: 'fe80::1%eth0', remotePort: 0x1234 };
  writeEnds({ u8, view: new DataView(u8.buffer) }, 0, ends);
  expect(Buffer.from(u8.subarray(0, 52)).toString('hex')).toBe(
    `0a000000${'00000000'}0a000001fe80000000000000000000000000000100000000000000000000ffff0a0000010000123450000000`,
  );
});
