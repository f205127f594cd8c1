/** Chains on what comes in at real sockets: verdicts, redirects, counters and changes, the same on every engine. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Engine } from '@tailrace/bpf';
import { arrayMap, sockhash, sockmap, stage, struct, u8, u32, u64 } from '@tailrace/stage';
import { afterEach, expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';

let ends: Socket[] = [];

/** Both ends of a connection over loopback; `far` is the one that goes into maps. */
export async function connection(): Promise<{ readonly near: Socket; readonly far: Socket }> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const near = new Socket({ allowHalfOpen: true }).connect((server.address() as { port: number }).port, '127.0.0.1');
  const [far] = (await accepted) as [Socket];
  if (near.connecting) await once(near, 'connect');
  server.close();
  ends.push(near, far);
  return { near, far };
}

/** What arrives: as soon as there are so many bytes, or after a moment. */
export async function arrives(socket: Socket, bytes: number, momentMs = 2000): Promise<string> {
  const chunks: Buffer[] = [];
  const take = (chunk: Buffer): void => void chunks.push(chunk);
  socket.on('data', take);
  for (let waited = 0; waited < momentMs && Buffer.concat(chunks).length < bytes; waited += 5) await sleep(5);
  socket.off('data', take);
  return Buffer.concat(chunks).toString();
}

/** Closes what `connection` opened. */
export function closeConnections(): void {
  for (const end of ends) end.destroy();
  ends = [];
}

const first = struct({ byte: u8 });
export const peers = sockmap({ name: 'peers', maxEntries: 8 });
/**
 * By the first byte: `x` is dropped, `s` goes out of the socket at 1, `i` in at it, `m` to a key that is missing, all else through
 * the chain.
 */
export const sort = stage({
  name: 'sort',
  hook: 'skSkb',
  uses: { peers, first },
  program(ctx, { peers, first }) {
    const head = ctx.at(first, 0);
    if (!head) return ctx.pass();
    if (head.byte === 0x78) return ctx.exit('unwanted');
    if (head.byte === 0x73) return ctx.redirect(peers, 1);
    if (head.byte === 0x69) return ctx.redirectIngress(peers, 1);
    if (head.byte === 0x6d) return ctx.redirect(peers, 5);
    return ctx.next();
  },
});
export const seen = arrayMap({
  name: 'seen',
  value: struct({ bytes: u64, localPort: u32, remotePort: u32, remoteAddr: u32, family: u32 }),
  maxEntries: 1,
});
export const note = stage({
  name: 'note',
  hook: 'skSkb',
  uses: { seen },
  program(ctx, { seen }) {
    const entry = seen.lookup(0);
    if (!entry) return ctx.pass();
    entry.bytes += BigInt(ctx.length);
    entry.localPort = ctx.localPort;
    entry.remotePort = ctx.remotePort;
    entry.remoteAddr = ctx.remoteAddr;
    entry.family = ctx.family;
    return ctx.next();
  },
});
const proxy = pipeline('proxy', { skSkb: [sort.on({ unwanted: 'drop' }), note] });

/** By the ports of the socket that data come in at. */
const byPorts = sockhash({ name: 'byPorts', key: struct({ localPort: u32, remotePort: u32 }), maxEntries: 8 });
const across = stage({
  name: 'across',
  hook: 'skSkb',
  uses: { byPorts },
  program: (ctx, { byPorts }) =>
    ctx.length === 0 ? ctx.drop() : ctx.redirect(byPorts, { localPort: ctx.localPort, remotePort: ctx.remotePort }),
});
const acrossAgain = across.as('across');
const portsOf = ({ localPort = 0, remotePort = 0 }: Socket) => ({ localPort, remotePort });

