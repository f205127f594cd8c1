/** UDP sockets in a namespace: one that echoes and says who it is, and one to send and receive with. */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { bindUdp, type NetworkNamespace } from '@tailrace/kernel';
import { within } from './deadline.ts';

/** Where a socket is bound. */
export interface DatagramOptions {
  /** Default: a free one. */
  readonly port?: number;
  /** Default: all IPv4 addresses. */
  readonly address?: string;
}

/** A datagram that came. */
export interface Datagram {
  readonly payload: Uint8Array;
  /** The payload as UTF-8. */
  readonly text: string;
  readonly address: string;
  readonly port: number;
}

/** A UDP socket. Datagrams are kept in order until they are asked for. */
export class Datagrams implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #queue: Datagram[] = [];
  readonly #listeners = new Set<(datagram: Datagram) => void>();
  #received = 0;
  #wake: (() => void) | undefined;
  #open = true;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('message', (payload, from) => this.#arrive(payload, from));
  }

  /** Binds one. Throws SyscallError (EADDRINUSE, EADDRNOTAVAIL). */
  static async open(namespace: NetworkNamespace, { port = 0, address = '0.0.0.0' }: DatagramOptions = {}): Promise<Datagrams> {
    const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', recvBufferSize: 4 << 20 });
    // A socket that is bound by fd listens before bind returns.
    const listening = once(socket, 'listening');
    socket.bind({ fd: bindUdp(namespace, address, port) });
    await listening;
    return new Datagrams(socket);
  }

  get port(): number {
    return this.#socket.address().port;
  }

  /** Datagrams so far. */
  get received(): number {
    return this.#received;
  }

  /** Resolves when the kernel has taken it. Throws the socket's error. */
  send(payload: Uint8Array | string, address: string, port: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#socket.send(payload, port, address, (error) => (error ? reject(error) : resolve()));
    return promise;
  }

  /** The next datagram. Throws TimeoutError; default 1,000 ms. */
  async receive(timeoutMs = 1000): Promise<Datagram> {
    const what = `a datagram on port ${this.port}`;
    const arrival = async (): Promise<Datagram> => {
      for (;;) {
        const next = this.#queue.shift();
        if (next !== undefined) return next;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    };
    return await within(arrival(), timeoutMs, what);
  }

  /** Calls `listener` for every datagram from now on, instead of keeping it. */
  onDatagram(listener: (datagram: Datagram) => void): void {
    this.#listeners.add(listener);
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#socket.close();
    await once(this.#socket, 'close');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #arrive(payload: Buffer, { address, port }: RemoteInfo): void {
    this.#received += 1;
    const datagram = { payload, text: payload.toString(), address, port };
    for (const listener of this.#listeners) listener(datagram);
    if (this.#listeners.size > 0) return;
    this.#queue.push(datagram);
    this.#wake?.();
  }
}

/** Sends every datagram back, behind `name` and a space where a name is given. */
export async function startEcho(namespace: NetworkNamespace, options: DatagramOptions & { readonly name?: string }): Promise<Datagrams> {
  const socket = await Datagrams.open(namespace, options);
  const prefix = options.name === undefined ? '' : `${options.name} `;
  socket.onDatagram(({ payload, address, port }) => {
    // The other end may be gone; that is no failure of this one.
    socket.send(Buffer.concat([Buffer.from(prefix), payload]), address, port).catch(() => undefined);
  });
  return socket;
}
