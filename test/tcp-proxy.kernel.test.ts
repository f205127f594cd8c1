/** The proxy of examples/tcp-proxy as users run it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, get, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

async function backend(name: string): Promise<Server> {
  const server = createServer((_, response) => response.end(name)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
const script = fileURLToPath(new URL('../examples/tcp-proxy/proxy.ts', import.meta.url));
const portOf = (server: Server): number => (server.address() as AddressInfo).port;

test('connections go to backends in turn, past one that is gone, and the kernel carries them', async () => {
  const [one, two] = [await backend('one'), await backend('two')];
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

test('a policy leads connections by name, and another one takes its place while the proxy runs', async () => {
  const servers = await Promise.all(['one', 'two', 'else'].map(backend));
  const [one, two, other] = servers.map((server) => `127.0.0.1:${portOf(server)}`) as [string, string, string];
  const folder = mkdtempSync(join(tmpdir(), 'policy-'));
  const file = join(folder, 'policy.json');
  const write = (policy: object): void => writeFileSync(file, JSON.stringify(policy));
  write({ routes: { 'one.test': [one], '*.two.test': [two] } });
  const child = spawn(process.execPath, [script, '0', other, '--policy', file], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const line = async (): Promise<string> => String((await lines.next()).value);
  try {
    expect(await line()).toBe('policy: 2 names, by name');
    const port = Number(/port (\d+) to/.exec(await line())?.[1]);
    const ask = async (host: string): Promise<string> => {
      const [response] = await once(get({ port, headers: { host, connection: 'close' } }), 'response');
      return String(Buffer.concat(await response.toArray()));
    };
    expect(await Promise.all(['one.test', 'a.two.test', 'two.test', 'x.test'].map(ask))).toEqual(['one', 'two', 'else', 'else']);
    write({ by: 'host', routes: { 'one.test': [two] } });
    child.kill('SIGHUP');
    expect(await line()).toBe('policy: 1 names, by host');
    expect(await Promise.all(['one.test', 'a.two.test'].map(ask))).toEqual(['two', 'else']);
    write({ by: 'sni', routes: { 'one.test': [one] } });
    while ((await line()) !== 'policy: 1 names, by sni');
    expect(await ask('one.test')).toBe('else');
    child.kill('SIGINT');
    expect(await line()).toMatch(/^[1-9]\d* pieces of data/);
    expect((await once(child, 'exit'))[0]).toBe(0);
  } finally {
    child.kill('SIGKILL');
    for (const server of servers) server.close();
    rmSync(folder, { recursive: true });
  }
});