/** The behaviour of chains at `skSkb`. `numberOf` says what stands for a socket in a map of the engine. */
export function socketSuite(engine: Engine, numberOf: (socket: Socket) => number): void {
  afterEach(closeConnections);

  test('a chain with exits, redirects, counters, and a stage that is swapped', async () => {
    await using running = await proxy.run(engine);
    const [a, b] = [await connection(), await connection()];
    running.map(peers).set(0, numberOf(a.far));
    running.map(peers).set(1, numberOf(b.far));

    a.near.write('hello');
    expect(await arrives(a.far, 5)).toBe('hello');
    expect(running.map(seen).get(0)).toEqual({
      bytes: 5n,
      localPort: a.far.localPort,
      remotePort: a.far.remotePort,
      remoteAddr: 0x7f00_0001,
      family: 2,
    });
    a.near.write('splice');
    expect(await arrives(b.near, 6)).toBe('splice');
    a.near.write('x-rated');
    expect(await arrives(a.far, 1, 50)).toBe('');
    expect(running.stats().skSkb.sort).toMatchObject({ packets: 3n, bytes: 18n, exits: { unwanted: 1n }, verdicts: { redirect: 1n } });
    expect(running.stats().skSkb.note).toMatchObject({ packets: 1n, bytes: 5n });

    await running.replace(sort, stage({ name: 'open', hook: 'skSkb', program: (ctx) => ctx.next() }).as('open'));
    // the map that only the old stage named stays with its sockets
    await sleep(100);
    a.near.write('x');
    expect(await arrives(a.far, 1)).toBe('x');
    expect(running.stats().skSkb.note.packets).toBe(2n);

    const others = sockmap({ name: 'others', maxEntries: 1 });
    const elsewhere = stage({ name: 'elsewhere', hook: 'skSkb', uses: { others }, program: (ctx, { others }) => ctx.redirect(others, 0) });
    await expect(running.replace(sort, elsewhere)).rejects.toThrow("the skSkb chain is not attached to the map of sockets 'others'");
  }, 30_000);

  test('counters go off and on again beneath sockets, and count on', async () => {
    await using running = await proxy.run(engine);
    const { near, far } = await connection();
    running.map(peers).set(0, numberOf(far));
    near.write('one');
    expect(await arrives(far, 3)).toBe('one');
    await running.observe({ counters: false, drops: true });
    near.write('two');
    expect(await arrives(far, 3)).toBe('two');
    expect(() => running.stats()).toThrow('counts nothing');
    await running.observe({ counters: true });
    expect(running.stats().skSkb.sort).toMatchObject({ packets: 1n, bytes: 3n });
    near.write('three');
    expect(await arrives(far, 5)).toBe('three');
    expect(running.stats().skSkb.sort).toMatchObject({ packets: 2n, bytes: 8n });
  }, 30_000);

  test('in at another socket: who reads from it gets the data; a missing key drops them', async () => {
    await using running = await proxy.run(engine);
    const [a, b] = [await connection(), await connection()];
    running.map(peers).set(0, numberOf(a.far));
    running.map(peers).set(1, numberOf(b.far));
    a.near.write('inwards');
    expect(await arrives(b.far, 7)).toBe('inwards');
    a.near.write('missing');
    expect(await Promise.all([arrives(a.far, 1, 50), arrives(b.far, 1, 50), arrives(b.near, 1, 50)])).toEqual(['', '', '']);
    expect(running.stats().skSkb.sort.verdicts).toMatchObject({ redirect: 1n, drop: 1n });
    running.map(peers).delete(1);
    a.near.write('inwards');
    expect(await arrives(b.far, 1, 50)).toBe('');
  }, 30_000);

  test('a socket that is taken out is its own again, and one that is closed is gone from its maps', async () => {
    await using running = await proxy.run(engine);
    const [a, b] = [await connection(), await connection()];
    running.map(peers).set(0, numberOf(a.far));
    a.near.write('x');
    expect(await arrives(a.far, 1, 50)).toBe('');
    expect(running.map(peers).delete(0)).toBe(true);
    expect(running.map(peers).delete(0)).toBe(false);
    a.near.write('x again');
    expect(await arrives(a.far, 7)).toBe('x again');

    running.map(peers).set(1, numberOf(b.far));
    expect(running.map(peers).cookie(1)).toBeTypeOf('bigint');
    b.far.destroy();
    await once(b.far, 'close');
    await sleep(20);
    expect(running.map(peers).cookie(1)).toBeUndefined();
  }, 30_000);

  test('a socket has one chain for its data, and comes into a map while both sides are open', async () => {
    await using running = await proxy.run(engine);
    await using second = await pipeline('second', { skSkb: [across] }).run(engine);
    const { near, far } = await connection();
    running.map(peers).set(0, numberOf(far));
    expect(() => second.map(byPorts).set(portsOf(far), numberOf(far))).toThrow(expect.objectContaining({ errno: 16 }));
    const ended = await connection();
    const number = numberOf(ended.far);
    ended.near.end();
    await once(ended.far.resume(), 'end');
    expect(() => running.map(peers).set(2, number)).toThrow(expect.objectContaining({ errno: 95 }));
    expect(() => running.map(peers).set(9, numberOf(near))).toThrow(expect.objectContaining({ errno: 7 }));
    expect(() => running.map(peers).set(3, 0x7fff_fff0)).toThrow(expect.objectContaining({ errno: 9 }));
  }, 30_000);

  test('megabytes go across in order, through a reader that is slow, while stages are exchanged', async () => {
    await using running = await pipeline('across', { skSkb: [across] }).run(engine);
    const [a, b] = [await connection(), await connection()];
    running.map(byPorts).set(portsOf(a.far), numberOf(b.far));
    running.map(byPorts).set(portsOf(b.far), numberOf(a.far));
    const sent = randomBytes(1 << 20);
    const chunks: Buffer[] = [];
    let bytes = 0;
    b.near.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (chunks.length % 5 !== 0) return;
      b.near.pause();
      setTimeout(() => b.near.resume(), 2);
    });
    let isSending = true;
    const swaps = (async () => {
      while (isSending) {
        await running.replace(across, acrossAgain);
        await sleep(1);
      }
    })();
    for (let at = 0; at < sent.length; at += 20_000) {
      a.near.write(sent.subarray(at, at + 20_000));
      // the kernel sends on without bounds, and drops what its socket buffers do not take
      for (let waited = 0; waited < 5000 && bytes < Math.min(at + 20_000, sent.length) - 100_000; waited++) await sleep(1);
    }
    for (let waited = 0; waited < 5000 && bytes < sent.length; waited += 5) await sleep(5);
    isSending = false;
    await swaps;
    expect(bytes).toBe(sent.length);
    expect(Buffer.concat(chunks).equals(sent)).toBe(true);
    expect(running.stats().skSkb.across.misses).toBe(0n);
  }, 60_000);

  test('a half-close is heard of by who reads, and met by the chain as data of no length', async () => {
    await using running = await proxy.run(engine);
    const { near, far } = await connection();
    running.map(peers).set(0, numberOf(far));
    near.end('last');
    const chunks: Buffer[] = [];
    far.on('data', (chunk: Buffer) => void chunks.push(chunk));
    await once(far, 'end');
    expect(String(Buffer.concat(chunks))).toBe('last');
    await sleep(20);
    expect(running.stats().skSkb.sort).toMatchObject({ packets: 2n, bytes: 4n });
    far.end('answer');
    expect(await arrives(near, 6)).toBe('answer');
  }, 30_000);
}

