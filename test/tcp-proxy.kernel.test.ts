/** The proxy of examples/tcp-proxy as users run it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

async function backend(name: string): Promise<Server> {
  const server = createServer((_, response) => response.end(name)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
const portOf = (server: Server): number => (server.address() as AddressInfo).port;

test('connections go to backends in turn, past one that is gone, and the kernel carries them', async () => {
  const [one, two] = [await backend('one'), await backend('two')];
  const script = fileURLToPath(new URL('../examples/tcp-proxy/proxy.ts', import.meta.url));
  const targets = [one, two].map((server) => `127.0.0.1:${portOf(server)}`);
  const child = spawn(process.execPath, [script, '0', ...targets], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const line = async (): Promise<string> => String((await lines.next()).value);
  try {
    const port = Number(/port (\d+) to/.exec(await line())?.[1]);
    const ask = async (): Promise<string> => (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } })).text();
    const answers = [];
    for (let i = 0; i < 20; i++) answers.push(await ask());
    expect(answers.filter((answer) => answer === 'one')).toHaveLength(10);
    expect(answers.filter((answer) => answer === 'two')).toHaveLength(10);
    one.close();
    one.closeAllConnections();
    for (let i = 0; i < 10; i++) expect(await ask()).toBe('two');
    child.kill('SIGINT');
    expect(await line()).toMatch(/^[1-9]\d* pieces of data, [1-9]\d* bytes, went through the kernel's program$/);
    expect((await once(child, 'exit'))[0]).toBe(0);
  } finally {
    child.kill('SIGKILL');
    one.close();
    two.close();
  }
});
