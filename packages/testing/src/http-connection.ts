/** An HTTP client in a namespace: one TCP connection, and requests over it one after the other. */
import { createHash, randomBytes } from 'node:crypto';
import { Agent, request as httpRequest } from 'node:http';
import type { Socket } from 'node:net';
import { ArgumentError, TailraceError } from '@tailrace/bpf';
import { connectTcp, type NetworkNamespace } from '@tailrace/kernel';
import { within } from './deadline.ts';

/** How a connection is made. */
export interface ConnectionOptions {
  /** For the attempt; default 5,000. */
  readonly timeoutMs?: number;
  /** The local address to connect from. */
  readonly localAddress?: string;
}

/** A request to make. */
export interface RequestOptions {
  /** Default GET, and POST with a body. */
  readonly method?: string;
  readonly body?: Uint8Array | string;
  /** For the whole request; default 5,000. */
  readonly timeoutMs?: number;
}

/** An answer. */
export interface HttpAnswer {
  readonly status: number;
  /** Who answered, where an HttpService did. */
  readonly name: string | undefined;
  /** Of the request's body as it arrived, in hexadecimal, where an HttpService got one. */
  readonly sha256: string | undefined;
  readonly body: Uint8Array;
  /** The body as UTF-8. */
  readonly text: string;
}

/** A connection to an HTTP server. It stays open between requests. */
export class HttpConnection implements Disposable {
  /** The client's port. */
  readonly localPort: number;
  readonly #socket: Socket;
  readonly #agent: Agent;
  readonly #host: string;

  private constructor(socket: Socket, host: string) {
    this.localPort = socket.localPort ?? 0;
    this.#socket = socket;
    this.#agent = new OneConnection(socket);
    this.#host = host;
  }

  /** Connects. Throws SyscallError (ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT), ArgumentError where the URL is no http one. */
  static async open(namespace: NetworkNamespace, url: string, options: ConnectionOptions = {}): Promise<HttpConnection> {
    const { hostname, host, port, protocol } = new URL(url);
    if (protocol !== 'http:') throw new ArgumentError(`${url} is no http URL`);
    const address = hostname.replace(/^\[|\]$/g, '');
    const socket = await connectTcp(namespace, address, Number(port || 80), { timeoutMs: 5000, ...options });
    // A reset between requests is told by the next request.
    socket.on('error', () => undefined);
    return new HttpConnection(socket, host);
  }

  /** Whether the other end is still there, as far as is known. */
  get open(): boolean {
    return !this.#socket.destroyed;
  }

  /** Makes a request for `path`. Throws what the connection dies of (ECONNRESET), TimeoutError, ArgumentError where it is closed. */
  async request(path: string, options: RequestOptions = {}): Promise<HttpAnswer> {
    if (!this.open) throw new ArgumentError(`the connection to ${this.#host} is closed`);
    const { body, timeoutMs = 5000, method = body === undefined ? 'GET' : 'POST' } = options;
    const outgoing = httpRequest({ method, path, headers: { host: this.#host }, agent: this.#agent });
    const answer = answerTo(outgoing);
    outgoing.end(body);
    try {
      return await within(answer, timeoutMs, `an answer from ${this.#host}${path}`);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    this.#agent.destroy();
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Makes one request over a connection of its own. Throws as `HttpConnection.open` and `request` do. */
export async function requestFrom(
  namespace: NetworkNamespace,
  url: string,
  options: ConnectionOptions & RequestOptions = {},
): Promise<HttpAnswer> {
  const { timeoutMs = 5000 } = options;
  const started = performance.now();
  using connection = await HttpConnection.open(namespace, url, options);
  const { pathname, search } = new URL(url);
  return await connection.request(`${pathname}${search}`, {
    ...options,
    timeoutMs: Math.max(1, timeoutMs - (performance.now() - started)),
  });
}

/** What arrived is not what was sent. */
export class TransferError extends TailraceError {
  constructor(what: string, sent: string, arrived: string) {
    super('syscall', `${what}: ${arrived} arrived, ${sent} were sent`);
  }
}

/**
 * Sends `size` random bytes and has the HttpService at `url` say what arrived. Throws TransferError where it is something
 * else, and as `requestFrom` does; by default it waits for 20 s.
 */
export async function uploadFrom(
  namespace: NetworkNamespace,
  url: string,
  size: number,
  options: ConnectionOptions & Omit<RequestOptions, 'body' | 'method'> = {},
): Promise<HttpAnswer> {
  const body = randomBytes(size);
  const answer = await requestFrom(namespace, url, { timeoutMs: 20_000, ...options, body });
  const sent = createHash('sha256').update(body).digest('hex');
  if (answer.sha256 !== sent)
    throw new TransferError(
      `upload to ${url}`,
      `${size} bytes with SHA-256 ${sent}`,
      `${answer.text} bytes with ${answer.sha256 ?? 'none'}`,
    );
  return answer;
}

/** Hands out the one connection that it was made with. */
class OneConnection extends Agent {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    super({ keepAlive: true, maxSockets: 1 });
    this.#socket = socket;
  }

  override createConnection(): Socket {
    return this.#socket;
  }
}

function answerTo(outgoing: ReturnType<typeof httpRequest>): Promise<HttpAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  outgoing.on('error', reject);
  outgoing.on('response', (incoming) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('error', reject);
    incoming.on('end', () => {
      const body = Buffer.concat(chunks);
      const header = (name: string): string | undefined => {
        const value = incoming.headers[name];
        return typeof value === 'string' ? value : undefined;
      };
      resolve({
        status: incoming.statusCode ?? 0,
        name: header('x-name'),
        sha256: header('x-sha256'),
        body,
        text: body.toString(),
      });
    });
  });
  // Whoever waits may have given up; a late failure is nobody's then.
  promise.catch(() => undefined);
  return promise;
}