const relay = sockmap({ name: 'relay', maxEntries: 4 });
/** By the first byte: `x` is dropped, `e` goes out of the socket at 1, `i` in at it, `m` to a key that is missing; `a` and one more pass, `c` with at least 8. */
const sift = stage({
  name: 'sift',
  hook: 'skMsg',
  uses: { relay, first },
  program(ctx, { relay, first }) {
    const head = ctx.at(first, 0);
    if (!head) return ctx.pass();
    if (head.byte === 0x78) return ctx.drop();
    if (head.byte === 0x65) return ctx.redirect(relay, 1);
    if (head.byte === 0x69) return ctx.redirectIngress(relay, 1);
    if (head.byte === 0x6d) return ctx.redirect(relay, 3);
    if (head.byte === 0x61) ctx.applyBytes(2);
    if (head.byte === 0x63) ctx.corkBytes(8);
    return ctx.next();
  },
});

export const count = stage({ name: 'count', hook: 'skMsg', uses: { peers }, program: (ctx) => ctx.next() });

/** The behaviour of chains at `skMsg`; as `socketSuite`. */
export function messageSuite(engine: Engine, numberOf: (socket: Socket) => number): void {
  afterEach(closeConnections);

  test('what is written passes, goes out of another socket, or in at it', async () => {
    await using running = await pipeline('sender', { skMsg: [sift] }).run(engine);
    const [a, b] = [await connection(), await connection()];
    running.map(relay).set(0, numberOf(a.far));
    running.map(relay).set(1, numberOf(b.far));
    a.far.write('plain');
    expect(await arrives(a.near, 5)).toBe('plain');
    a.far.write('elsewhere');
    expect(await arrives(b.near, 9)).toBe('elsewhere');
    a.far.write('inwards');
    expect(await arrives(b.far, 7)).toBe('inwards');
    // a verdict for two bytes, another for what is left
    a.far.write('abi!');
    expect(await Promise.all([arrives(a.near, 2), arrives(b.far, 2)])).toEqual(['ab', 'i!']);
    expect(running.stats().skMsg.sift).toMatchObject({ packets: 5n, bytes: 27n, verdicts: { redirect: 3n } });
    running.map(relay).delete(0);
    a.far.write('exempt');
    expect(await arrives(a.near, 6)).toBe('exempt');
  }, 30_000);

  test('bytes that have to come together wait for one another', async () => {
    await using running = await pipeline('sender', { skMsg: [sift] }).run(engine);
    const { near, far } = await connection();
    running.map(relay).set(0, numberOf(far));
    far.write('c12');
    expect(await arrives(near, 1, 50)).toBe('');
    far.write('34');
    expect(await arrives(near, 1, 50)).toBe('');
    far.write('567890');
    expect(await arrives(near, 11)).toBe('c1234567890');
    expect(running.stats().skMsg.sift.packets).toBe(2n);
  }, 30_000);

  test.each(['x-rated', 'missing'])(
    '%s: the write fails, and the connection with it',
    async (text) => {
      await using running = await pipeline('sender', { skMsg: [sift] }).run(engine);
      const { near, far } = await connection();
      running.map(relay).set(0, numberOf(far));
      const failed = once(far, 'error');
      far.write(text);
      expect((await failed)[0]).toMatchObject({ code: 'EACCES', syscall: 'write' });
      expect(await arrives(near, 1, 50)).toBe('');
      expect(running.stats().skMsg.sift.verdicts.drop).toBe(1n);
    },
    30_000,
  );

  test('what a chain on data that come in sends out of a socket is written there, and meets the chain on that', async () => {
    const both = pipeline('both', { skSkb: [sort.on({ unwanted: 'drop' })], skMsg: [count] });
    await using running = await both.run(engine);
    const [a, b] = [await connection(), await connection()];
    running.map(peers).set(0, numberOf(a.far));
    running.map(peers).set(1, numberOf(b.far));
    a.near.write('sent on');
    expect(await arrives(b.near, 7)).toBe('sent on');
    // the kernel asks once more, about no bytes
    expect(running.stats().skMsg.count.bytes).toBe(7n);
  }, 30_000);
}

const ports = struct({ localPort: u32, remotePort: u32 });
const local = sockhash({ name: 'local', key: ports, maxEntries: 64 });
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
/** Finds both ends of connections, and leads what they write from one to the other. */
export const bypassing = pipeline('bypass', { sockOps: [track], skMsg: [shortcut] });

/** Sends something there and back over a connection whose both ends `bypassing` was told of. */
export async function carriesBothWays(running: Awaited<ReturnType<typeof bypassing.run>>, near: Socket, far: Socket): Promise<void> {
  expect(running.map(local).size).toBe(2);
  near.write('ping');
  expect(await arrives(far, 4)).toBe('ping');
  far.write('pong!');
  expect(await arrives(near, 5)).toBe('pong!');
  expect(running.stats().skMsg.shortcut).toMatchObject({ packets: 2n, bytes: 9n, verdicts: { redirect: 2n } });
  expect(running.stats().sockOps.track.packets).toBeGreaterThan(1n);
}
