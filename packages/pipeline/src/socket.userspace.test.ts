import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { arrayMap, sockmap, stage, u64 } from '@tailrace/stage';
import { nowhere, SocketGroup, socketNumber, type UserspaceEngine, userspace } from '@tailrace/userspace';
import { afterEach, describe, expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { arrives, bypassing, carriesBothWays, count, messageSuite, note, peers, seen, socketSuite, sort } from './socket.suite.ts';

/** Puts those that accept into a map. */
const meet = stage({
  name: 'meet',
  hook: 'sockOps',
  uses: { peers },
  program(ctx, { peers }) {
    if (ctx.passiveEstablished) peers.add(2);
    return ctx.next();
  },
});

const modes: readonly (readonly [name: string, engine: UserspaceEngine])[] = [
  ['wasm', userspace({ compile: 'quickly', sockets: new SocketGroup() })],
  ['the interpreter', userspace({ mode: 'interpreter', sockets: new SocketGroup() })],
];
describe.each(modes)('%s', { timeout: 30_000 }, (_, engine) => {
  describe('what comes in', () => socketSuite(engine, socketNumber));
  describe('what is written', () => messageSuite(engine, socketNumber));
});

const described = { localAddress: '10.0.0.1', localPort: 80, remoteAddress: '10.0.0.9', remotePort: 4711 };

test.each(modes)('data and events that are only described: %s', async (_, engine) => {
  await using running = await pipeline('described', { skSkb: [sort.on({ unwanted: 'drop' }), note], skMsg: [count], sockOps: [meet] }).run(
    engine,
  );
  running.map(peers).set(1, socketNumber(nowhere()));
  const run = (text: string) => running.run(Buffer.from(text), { hook: 'skSkb', socket: described });
  expect(await run('hello')).toMatchObject({ verdict: 'pass', path: [{ stage: 'sort' }, { stage: 'note' }] });
  expect(running.map(seen).get(0)).toEqual({ bytes: 5n, localPort: 80, remotePort: 4711, remoteAddr: 0x0a00_0009, family: 2 });
  expect(await run('splice')).toMatchObject({ verdict: 'redirect', redirect: { map: peers, key: 1, ingress: false } });
  expect(await run('inwards')).toMatchObject({ verdict: 'redirect', redirect: { map: peers, key: 1, ingress: true } });
  expect(await run('missing')).toMatchObject({ verdict: 'drop', path: [{ stage: 'sort' }] });
  expect((await run('missing')).redirect).toBeUndefined();
  expect(await run('x')).toMatchObject({ verdict: 'drop', path: [{ stage: 'sort', exit: 'unwanted' }] });
  expect(await running.run(Buffer.from('sent'), { hook: 'skMsg', socket: described })).toMatchObject({ verdict: 'pass' });
  expect(await running.run(new Uint8Array(), { hook: 'sockOps', socket: { ...described, operation: 5 } })).toMatchObject({
    verdict: 'pass',
  });
  expect(running.map(peers).cookie(2)).toBeTypeOf('bigint');
  const at = (socket: object) => running.run(Buffer.from('x'), { hook: 'skSkb', socket });
  await expect(at({ localAddress: 'nowhere' })).rejects.toThrow("socket.localAddress is 'nowhere', expected an IP address");
  await expect(at({ remotePort: 70_000 })).rejects.toThrow('socket.remotePort must be 0 to 65535, got 70000');
  await expect(running.run(Buffer.from('x'), { hook: 'sockOps' })).rejects.toThrow('events have no data, got 1 bytes');
});

describe('events', () => {
  const open = new Set<Socket>();
  afterEach(() => {
    for (const socket of open) socket.destroy();
    open.clear();
  });

  /** A connection whose both ends are in a group. */
  async function connected(group: SocketGroup, first = ''): Promise<{ near: Socket; far: Socket }> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const near = new Socket();
    group.add(server);
    group.add(near);
    near.connect((server.address() as { port: number }).port, '127.0.0.1');
    if (first !== '') near.write(first);
    const [far] = (await once(server, 'connection')) as [Socket];
    if (near.connecting) await once(near, 'connect');
    server.close();
    open.add(near).add(far);
    return { near, far };
  }

  test.each(modes)('find both ends of connections, and what they write goes from one to the other: %s', async (name) => {
    const sockets = new SocketGroup();
    await using running = await bypassing.run(
      userspace({ sockets, ...(name === 'wasm' ? { compile: 'quickly' } : { mode: 'interpreter' }) }),
    );
    const { near, far } = await connected(sockets);
    await carriesBothWays(running, near, far);
  });

  const all = sockmap({ name: 'all', maxEntries: 2 });
  const told = arrayMap({ name: 'told', value: u64, maxEntries: 1 });
  const collect = stage({
    name: 'collect',
    hook: 'sockOps',
    uses: { all, told },
    program(ctx, { all, told }) {
      const added = all.add(ctx.activeEstablished ? 0 : 1);
      // a second place would bring the chain at skMsg twice
      const again = all.add(1);
      const entry = told.lookup(0);
      if (entry && added && !again) entry.value += 1n;
      return ctx.next();
    },
  });
  const counted = stage({ name: 'counted', hook: 'skMsg', uses: { all }, program: (ctx) => ctx.next() });

  test('what a client writes before it is connected meets the chain too', async () => {
    const sockets = new SocketGroup();
    await using running = await pipeline('early', { sockOps: [collect], skMsg: [counted] }).run(userspace({ sockets, compile: 'quickly' }));
    const { near, far } = await connected(sockets, 'at once');
    expect(await arrives(far, 7)).toBe('at once');
    expect(running.stats().skMsg.counted).toMatchObject({ packets: 1n, bytes: 7n });
    expect(running.map(told).get(0)).toBe(2n);
    expect(running.map(all).keys()).toEqual([0, 1]);
    near.destroy();
    await once(near, 'close');
    expect(running.map(all).cookie(0)).toBeUndefined();
  });

  test('mistakes', async () => {
    await expect(pipeline('early', { sockOps: [collect], skMsg: [counted] }).run(userspace())).rejects.toThrow(
      'the engine has no group of them',
    );
    const { near } = await connected(new SocketGroup());
    expect(() => new SocketGroup(near)).toThrow('the socket is connected already');
  });
});
