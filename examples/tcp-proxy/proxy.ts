/**
 * A TCP proxy whose bytes the kernel carries. Connections go to backends in turn; with a policy, to those that it has for the name
 * which their first bytes ask for, TLS or HTTP. As root:
 *
 *     npx pnpm@12 exec node examples/tcp-proxy/proxy.ts 8080 127.0.0.1:9001 127.0.0.1:9002 --policy policy.json
 *
 *     { "by": "name", "routes": { "api.test": ["127.0.0.1:9003"], "*.test": ["127.0.0.1:9004", "127.0.0.1:9005"] } }
 *
 * The policy is read again when the file changes, and on SIGHUP. Connections that are there stay where they are.
 */
import { once } from 'node:events';
import { readFileSync, watchFile } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { parseArgs } from 'node:util';
import { type By, findStage, router } from '@tailrace/functions/route';
import { splicer, TcpSockets } from '@tailrace/functions/splice';
import { kernel, kernelSockets, override, pipeline } from 'tailrace';

const { positionals, values } = parseArgs({ allowPositionals: true, options: { policy: { type: 'string' } } });
const [port, ...backends] = positionals;
if (port === undefined || backends.length === 0) {
  console.error('usage: proxy.ts PORT BACKEND:PORT … [--policy FILE]');
  process.exit(2);
}
const [joiner, byName] = [splicer(), router<readonly string[]>({ otherwise: backends })];
const proxied = pipeline('proxy', { skSkb: [joiner, byName] });
await using running = await proxied.run(kernel(), { services: [override(TcpSockets, kernelSockets())] });
const [splices, routes] = [running.controller(joiner), running.controller(byName)];

let followed = '';
if (values.policy) {
  await follow(values.policy);
  const again = (): Promise<void> => follow(values.policy ?? '').catch((error: Error) => console.error(`policy: ${error.message}`));
  process.on('SIGHUP', again);
  watchFile(values.policy, { interval: 500, persistent: false }, again);
}
let turn = 0;
const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
  client.on('error', () => undefined);
  proxy(client).catch((error: Error) => client.destroy(error));
}).listen(Number(port));
await once(server, 'listening');
console.log(`port ${(server.address() as AddressInfo).port} to ${backends.join(', ')}`);

await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
server.close();
const { packets, bytes } = running.stats().skSkb['splice.carry'];
console.log(`${packets} pieces of data, ${bytes} bytes, went through the kernel's program`);

/** Rules are exchanged first, and then where names are looked for. */
async function follow(file: string): Promise<void> {
  const text = readFileSync(file, 'utf8');
  if (text === followed) return;
  followed = text;
  const { by = 'name', routes: rules }: { by?: By; routes: Record<string, string[]> } = JSON.parse(text);
  routes.replace(rules);
  await running.replace(byName.stage(findStage), routes.policy(by));
  console.log(`policy: ${Object.keys(rules).length} names, by ${by}`);
}

/** To the first backend that takes the connection, from the next in turn on. */
async function proxy(client: Socket): Promise<void> {
  const targets = values.policy ? (await routes.routeOf(client, splices)).route : backends;
  const from = turn++;
  for (const [i] of targets.entries()) {
    const [host = '', at] = targets[(from + i) % targets.length]?.split(/:(?=\d+$)/) ?? [];
    const backend = connect({ host, port: Number(at), allowHalfOpen: true });
    const failed = await new Promise<Error | undefined>((resolve) => {
      backend.once('connect', () => resolve(undefined)).once('error', resolve);
    });
    if (failed) continue;
    backend.on('error', () => undefined);
    await (await splices.splice(client, backend)).closed;
    return;
  }
  console.error(`no backend of ${targets.join(', ')} takes connections`);
  client.resetAndDestroy();
}
