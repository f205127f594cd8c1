/** A server for load: HTTP, and HTTP in TLS on the same port. It answers with sums of what it got and of what it gives. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttp, type RequestListener } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** What an answer says in its headers. */
export const SUM = { got: 'x-got', gives: 'x-gives', group: 'x-group' } as const;

/** The sum that both sides compare. */
export const sumOf = (bytes: Uint8Array): string => createHash('sha1').update(bytes).digest('hex');

/** What random answers are cut from. */
const POOL = randomBytes(2 << 20);

export class Backend {
  readonly #group: string;
  readonly #http: ReturnType<typeof createHttp>;
  readonly #https: ReturnType<typeof createHttps>;
  readonly #open = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;

  constructor(group: string, identity: { readonly key: string; readonly cert: string }) {
    this.#group = group;
    const answer: RequestListener = async (request, response) => {
      try {
        const body = await buffer(request);
        const size = Number(new URL(request.url ?? '/', 'http://x').searchParams.get('size'));
        const from = Math.floor(Math.random() * (POOL.length - size));
        const bytes = POOL.subarray(from, from + size);
        response.writeHead(200, { [SUM.got]: sumOf(body), [SUM.gives]: sumOf(bytes), [SUM.group]: this.#group }).end(bytes);
      } catch {
        // the client tells what went wrong
        response.destroy();
      }
    };
    this.#http = createHttp({ keepAliveTimeout: 60_000 }, answer);
    this.#https = createHttps({ ...identity, keepAliveTimeout: 60_000 }, answer);
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** Takes connections, at the port that it had before. */
  async join(): Promise<void> {
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket)).on('error', () => undefined);
      socket.once('readable', () => {
        const first: Buffer | null = socket.read(1);
        if (first === null) {
          socket.destroy();
          return;
        }
        socket.unshift(first);
        (first[0] === 22 ? this.#https : this.#http).emit('connection', socket);
      });
    }).listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Takes no further ones, once those have been taken that came before. Those that there are go on. */
  async leave(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    // the kernel resets connections that wait at a server which closes; they are taken in the order in which they came
    const last = connect(this.#port, '127.0.0.1');
    await new Promise<void>((resolve) => {
      const taken = new Set<number | undefined>();
      const look = (socket?: Socket): void => {
        if (socket) taken.add(socket.remotePort);
        if (last.localPort !== undefined && taken.has(last.localPort)) resolve();
      };
      server.on('connection', look);
      last.once('connect', () => look());
    });
    last.destroy();
    server.close();
    this.#server = undefined;
  }

  [Symbol.dispose](): void {
    this.#server?.close();
    for (const socket of this.#open) socket.destroy();
  }
}
