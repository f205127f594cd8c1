/** What the kernel carries wakes nobody: a proxy of its own process, seen by how often it was switched to. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { gone, heldBy } from './kernel-objects.ts';

const ROUNDS = 2_000;

/** How often a process's main thread has waited, and went on. */
function waits(pid: number): number {
  return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

test(`${ROUNDS} bytes there and back do not wake the proxy, and its connection's end does`, async () => {
  const backend = createServer((socket) => void socket.on('error', () => undefined).pipe(socket)).listen(0, '127.0.0.1');
  await once(backend, 'listening');
  const proxy = fileURLToPath(new URL('../examples/tcp-proxy/proxy.ts', import.meta.url));
  const child = spawn(process.execPath, [proxy, '0', `127.0.0.1:${(backend.address() as AddressInfo).port}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const { programs } = heldBy(child.pid as number);
  const client = connect(Number(/port (\d+) to/.exec(String(line))?.[1]), '127.0.0.1');
  const roundTrip = async (): Promise<void> => {
    client.write('x');
    await once(client, 'data');
  };
  // the first one waits for the backend's connection, and what comes next is what libuv learns from that nobody reads
  for (let i = 0; i < 20; i++) await roundTrip();
  const before = waits(child.pid as number);
  for (let i = 0; i < ROUNDS; i++) await roundTrip();
  // it has timers, and a collector
  expect(waits(child.pid as number) - before).toBeLessThan(ROUNDS / 10);
  client.end();
  await once(client, 'close');
  child.kill('SIGTERM');
  await once(child, 'exit');
  backend.close();
  await gone({ programs, namespaces: [] }, 5_000);
}, 60_000);
