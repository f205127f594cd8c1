/** An HTTP server in a namespace that says who it is, and takes and sends bodies of any size. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { Readable } from 'node:stream';
import { listenTcp, type NetworkNamespace } from '@tailrace/kernel';

/** What a server says and where it listens. */
export interface HttpOptions {
  /** Default: a free one. */
  readonly port?: number;
  /** Default: all IPv4 addresses; `::` is all of both kinds. */
  readonly address?: string;
  /** What it answers; default the host's name. */
  readonly name?: string;
}

/** A running server. `GET /` answers its name, `GET /bytes/N` N bytes, `POST` and `PUT` the number of bytes it got, with their SHA-256 in `x-sha256`. Every answer names it in `x-name`. */
export class HttpService implements AsyncDisposable {
  readonly name: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #requests = 0;
  #connections = 0;

  private constructor(name: string) {
    this.name = name;
    this.#server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => this.#answer(request, response));
    this.#server.on('connection', (socket) => {
      this.#connections += 1;
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  /** Starts one. Throws SyscallError (EADDRINUSE). */
  static async start(namespace: NetworkNamespace, { port = 0, address = '0.0.0.0', name = '' }: HttpOptions): Promise<HttpService> {
    const service = new HttpService(name);
    service.#server.listen({ fd: listenTcp(namespace, address, port) });
    await once(service.#server, 'listening');
    return service;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Requests that were answered or are being. */
  get requests(): number {
    return this.#requests;
  }

  /** Connections so far. */
  get connections(): number {
    return this.#connections;
  }

  /** Stops listening and resets what is open, as a server that dies does. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.close();
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await once(this.#server, 'close');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    this.#requests += 1;
    response.setHeader('x-name', this.name);
    if (request.method === 'POST' || request.method === 'PUT') {
      let bytes = 0;
      const hash = createHash('sha256');
      request.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        hash.update(chunk);
      });
      request.on('end', () => response.setHeader('x-sha256', hash.digest('hex')).end(String(bytes)));
      return;
    }
    const size = /^\/bytes\/(\d+)$/.exec(request.url ?? '')?.[1];
    if (size === undefined) response.end(this.name);
    else Readable.from(counting(Number(size))).pipe(response);
  }
}

/** Bytes that count 0, 1 … 255, 0, in chunks. */
function* counting(size: number): Generator<Buffer, void> {
  const chunk = Buffer.from(Array.from({ length: 65_536 }, (_, index) => index & 255));
  for (let left = size; left > 0; left -= chunk.length) yield left >= chunk.length ? chunk : chunk.subarray(0, left);
}
