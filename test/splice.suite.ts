/** Pairs of real sockets, joined in an engine; where it says kernel, that engine is meant. */
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Engine } from '@tailrace/bpf';
import { type SpliceController, splicer, TcpSockets } from '@tailrace/functions/splice';
import { override, pipeline } from 'tailrace';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

/** How many random schedules: more by TAILRACE_SCHEDULES. */
const SCHEDULES = Number(process.env.TAILRACE_SCHEDULES ?? 100);

/** The behaviour of a splicer. `sockets` is the engine's access to TCP sockets. */
export function spliceSuite(engine: Engine, sockets: TcpSockets): void {
  const joiner = splicer({ maxPairs: 4096 });
  let stop: () => Promise<void>;
  let controller: SpliceController;
  let server: Server;
  beforeAll(async () => {
    const running = await pipeline('proxy', { skSkb: [joiner] }).run(engine, { services: [override(TcpSockets, sockets)] });
    stop = () => running.stop();
    controller = running.controller(joiner);
    server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterAll(async () => {
    server.close();
    await stop();
  });
  const open = new Set<Socket>();
  afterEach(async () => {
    for (const socket of open) socket.destroy();
    open.clear();
    for (let waited = 0; waited < 1000 && controller.size > 0; waited += 10) await sleep(10);
    expect(controller.size).toBe(0);
  });

  /** A connection over loopback: the end outside of the proxy, and the one that the proxy has. */
  function connection(): Promise<{ outer: Socket; inner: Socket }> {
    // one after the other: the server tells them apart by their order alone
    const made = last.then(connect);
    last = made.catch(() => undefined);
    return made;
  }
  let last: Promise<unknown> = Promise.resolve();

  async function connect(): Promise<{ outer: Socket; inner: Socket }> {
    const accepted = once(server, 'connection');
    const outer = new Socket({ allowHalfOpen: true }).connect((server.address() as { port: number }).port, '127.0.0.1');
    const [inner] = (await accepted) as [Socket];
    if (outer.connecting) await once(outer, 'connect');
    for (const socket of [outer, inner]) {
      open.add(socket);
      socket.on('error', () => undefined);
    }
    return { outer, inner };
  }

  /** Client and server with a proxy between them. */
  async function joined(options: Parameters<SpliceController['splice']>[2] = {}) {
    const [left, right] = [await connection(), await connection()];
    const spliced = await controller.splice(left.inner, right.inner, options);
    return { client: left.outer, server: right.outer, spliced };
  }

  test('there and back, and half-closes', async () => {
    const { client, server: far, spliced } = await joined();
    expect(spliced.by).toBe('kernel');
    client.write('ping');
    expect(String((await once(far, 'data'))[0])).toBe('ping');
    far.write('pong');
    expect(String((await once(client, 'data'))[0])).toBe('pong');
    const [there, back] = [drained(far), drained(client)];
    client.end('last words');
    expect((await there).bytes).toBe(10);
    far.end('and an answer behind the end');
    expect((await back).bytes).toBe(28);
    await spliced.closed;
    expect(spliced.stats).toEqual({ forth: { sent: 14n, passedOn: 0n }, back: { sent: 32n, passedOn: 0n } });
  });

  test('bytes that were there before', async () => {
    const [left, right] = [await connection(), await connection()];
    left.inner.resume();
    left.inner.pause();
    left.outer.write('early ');
    right.outer.write('banner');
    await sleep(30);
    left.outer.write('and queued');
    await sleep(30);
    const spliced = await controller.splice(left.inner, right.inner);
    const [there, back] = [drained(right.outer), drained(left.outer)];
    left.outer.end(', then more');
    right.outer.end();
    expect(await there).toMatchObject({ hash: sha1(Buffer.from('early and queued, then more')) });
    expect(await back).toMatchObject({ hash: sha1(Buffer.from('banner')) });
    await spliced.closed;
  });

  test('a segment that was read in part: each of its bytes comes once', async () => {
    const [left, right] = [await connection(), await connection()];
    const bytes = randomBytes(2_000_000);
    left.inner.pause();
    left.outer.end(bytes);
    await sleep(50);
    // Node reads as much as it keeps, which is no whole number of segments
    const first = left.inner.read(1) as Buffer | null;
    await sleep(30);
    const there = drained(right.outer);
    if (first) right.inner.write(first);
    const spliced = await controller.splice(left.inner, right.inner, { carry: 'kernel' });
    expect(await there).toMatchObject({ bytes: bytes.length, hash: sha1(bytes) });
    right.outer.end();
    left.outer.resume();
    await spliced.closed;
  });

  test('a slow reader: no more than the limit waits in the kernel, and nothing is lost', async () => {
    const { client, server: far, spliced } = await joined({ limitBytes: 65_536 });
    const bytes = randomBytes(8 << 20);
    far.pause();
    client.end(bytes);
    await sleep(300);
    expect(spliced.stats.forth.sent).toBeLessThan(4n << 20n);
    expect(await drained(far)).toEqual({ bytes: bytes.length, hash: sha1(bytes) });
    far.end();
    await spliced.closed;
    const { sent, passedOn } = spliced.stats.forth;
    expect(sent + passedOn).toBe(BigInt(bytes.length));
  });

  test.each(['::1', '127.0.0.1'])('sockets of both families, reached by %s', async (host) => {
    const both = createServer({ allowHalfOpen: true }).listen(0, '::');
    await once(both, 'listening');
    const { port } = both.address() as { port: number };
    const ends = [];
    for (let i = 0; i < 2; i++) {
      const accepted = once(both, 'connection');
      const outer = new Socket({ allowHalfOpen: true }).connect(port, host);
      const [inner] = (await accepted) as [Socket];
      for (const socket of [outer, inner]) open.add(socket);
      ends.push({ outer, inner });
    }
    both.close();
    const [left, right] = ends as [(typeof ends)[0], (typeof ends)[0]];
    const spliced = await controller.splice(left.inner, right.inner, { require: 'kernel' });
    const there = drained(right.outer);
    left.outer.end('across');
    right.outer.end();
    expect((await there).bytes).toBe(6);
    await spliced.closed;
    expect(spliced.stats.forth).toEqual({ sent: 6n, passedOn: 0n });
  });

  test('a reset of one is a reset of the other', async () => {
    const { client, server: far, spliced } = await joined();
    client.write('x');
    await once(far, 'data');
    const failed = once(far, 'error');
    client.resetAndDestroy();
    expect((await failed)[0]).toMatchObject({ code: 'ECONNRESET' });
    await spliced.closed;
  });

  test('a timeout of a socket is of one that is idle, whoever carries its bytes', async () => {
    const [left, right] = [await connection(), await connection()];
    let timeouts = 0;
    left.inner.setTimeout(200, () => timeouts++);
    await controller.splice(left.inner, right.inner);
    right.inner.setTimeout(200, () => timeouts++);
    const there = drained(right.outer);
    for (let i = 0; i < 12; i++) {
      left.outer.write('x');
      await sleep(50);
    }
    expect(timeouts).toBe(0);
    await expect.poll(() => timeouts).toBeGreaterThanOrEqual(2);
    left.outer.end();
    right.outer.end();
    left.outer.resume();
    expect((await there).bytes).toBe(12);
  });

  test('a reset behind an end that was handed on already', async () => {
    const { client, server: far, spliced } = await joined();
    const back = drained(client);
    far.end('bye');
    expect((await back).bytes).toBe(3);
    const failed = once(client, 'error');
    far.resetAndDestroy();
    // what is written from now on has nowhere to go
    const writing = setInterval(() => client.write('x'), 5);
    expect((await failed)[0]).toMatchObject({ code: expect.stringMatching(/ECONNRESET|EPIPE/) });
    clearInterval(writing);
    await spliced.closed;
  });

  test(`${SCHEDULES} random schedules of writing, pausing, half-closing, resetting, and moving from one carrier to the other`, async () => {
    let [bytes, byKernel, moves] = [0, 0n, 0];
    const random = seeded(Number(process.env.TAILRACE_SEED ?? 1));
    const upTo = (most: number): number => Math.floor(random() * most);
    const one = async (): Promise<void> => {
      const {
        client,
        server: far,
        spliced,
      } = await joined({
        limitBytes: [1, 4096, 65_536, 1 << 20][upTo(4)] as number,
        carry: upTo(2) === 0 ? 'kernel' : 'measured',
      });
      const resets = upTo(8) === 0;
      const moving = upTo(2) === 0 ? setInterval(() => spliced.move(upTo(2) === 0 ? 'kernel' : 'process'), 1 + upTo(4)) : undefined;
      const end = (socket: Socket) => ({ socket, sent: createHash('sha1'), got: createHash('sha1'), out: 0, in: 0 });
      const [left, right] = [end(client), end(far)];
      const ends = [left, right];
      const over = ends.map(({ socket }) => first(socket, 'end', 'close'));
      for (const end of ends)
        end.socket.on('data', (chunk: Buffer) => {
          end.got.update(chunk);
          end.in += chunk.length;
          if (upTo(40) > 0) return;
          end.socket.pause();
          setTimeout(() => end.socket.resume(), upTo(8));
        });
      await Promise.all(
        ends.map(async (end) => {
          for (let writes = upTo(30); writes > 0 && !end.socket.destroyed; writes--) {
            const chunk = randomBytes(1 + upTo(upTo(4) === 0 ? 300_000 : 2_000));
            end.sent.update(chunk);
            end.out += chunk.length;
            if (!end.socket.write(chunk)) await first(end.socket, 'drain', 'close');
            if (upTo(3) === 0) await sleep(upTo(3));
          }
          if (resets && upTo(2) === 0) end.socket.resetAndDestroy();
          else if (resets && upTo(4) === 0) end.socket.destroy();
          else end.socket.end();
        }),
      );
      await Promise.all(over);
      await spliced.closed;
      clearInterval(moving);
      moves += spliced.moves;
      expect(spliced.move('kernel')).toBe(false);
      bytes += left.in + right.in;
      byKernel += spliced.stats.forth.sent + spliced.stats.back.sent;
      for (const [from, to] of [
        [left, right],
        [right, left],
      ] as const) {
        expect(to.in).toBeLessThanOrEqual(from.out);
        if (!resets) expect([to.in, to.got.digest('hex')]).toEqual([from.out, from.sent.digest('hex')]);
      }
    };
    for (let left = SCHEDULES; left > 0; left -= 10) await Promise.all(Array.from({ length: Math.min(10, left) }, one));
    console.log(
      `${SCHEDULES} schedules, ${(bytes / 1e6).toFixed(0)} MB, of which the kernel carried ${((Number(byKernel) / bytes) * 100).toFixed(0)} %, ${moves} moves`,
    );
    expect(byKernel).toBeGreaterThan(0n);
    expect(moves).toBeGreaterThan(SCHEDULES / 4);
  }, 600_000);

  test('thousands of pairs at once', async () => {
    const pairs = [];
    for (let i = 0; i < 1000; i++) pairs.push(await joined());
    expect(controller.size).toBe(1000);
    const sums = await Promise.all(
      pairs.map(async ({ client, server: far }, i) => {
        const bytes = Buffer.alloc(1000 + i, i);
        const there = drained(far);
        client.end(bytes);
        far.end();
        return (await there).hash === sha1(bytes);
      }),
    );
    expect(sums.filter((same) => same)).toHaveLength(1000);
    await Promise.all(pairs.map(({ spliced }) => spliced.closed));
  }, 60_000);

  /** A client that is held until its server is found. */
  async function held() {
    const [left, right] = [await connection(), await connection()];
    expect(controller.hold(left.inner)).toBe('kernel');
    return { left, right };
  }

  test('a held connection keeps what comes until it is joined, and the kernel carries what comes after', async () => {
    const { left, right } = await held();
    left.outer.write('early ');
    await sleep(20);
    left.outer.write('and more, ');
    await sleep(20);
    const spliced = await controller.splice(left.inner, right.inner);
    expect(spliced.by).toBe('kernel');
    const [there, back] = [drained(right.outer), drained(left.outer)];
    await sleep(50);
    left.outer.end('then the rest');
    right.outer.end('answer');
    expect(await there).toMatchObject({ hash: sha1(Buffer.from('early and more, then the rest')) });
    expect(await back).toMatchObject({ hash: sha1(Buffer.from('answer')) });
    await spliced.closed;
    expect(spliced.stats).toEqual({ forth: { sent: 13n, passedOn: 16n }, back: { sent: 6n, passedOn: 0n } });
  });

  test('bytes that are in this process before a connection is held, and read while it is', async () => {
    const [left, right] = [await connection(), await connection()];
    left.outer.write('before ');
    left.inner.once('readable', () => undefined);
    await sleep(30);
    expect(left.inner.readableLength).toBe(7);
    controller.hold(left.inner);
    left.outer.write('while ');
    left.inner.read(0);
    await sleep(30);
    const spliced = await controller.splice(right.inner, left.inner);
    const there = drained(right.outer);
    await sleep(30);
    left.outer.end('after');
    right.outer.end();
    expect(await there).toMatchObject({ hash: sha1(Buffer.from('before while after')) });
    await spliced.closed;
    expect(spliced.stats.back).toEqual({ sent: 5n, passedOn: 13n });
  });

  test('held connections while bytes keep coming: none is lost, none overtakes another', async () => {
    const one = async (i: number): Promise<void> => {
      const { left, right } = await held();
      const bytes = randomBytes(200_000);
      const there = drained(right.outer);
      const writing = (async () => {
        for (let at = 0; at < bytes.length; at += 1_000) {
          left.outer.write(bytes.subarray(at, at + 1_000));
          if (at % 7_000 === 0) await sleep(0);
        }
        left.outer.end();
      })();
      await sleep(i % 8);
      const spliced = await controller.splice(left.inner, right.inner);
      expect(spliced.by).toBe('kernel');
      right.outer.end();
      expect(await there).toEqual({ bytes: bytes.length, hash: sha1(bytes) });
      await writing;
      await spliced.closed;
    };
    for (let i = 0; i < 5; i++) await Promise.all(Array.from({ length: 20 }, (_, j) => one(j)));
  });

  test('a held connection that its client ends before it is joined', async () => {
    const { left, right } = await held();
    left.outer.end('all there is');
    await sleep(20);
    const spliced = await controller.splice(left.inner, right.inner);
    const back = drained(left.outer);
    expect((await drained(right.outer)).hash).toBe(sha1(Buffer.from('all there is')));
    right.outer.end('answer');
    expect((await back).bytes).toBe(6);
    await spliced.closed;
  });

  test('held connections that nobody joins make room when they are closed', async () => {
    for (let i = 0; i < 5; i++) {
      const ends = await Promise.all(Array.from({ length: 2000 }, held));
      for (const { left, right } of ends) for (const socket of [left.inner, left.outer, right.inner, right.outer]) socket.destroy();
      await Promise.all(ends.map(({ left }) => left.inner.closed || once(left.inner, 'close')));
    }
    const [a, b] = [await held(), await held()];
    expect(() => controller.hold(a.left.inner)).toThrow('held already');
    await expect(controller.splice(a.left.inner, b.left.inner)).rejects.toThrow('both sockets are held, expected one at most');
  }, 60_000);

  test('one side that has ended already is piped', async () => {
    const [left, right] = [await connection(), await connection()];
    right.outer.end('bye');
    await sleep(30);
    const spliced = await controller.splice(left.inner, right.inner);
    expect(spliced.by).toEqual({ process: expect.stringMatching(/one side has ended already|the kernel does not take the sockets/) });
    const back = drained(left.outer);
    expect((await back).bytes).toBe(3);
    left.outer.end('still heard');
    expect((await drained(right.outer)).bytes).toBe(11);
    await spliced.closed;
    expect(spliced.stats.back.passedOn).toBe(3n);
  });

  test('mistakes', async () => {
    const [left, right] = [await connection(), await connection()];
    await expect(controller.splice(left.inner, left.inner)).rejects.toThrow('a socket cannot be joined with itself');
    await controller.splice(left.inner, right.inner);
    await expect(controller.splice(left.inner, right.inner)).rejects.toThrow('joined already');
    const other = await connection();
    other.inner.destroy();
    await expect(controller.splice(other.inner, right.inner)).rejects.toThrow('the socket is closed');
    await expect(controller.splice(new Socket(), right.inner)).rejects.toThrow('the socket is not connected yet');
    for (const [nothing, name] of [
      [undefined, 'undefined'],
      [createSocket('udp4').unref(), 'Socket'],
      [{}, 'Object'],
    ] as const)
      await expect(controller.splice(nothing as unknown as Socket, (await connection()).inner)).rejects.toThrow(
        `splice: expected a socket of node:net, got ${name}`,
      );
  });
}

/** All that comes until the end, as a hash and a number of bytes. */
async function drained(socket: Socket): Promise<{ bytes: number; hash: string }> {
  const [hash, bytes] = [createHash('sha1'), { count: 0 }];
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes.count += chunk.length;
  });
  socket.resume();
  await once(socket, 'end');
  return { bytes: bytes.count, hash: hash.digest('hex') };
}

const sha1 = (bytes: Buffer): string => createHash('sha1').update(bytes).digest('hex');
/** Whichever comes first; errors of a reset are told by the bytes. */
function first(socket: Socket, ...events: readonly string[]): Promise<unknown> {
  return Promise.race(events.map((event) => new Promise((resolve) => void socket.once(event, resolve))));
}

/** Numbers of 0 to 1 (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
