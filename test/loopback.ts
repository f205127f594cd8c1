/** TCP connections over loopback of which a test has both ends, and what comes out of one. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { connectTcp, listenTcp, type NetworkNamespace } from 'tailrace';

/** A connection: the end outside of what is tested, and the one inside. */
export interface Connection {
  readonly outer: Socket;
  readonly inner: Socket;
}

/** Makes connections and closes them. */
export interface Loopback extends AsyncDisposable {
  connection(): Promise<Connection>;
  /** Destroys what is open. */
  clear(): void;
}

/** At an address of this namespace, or of another's. */
export async function loopback(address = '127.0.0.1', namespace?: NetworkNamespace): Promise<Loopback> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  if (namespace) server.listen({ fd: listenTcp(namespace, address, 8080) });
  else server.listen(0, address);
  await once(server, 'listening');
  const port = namespace ? 8080 : (server.address() as { port: number }).port;
  const open = new Set<Socket>();
  let last: Promise<unknown> = Promise.resolve();
  const connect = async (): Promise<Connection> => {
    const accepted = once(server, 'connection');
    const outer = namespace ? await connectTcp(namespace, address, port) : new Socket({ allowHalfOpen: true }).connect(port, address);
    outer.allowHalfOpen = true;
    const [inner] = (await accepted) as [Socket];
    if (outer.connecting) await once(outer, 'connect');
    for (const socket of [outer, inner]) {
      open.add(socket);
      socket.on('error', () => undefined).once('close', () => open.delete(socket));
    }
    return { outer, inner };
  };
  const clear = (): void => {
    for (const socket of open) socket.destroy();
  };
  return {
    connection() {
      // one after the other: the server tells them apart by their order alone
      const made = last.then(connect);
      last = made.catch(() => undefined);
      return made;
    },
    clear,
    async [Symbol.asyncDispose]() {
      clear();
      server.close();
      await once(server, 'close');
    },
  };
}

/** All that comes until the end, as a hash and a number of bytes. */
export async function drained(socket: Socket): Promise<{ readonly bytes: number; readonly hash: string }> {
  const hash = createHash('sha1');
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  socket.resume();
  await once(socket, 'end');
  return { bytes, hash: hash.digest('hex') };
}

export const sha1 = (bytes: Uint8Array): string => createHash('sha1').update(bytes).digest('hex');
