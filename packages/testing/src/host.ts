/**
 * A host of a topology: a network namespace with what runs in it. Everything started through a host is stopped with it;
 * should this process die, the namespace goes with its last file descriptor, and with it every interface and socket.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { Worker, type WorkerOptions } from 'node:worker_threads';
import {
  type ConnectOptions,
  connectTcp,
  createNamespace,
  inNamespace,
  type NetworkNamespace,
  Rtnetlink,
  setSysctl,
} from '@tailrace/kernel';
import { type DatagramOptions, Datagrams, startEcho } from './datagrams.ts';
import { type EchoAnswer, type EchoOptions, echoFrom } from './echo.ts';
import { Frames } from './frames.ts';
import {
  type ConnectionOptions,
  type HttpAnswer,
  HttpConnection,
  type RequestOptions,
  requestFrom,
  uploadFrom,
} from './http-connection.ts';
import { type HttpOptions, HttpService } from './http-service.ts';

/** One host. Made by `topology`. */
export class Host implements AsyncDisposable {
  readonly name: string;
  /** For `kernel({ netns })` and the functions of @tailrace/kernel. */
  readonly namespace: NetworkNamespace;
  /** Its interfaces, addresses, routes and neighbours. */
  readonly route: Rtnetlink;
  readonly #stack = new AsyncDisposableStack();

  /** Makes the namespace, with `lo` up. Throws SyscallError (EPERM without CAP_SYS_ADMIN). */
  constructor(name: string) {
    this.name = name;
    const namespace = createNamespace();
    let route: Rtnetlink | undefined;
    try {
      // Otherwise an interface asks the link for duplicates of its link-local address, and is mute for two seconds.
      setSysctl(namespace, 'net/ipv6/conf/default/accept_dad', 0);
      // Nor does anybody here answer to routers being asked for.
      setSysctl(namespace, 'net/ipv6/conf/default/router_solicitations', 0);
      route = new Rtnetlink(namespace);
      route.change('lo', { up: true });
    } catch (error) {
      route?.close();
      namespace.close();
      throw error;
    }
    this.namespace = this.#stack.use(namespace);
    this.route = this.#stack.use(route);
  }

  /** Index of an interface, for redirects. Throws ArgumentError where there is none. */
  ifindex(interfaceName: string): number {
    return this.route.interface(interfaceName).index;
  }

  /** MAC address of an interface. Throws ArgumentError where there is none. */
  mac(interfaceName: string): string {
    return this.route.interface(interfaceName).mac ?? '00:00:00:00:00:00';
  }

  /** Has `resource` disposed with this host, before its namespace. */
  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    return this.#stack.use(resource);
  }

  /** Runs a synchronous function in the namespace; what it opens belongs there. */
  enter<T>(body: () => T): T {
    return inNamespace(this.namespace, body);
  }

  /** Starts a process in the namespace; it is killed with the host. */
  spawn(command: string, args: readonly string[] = [], options: SpawnOptions = {}): ChildProcess {
    const child = this.enter(() => spawn(command, args, options));
    // A command that is not there is told by an event.
    const exited = child.pid === undefined ? undefined : once(child, 'exit').catch(() => undefined);
    this.#stack.defer(async () => {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await exited;
    });
    return child;
  }

  /** Starts a Worker whose sockets are all in the namespace; it is terminated with the host. */
  worker(script: string | URL, options: WorkerOptions = {}): Worker {
    const worker = this.enter(() => new Worker(script, options));
    this.#stack.defer(async () => {
      await worker.terminate();
    });
    return worker;
  }

  /** Starts an HTTP server that answers this host's name. */
  async http(options: HttpOptions = {}): Promise<HttpService> {
    return this.use(await HttpService.start(this.namespace, { name: this.name, ...options }));
  }

  /** Makes one HTTP request over a connection of its own. */
  request(url: string, options?: ConnectionOptions & RequestOptions): Promise<HttpAnswer> {
    return requestFrom(this.namespace, url, options);
  }

  /** Sends `size` random bytes to an HttpService, and throws TransferError where they do not arrive as they were. */
  upload(url: string, size: number, options?: ConnectionOptions & { readonly timeoutMs?: number }): Promise<HttpAnswer> {
    return uploadFrom(this.namespace, url, size, options);
  }

  /** Sends an ICMP or ICMPv6 echo request; gives the reply, or the error that quotes it. Throws TimeoutError. */
  ping(address: string, options?: EchoOptions): Promise<EchoAnswer> {
    return echoFrom(this.namespace, address, options);
  }

  /** Opens an HTTP connection for several requests. */
  async connectHttp(url: string, options?: ConnectionOptions): Promise<HttpConnection> {
    return this.use(await HttpConnection.open(this.namespace, url, options));
  }

  /** Opens a TCP connection. */
  async connect(address: string, port: number, options?: ConnectOptions): Promise<Socket> {
    const socket = await connectTcp(this.namespace, address, port, options);
    this.#stack.defer(() => {
      socket.destroy();
    });
    return socket;
  }

  /** Opens a UDP socket. */
  async udp(options?: DatagramOptions): Promise<Datagrams> {
    return this.use(await Datagrams.open(this.namespace, options));
  }

  /** Starts a UDP server that sends back what it gets, behind `name` where it is given. */
  async udpEcho(options: DatagramOptions & { readonly name?: string } = {}): Promise<Datagrams> {
    return this.use(await startEcho(this.namespace, options));
  }

  /** Raw frames on an interface. */
  frames(interfaceName: string, options?: { readonly outgoing?: boolean }): Frames {
    return this.use(new Frames(this.namespace, interfaceName, options));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
