import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { openFds, passProgram } from './fixture.ts';
import { createNamespace, currentNamespace, inNamespace, openNamespace, poolIsIn } from './netns.ts';
import { Rtnetlink } from './rtnetlink.ts';
import { bindUdp, connectTcp, listenTcp } from './socket.ts';

const own = () => readlinkSync('/proc/thread-self/ns/net');

test('a namespace is made, entered and left, and leaves no file open', () => {
  inNamespace(currentNamespaceOnce(), () => undefined);
  const before = openFds();
  const outside = own();
  {
    using namespace = createNamespace();
    expect(own()).toBe(outside);
    expect(inNamespace(namespace, own)).toBe(`net:[${namespace.inode}]`);
    expect(own()).toBe(outside);
    expect(() => inNamespace(namespace, () => JSON.parse('{'))).toThrow(SyntaxError);
    expect(own()).toBe(outside);
    using again = openNamespace(namespace.fd);
    expect(again.inode).toBe(namespace.inode);
    using byPath = openNamespace(namespace.path);
    expect(byPath.inode).toBe(namespace.inode);
  }
  expect(openFds()).toBe(before);
});

test('an async function is refused', () => {
  using namespace = createNamespace();
  expect(() => inNamespace(namespace, async () => 1)).toThrowErrorMatchingInlineSnapshot(
    `[ArgumentError: inNamespace takes a function that ends before it returns, got a promise]`,
  );
});

test('what is no namespace is refused, and nothing stays open', () => {
  const before = openFds();
  expect(() => openNamespace('no-such-name')).toThrow('there is no network namespace no-such-name');
  expect(() => openNamespace('/proc/self/status')).toThrow('/proc/self/status is not a network namespace');
  expect(() => openNamespace('/proc/self/ns/mnt')).toThrow('/proc/self/ns/mnt is not a network namespace');
  expect(() => openNamespace(9999)).toThrow('fd 9999 is not a network namespace');
  expect(openFds()).toBe(before);
  const namespace = createNamespace();
  namespace.close();
  expect(() => inNamespace(namespace, () => 1)).toThrow('network namespace is closed');
  expect(openFds()).toBe(before);
});

test('child processes and workers started inside live inside; the pool stays outside', async () => {
  using namespace = createNamespace();
  const expected = `net:[${namespace.inode}]`;
  const script = "require('node:fs').readlinkSync('/proc/thread-self/ns/net')";
  const child = inNamespace(namespace, () => spawnSync(process.execPath, ['-p', script], { encoding: 'utf8' }));
  expect(child.stdout.trim()).toBe(expected);
  const worker = inNamespace(
    namespace,
    () => new Worker(`require('node:worker_threads').parentPort.postMessage(${script})`, { eval: true }),
  );
  expect(await once(worker, 'message')).toEqual([expected]);
  await worker.terminate();
  expect(await poolIsIn(namespace)).toBe(false);
  using outside = currentNamespace();
  expect(await poolIsIn(outside)).toBe(true);
});

test('a worker inside a namespace runs an engine there', async () => {
  using namespace = createNamespace();
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'one' }, { name: 'two' });
  const source = `
    const { parentPort } = require('node:worker_threads');
    import(${JSON.stringify(new URL('./engine.ts', import.meta.url).href)}).then(async ({ kernel }) => {
      await using engine = await kernel({ interfaces: ['one', 'two'] }).open();
      const program = await engine.loadProgram(${JSON.stringify(passProgram)}, new Map());
      const attachment = await engine.attach(program, 'xdp');
      const { returnValue } = await program.testRun({ packet: new Uint8Array(64) });
      parentPort.postMessage([[...attachment.modes], returnValue]);
    });
  `;
  const worker = inNamespace(namespace, () => new Worker(source, { eval: true }));
  const modes = [
    ['one', 'native'],
    ['two', 'native'],
  ];
  expect(await once(worker, 'message')).toEqual([[modes, 2]]);
  await once(worker, 'exit');
  expect(route.interface('one').xdp).toEqual([]);
});

test('TCP and UDP between two namespaces, from one process', async () => {
  using left = createNamespace();
  using right = createNamespace();
  using route = new Rtnetlink(left);
  using routeRight = new Rtnetlink(right);
  route.createVeth({ name: 'left' }, { name: 'right', namespace: right });
  route.addAddress('left', '10.9.0.1/24');
  routeRight.addAddress('right', '10.9.0.2/24');
  routeRight.addAddress('right', 'fd09::2/64');
  route.addAddress('left', 'fd09::1/64');
  route.change('left', { up: true });
  routeRight.change('right', { up: true });

  for (const address of ['10.9.0.2', 'fd09::2']) {
    const server = createServer((socket) => socket.end(`hello ${socket.remoteAddress}`));
    server.listen({ fd: listenTcp(right, address, 7000) });
    const socket = await connectTcp(left, address, 7000);
    expect(await text(socket)).toBe(`hello ${address.replace('2', address.includes(':') ? '1' : '2').replace(/\.2$/, '.1')}`);
    server.close();
  }

  await expect(connectTcp(left, '10.9.0.2', 7001)).rejects.toThrow(
    'connect for 10.9.0.2 port 7001 failed: ECONNREFUSED, connection refused',
  );
  await expect(connectTcp(left, '10.9.0.77', 7001, { timeoutMs: 50 })).rejects.toMatchObject({ errnoName: 'ETIMEDOUT' });
  await expect(connectTcp(left, '10.9.0.2', 70_000)).rejects.toThrow('a port is 0 to 65535, got 70000');
  expect(() => listenTcp(right, '10.9.0.99', 7000)).toThrow('EADDRNOTAVAIL');

  const receiver = createSocket('udp4');
  receiver.bind({ fd: bindUdp(right, '10.9.0.2', 7002) });
  const sender = createSocket('udp4');
  sender.bind({ fd: bindUdp(left, '10.9.0.1', 0) });
  const arrived = once(receiver, 'message');
  sender.send('ping', 7002, '10.9.0.2');
  expect(String((await arrived)[0])).toBe('ping');
  receiver.close();
  sender.close();
});

/** Enters once before files are counted: the first call starts the pool. */
function currentNamespaceOnce() {
  const namespace = currentNamespace();
  setImmediate(() => namespace.close());
  return namespace;
}
