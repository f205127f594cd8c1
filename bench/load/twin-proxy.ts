/**
 * A TCP proxy whose bytes a program in C sends on: `twin-proxy.ts PORT BACKEND_PORT`. It knows no limits, and an end is the end of all,
 * so it is good for one thing: to see what round trips through programs on sockets cost at least. Ends with SIGTERM.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { SyscallError } from '@tailrace/kernel';
import { kernel, kernelSockets } from 'tailrace';
import { compileTwin } from '../clang.ts';

const [port, backend] = process.argv.slice(2);
const SOCKETS = 1024;

await using instance = await kernel({}).open();
const peers = instance.createMap({ name: 'peers', type: 'sockmap', keySize: 4, valueSize: 8, maxEntries: SOCKETS, flags: 0 });
const flows = instance.createMap({ name: 'flows', type: 'hash', keySize: 8, valueSize: 4, maxEntries: SOCKETS, flags: 0 });
const twin = compileTwin('splice', 'tcIngress').get('carry');
if (!twin || !instance.attachToSockets) throw new TypeError('expected a program, and an engine that attaches it to sockets');
const maps = new Map([
  ['peers', peers],
  ['flows', flows],
]);
const program = await instance.loadProgram({ ...twin, type: 'skSkb' }, maps);
await instance.attachToSockets(program, { hook: 'skSkb', map: peers });

const sockets = kernelSockets();
let last = 0;
const open = new Set<Socket>();
const server = createServer({ pauseOnConnect: true, noDelay: true }, async (client) => {
  client.on('error', () => undefined);
  const target = connect({ host: '127.0.0.1', port: Number(backend), noDelay: true });
  target.on('error', () => client.destroy()).pause();
  await once(target, 'connect');
  for (const [socket, other] of [
    [client, target],
    [target, client],
  ] as const) {
    open.add(socket);
    socket
      .on('end', () => other.destroy())
      .on('close', () => {
        open.delete(socket);
        other.destroy();
      });
  }
  const [a, b] = [++last % SOCKETS, ++last % SOCKETS];
  try {
    // the server first: it speaks when it is spoken to, and what is sent on to a socket that is in no map is lost
    const descriptors = [join(target, { own: b, other: a }), join(client, { own: a, other: b })];
    // what came before they were there waits, until somebody asks for it
    for (const fd of descriptors) sockets.wake(fd);
  } catch (error) {
    // of a client that is gone again
    if (!(error instanceof SyscallError)) throw error;
    client.destroy();
    target.destroy();
  }
}).listen(Number(port), '127.0.0.1');
await once(process, 'SIGTERM');
server.close();
for (const socket of open) socket.destroy();

/** Returns the socket's descriptor. */
function join(socket: Socket, { own, other }: { readonly own: number; readonly other: number }): number {
  const ends = new DataView(new ArrayBuffer(8));
  ends.setUint32(0, socket.localPort ?? 0, true);
  ends.setUint32(4, socket.remotePort ?? 0);
  const key = new Uint8Array(ends.buffer);
  flows.update(key, word(other));
  socket.once('close', () => flows.delete(key));
  const fd = sockets.descriptorOf(socket) ?? -1;
  peers.update(word(own), new Uint8Array([...word(fd), 0, 0, 0, 0]));
  const reader = sockets.readerOf(socket, fd);
  reader.stop();
  socket.resume().once('close', () => reader[Symbol.dispose]());
  return fd;
}

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
