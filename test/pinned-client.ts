/**
 * A client process that keeps to one CPU, runs in a network namespace and does as it is told over IPC. It opens UDP
 * sockets and keep-alive HTTP connections once, and uses them again and again: the parent moves it to another CPU in
 * between. Started by `pinnedClient`; run as a program it is that client.
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { fileURLToPath } from 'node:url';
import { type Host, within } from '@tailrace/testing';

/** What the client is told: each flow, numbered from 0, asks who it is answered by. */
export interface Ask {
  readonly protocol: 'udp' | 'tcp';
  readonly flows: number;
  readonly address: string;
  readonly port: number;
}

/** A client that can be moved. */
export interface PinnedClient {
  /** Who answered each flow. Throws TimeoutError. */
  ask(ask: Ask): Promise<readonly string[]>;
  /** Moves all its threads to a CPU; it runs nowhere else from then on. */
  moveTo(cpu: number): void;
}

/** The CPUs that this process may run on. */
export function allowedCpus(): readonly number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  return list.split(',').flatMap((range) => {
    const [first = Number.NaN, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** Starts a client on a host, on one CPU. It is killed with the host. */
export async function pinnedClient(host: Host, cpu: number): Promise<PinnedClient> {
  const script = fileURLToPath(import.meta.url);
  const child = host.spawn('taskset', ['-c', String(cpu), process.execPath, script], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  await within(once(child, 'message'), 10_000, 'the pinned client');
  return {
    async ask(ask) {
      child.send(ask);
      const [names] = (await within(once(child, 'message'), 5_000, 'answers to the pinned client')) as [string[]];
      return names;
    },
    moveTo: (next) => pin(child, next),
  };
}

function pin({ pid }: ChildProcess, cpu: number): void {
  execFileSync('taskset', ['-a', '-p', '-c', String(cpu), String(pid)]);
}

/** One flow: asks and is answered with the name of a real. */
type Flow = () => Promise<string>;

function serve(): void {
  const flows = { udp: [] as Flow[], tcp: [] as Flow[] };
  process.on('message', async ({ protocol, flows: count, address, port }: Ask) => {
    const own = flows[protocol];
    while (own.length < count) own.push(protocol === 'udp' ? await datagrams(address, port, own.length) : connection(address, port));
    const names: string[] = [];
    // One after the other: packets of two flows never wait in one queue, so each is handled where it was sent.
    for (const ask of own) names.push(await ask());
    process.send?.(names);
  });
  process.send?.('ready');
}

async function datagrams(address: string, port: number, number: number): Promise<Flow> {
  const socket = createSocket('udp4');
  socket.bind(30_000 + number);
  await once(socket, 'listening');
  return async () => {
    socket.send('who?', port, address);
    const [payload] = (await once(socket, 'message')) as [Buffer];
    return payload.toString().split(' ')[0] ?? '';
  };
}

function connection(address: string, port: number): Flow {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  let opened = 0;
  return async () => {
    const request = get({ host: address, port, agent });
    request.on('socket', (socket) => {
      if (socket.connecting) opened++;
    });
    const [response] = await once(request, 'response');
    response.resume();
    await once(response, 'end');
    return opened === 1 ? response.headers['x-name'] : 'another connection';
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) serve();
