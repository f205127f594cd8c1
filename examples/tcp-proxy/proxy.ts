/**
 * A TCP proxy: connections go to backends in turn, and the kernel carries their bytes. As root:
 *
 *     npx pnpm@12 exec node examples/tcp-proxy/proxy.ts 8080 127.0.0.1:9001 127.0.0.1:9002
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { splicer, TcpSockets } from '@tailrace/functions/splice';
import { kernel, kernelSockets, override, pipeline } from 'tailrace';

const [port, ...backends] = process.argv.slice(2);
if (port === undefined || backends.length === 0) {
  console.error('usage: proxy.ts PORT BACKEND:PORT …');
  process.exit(2);
}
const joiner = splicer();
await using running = await pipeline('proxy', { skSkb: [joiner] }).run(kernel(), { services: [override(TcpSockets, kernelSockets())] });
const controller = running.controller(joiner);

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

/** To the first backend that takes the connection, from the next in turn on. */
async function proxy(client: Socket): Promise<void> {
  const from = turn++;
  for (const [i] of backends.entries()) {
    const [host = '', at] = backends[(from + i) % backends.length]?.split(/:(?=\d+$)/) ?? [];
    const backend = connect({ host, port: Number(at), allowHalfOpen: true });
    const failed = await new Promise<Error | undefined>((resolve) => {
      backend.once('connect', () => resolve(undefined)).once('error', resolve);
    });
    if (failed) continue;
    backend.on('error', () => undefined);
    await (await controller.splice(client, backend)).closed;
    return;
  }
  console.error(`no backend of ${backends.join(', ')} takes connections`);
  client.resetAndDestroy();
}
