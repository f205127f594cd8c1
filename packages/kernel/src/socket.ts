/**
 * TCP and UDP sockets in another namespace. A socket belongs to the namespace it was made in for good, so it is made
 * there by hand and handed to Node: `server.listen({ fd })`, `socket.bind({ fd })`.
 */
import { Socket } from 'node:net';
import { ArgumentError } from '@tailrace/bpf';
import koffi from 'koffi';
import { Family, type Prefix, parseAddress } from './address.ts';
import { Errno, SyscallError } from './errno.ts';
import { allocate, type Memory } from './memory.ts';
import { inNamespace, type NetworkNamespace } from './netns.ts';
import { closeFd, syscall, trySyscall } from './syscall.ts';

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const ETIMEDOUT = 110;

/**
 * A listening TCP socket in `namespace`, for `server.listen({ fd })`, which then owns and closes it. Port 0 takes a
 * free one. Throws SyscallError (EADDRINUSE, EADDRNOTAVAIL), ArgumentError.
 */
export function listenTcp(namespace: NetworkNamespace, address: string, port: number, backlog = 511): number {
  return bound(namespace, SOCK_STREAM, address, port, (fd) => {
    syscall('listen', `${address} port ${port}`, fd, backlog);
  });
}

/** A bound UDP socket in `namespace`, for `dgram` `socket.bind({ fd })`, which then owns and closes it. As listenTcp. */
export function bindUdp(namespace: NetworkNamespace, address: string, port: number): number {
  return bound(namespace, SOCK_DGRAM, address, port, () => undefined);
}

/** What a connection can be told. */
export interface ConnectOptions {
  /** After which the attempt fails with ETIMEDOUT; default 10,000. */
  readonly timeoutMs?: number;
  /** The local address to connect from. */
  readonly localAddress?: string;
}

/**
 * A TCP connection from `namespace`, established. For an HTTP request: `createConnection: (_, done) => {
 * connectTcp(ns, host, port).then((socket) => done(null, socket), done); }`. Throws SyscallError (ECONNREFUSED,
 * EHOSTUNREACH, ETIMEDOUT), ArgumentError.
 */
export async function connectTcp(
  namespace: NetworkNamespace,
  address: string,
  port: number,
  options: ConnectOptions = {},
): Promise<Socket> {
  const { timeoutMs = 10_000, localAddress } = options;
  const target = parseAddress(address);
  const about = `${address} port ${port}`;
  const fd = openSocket(namespace, target, SOCK_STREAM, about);
  try {
    if (localAddress !== undefined) bind(fd, parseAddress(localAddress), 0, about);
    const to = socketAddress(target, port);
    const result = trySyscall('connect', fd, to.address, to.bytes.length);
    if (result < 0 && result !== -Errno.EINPROGRESS) throw new SyscallError('connect', -result, about);
    if (result < 0) {
      const errno = (await writable(fd, timeoutMs)) ? socketError(fd) : ETIMEDOUT;
      if (errno !== 0) throw new SyscallError('connect', errno, about);
    }
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return new Socket({ fd, readable: true, writable: true });
}

function bound(namespace: NetworkNamespace, kind: number, address: string, port: number, finish: (fd: number) => void): number {
  const target = parseAddress(address);
  const about = `${address} port ${port}`;
  const fd = openSocket(namespace, target, kind, about);
  try {
    if (kind === SOCK_STREAM) {
      const one = allocate(4);
      one.view.setInt32(0, 1, true);
      syscall('setsockopt', about, fd, SOL_SOCKET, SO_REUSEADDR, one.address, 4);
    }
    bind(fd, target, port, about);
    finish(fd);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

function openSocket(namespace: NetworkNamespace, { family }: Prefix, kind: number, about: string): number {
  return inNamespace(namespace, () => syscall('socket', about, Family[family], kind | SOCK_NONBLOCK_CLOEXEC, 0));
}

function bind(fd: number, address: Prefix, port: number, about: string): void {
  const local = socketAddress(address, port);
  syscall('bind', about, fd, local.address, local.bytes.length);
}

/** struct sockaddr_in or sockaddr_in6. Throws ArgumentError for what is no port. */
export function socketAddress({ family, bytes }: Prefix, port: number): Memory {
  if (!Number.isInteger(port) || port < 0 || port > 0xffff) throw new ArgumentError(`a port is 0 to 65535, got ${port}`);
  const memory = allocate(family === 'ipv4' ? 16 : 28);
  memory.view.setUint16(0, Family[family], true);
  memory.view.setUint16(2, port, false);
  memory.bytes.set(bytes, family === 'ipv4' ? 4 : 8);
  return memory;
}

/** Waits until a connection attempt has ended; false where that took too long. */
function writable(fd: number, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (inTime: boolean) => {
      clearTimeout(timer);
      poll.close();
      resolve(inTime);
    };
    const timer = setTimeout(() => end(false), timeoutMs);
    const poll = koffi.node.poll(fd, { writable: true }, () => end(true));
  });
}

function socketError(fd: number): number {
  const memory = allocate(8);
  memory.view.setUint32(4, 4, true);
  syscall('getsockopt', 'a connection', fd, SOL_SOCKET, SO_ERROR, memory.address, memory.address + 4);
  return memory.view.getInt32(0, true);
}
