/** TCP proxies in front of one server, each a process of its own. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TailraceError } from '@tailrace/bpf';
import { Process } from './process.ts';

/** A proxy that takes connections. */
export interface TcpProxy {
  readonly process: Process;
  /** On 127.0.0.1. */
  readonly port: number;
}

/** `HAPROXY` in the environment names another. */
const program = process.env.HAPROXY ?? 'haproxy';

/** Why haproxy cannot be measured here, or null where it can. */
export function haproxyMissing(): string | null {
  return spawnSync(program, ['-v']).status === 0 ? null : `${program} is not installed: its rows are left out (apt-get install haproxy)`;
}

/** A proxy on Node, which joins sockets as proxy.ts says. Throws TailraceError where it does not start. */
export async function nodeProxy(join: 'measured' | 'kernel' | 'pipe', backend: number): Promise<TcpProxy> {
  const port = await freePort();
  return started(port, [process.execPath, fileURLToPath(new URL('./proxy.ts', import.meta.url)), join, String(port), String(backend)]);
}

/** A proxy whose bytes a program in C sends on, for round trips. Throws TailraceError where it does not start. */
export async function twinProxy(backend: number): Promise<TcpProxy> {
  const port = await freePort();
  return started(port, [process.execPath, fileURLToPath(new URL('./twin-proxy.ts', import.meta.url)), String(port), String(backend)]);
}

/** haproxy in TCP mode, one thread, its configuration in that folder. Throws TailraceError where it does not start. */
export async function haproxy(backend: number, folder: string): Promise<TcpProxy> {
  const port = await freePort();
  const file = join(folder, 'haproxy.cfg');
  writeFileSync(
    file,
    `global
  nbthread 1
  maxconn 4096
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen bench
  bind 127.0.0.1:${port}
  server backend 127.0.0.1:${backend}
`,
  );
  return started(port, [program, '-db', '-f', file]);
}

async function started(port: number, command: readonly string[]): Promise<TcpProxy> {
  await using stack = new AsyncDisposableStack();
  const child = stack.use(new Process(command));
  await child.during(listening(port, command));
  stack.move();
  return { process: child, port };
}

async function listening(port: number, command: readonly string[]): Promise<void> {
  for (let waited = 0; waited < PATIENCE_MS; waited += LOOK_MS) {
    const socket = connect(port, '127.0.0.1');
    const isThere = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (isThere) return;
    await sleep(LOOK_MS);
  }
  throw new TailraceError('conflict', `${command.join(' ')} takes no connections within ${PATIENCE_MS / 1000} s`);
}

const [PATIENCE_MS, LOOK_MS] = [20_000, 20];

/** A port that nobody listens at now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
