/** The load generator tells what went wrong instead of measuring it. Needs clang. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { clangMissing } from '../clang.ts';
import { cpuOfMachine, cpuOfProcess } from './cpu.ts';
import { Generator } from './generator.ts';
import { Process } from './process.ts';

describe.skipIf(clangMissing() !== null)('the load generator', () => {
  const generator = clangMissing() === null ? new Generator() : undefined;
  afterAll(() => generator?.[Symbol.dispose]());
  afterEach(() => void vi.unstubAllEnvs());
  const load = (): Generator => generator as Generator;

  it('measures a server of its own', async () => {
    const { process, port } = await load().serve();
    await using _ended = process;
    for (const connections of [1, 16]) {
      const { count, p50, p99 } = await load().ping({ port }, connections, 50);
      expect(count).toBeGreaterThan(connections);
      expect(p50).toBeGreaterThan(500);
      expect(p99).toBeGreaterThanOrEqual(p50);
      const { bytes, ns } = await load().bulk({ port }, connections, 50);
      expect(bytes % 65_536).toBe(0);
      expect(bytes).toBeGreaterThan(0);
      expect(ns).toBeGreaterThan(45e6);
      const answered = await load().answered({ port }, connections, 50);
      expect(answered.bytes % 2 ** 20).toBe(0);
      expect(answered.bytes).toBeGreaterThan(0);
      expect(answered.ns).toBeGreaterThan(45e6);
    }
    const { count, ns } = await load().connect({ port }, 50);
    expect(count).toBeGreaterThan(10);
    expect(ns).toBeGreaterThanOrEqual(50e6);
    expect(await process.stop()).toBe(`${port}\n`);
  });

  it.each([
    ['other bytes', (bytes: Buffer, isFirst: boolean) => (isFirst ? bytes : bytes.fill(1)), 'what came back is not what was sent'],
    ['nothing at first', () => null, 'did not give back its first byte'],
  ] as const)('refuses a server that gives back %s', async (_, answer, message) => {
    await using server = await listen((socket) => {
      let isFirst = true;
      socket.on('data', (bytes: Buffer) => {
        const back = answer(bytes, isFirst);
        isFirst = false;
        if (back === null) socket.end();
        else socket.write(back);
      });
    });
    await expect(load().ping(server, 1, 50)).rejects.toThrow(message);
  });

  it('gives up on a server that keeps quiet', async () => {
    vi.stubEnv('LOAD_PATIENCE_S', '1');
    await using server = await listen((socket) => socket.resume());
    await expect(load().ping(server, 1, 50)).rejects.toThrow(/bytes were lost, or are held back$/);
  });

  it('refuses a server that counts fewer bytes, and one that is not there', async () => {
    const server = await listen((socket) => {
      socket.resume();
      socket.once('end', () => socket.end(Buffer.alloc(8, 1)));
    });
    await expect(load().bulk(server, 1, 50)).rejects.toThrow(/72340172838076673 of \d+ bytes arrived/);
    await server[Symbol.asyncDispose]();
    await expect(load().connect(server, 50)).rejects.toThrow('Connection refused');
  });
});

describe('a process', () => {
  it('says why it failed', async () => {
    await using failing = new Process(['sh', '-c', 'echo broken >&2; exit 3']);
    await expect(failing.output()).rejects.toThrow('ended with 3: broken');
    await using missing = new Process(['/nowhere/program']);
    await expect(missing.output()).rejects.toThrow('/nowhere/program ended with 127');
    await using silent = new Process(['true']);
    await expect(silent.line()).rejects.toThrow('true ended before it was asked to');
    await using outside = new Process(['true'], { cgroup: '/nowhere' });
    await expect(outside.output()).rejects.toThrow('/nowhere/cgroup.procs');
  });

  it('is gone with its scope', async () => {
    const pid = await (async () => {
      await using waiting = new Process(['sleep', '100']);
      return waiting.pid;
    })();
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  });

  it('uses CPU time, which is told', async () => {
    await using busy = new Process(['sh', '-c', 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; exec sleep 100']);
    const before = cpuOfMachine();
    await busy.line();
    expect(cpuOfProcess(busy.pid)).toBeGreaterThan(50e6);
    expect(cpuOfMachine() - before).toBeGreaterThan(50e6);
  });
});

async function listen(serve: (socket: Socket) => void): Promise<{ readonly port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    serve(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
}
