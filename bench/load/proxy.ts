/**
 * A TCP proxy on Node, as a process of its own: `proxy.ts measured|kernel|pipe PORT BACKEND_PORT`. All accept and connect alike and
 * differ in how they join two sockets: by `splice`, which is left to measuring or to the kernel, or by `pipe`. Ends with SIGTERM; the
 * first two then say how many pieces of data the kernel's program has sent on.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { splicer, TcpSockets } from '@tailrace/functions/splice';
import { kernel, kernelSockets, override, pipeline } from 'tailrace';

const [join, port, backend] = process.argv.slice(2);

const joiner = splicer();
await using running =
  join === 'measured' || join === 'kernel'
    ? await pipeline('bench', { skSkb: [joiner] }).run(kernel(), { services: [override(TcpSockets, kernelSockets())] })
    : undefined;
const controller = running?.controller(joiner);

const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, async (client) => {
  client.on('error', () => undefined);
  const target = connect({ host: '127.0.0.1', port: Number(backend), allowHalfOpen: true, noDelay: true });
  target.on('error', () => client.destroy());
  await once(target, 'connect');
  if (controller) await controller.splice(client, target, { carry: join === 'kernel' ? 'kernel' : 'measured' });
  else pipe(client, target);
}).listen(Number(port), '127.0.0.1');
await once(process, 'SIGTERM');
server.close();
if (running) {
  const { verdicts } = running.stats().skSkb['splice.carry'];
  process.stdout.write(`${JSON.stringify({ sent: Number(verdicts.redirect) })}\n`);
}

function pipe(client: Socket, target: Socket): void {
  client.on('close', () => target.destroy());
  target.on('close', () => client.destroy());
  client.pipe(target).pipe(client);
}
