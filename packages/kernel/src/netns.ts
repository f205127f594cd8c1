/**
 * Network namespaces. One that is made here is held by a file descriptor alone: it has no name, and it is gone when the
 * process is, however that ends. A namespace belongs to a thread, so entering one is synchronous: enter, act, leave.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { ArgumentError } from '@tailrace/bpf';
import { Descriptor } from './descriptor.ts';
import { SyscallError } from './errno.ts';
import { syscall, trySyscall, trySyscallAsync } from './syscall.ts';

/** CLONE_NEWNET (include/uapi/linux/sched.h). */
const CLONE_NEWNET = 0x4000_0000;
/** F_DUPFD_CLOEXEC (include/uapi/linux/fcntl.h). */
const F_DUPFD_CLOEXEC = 1030;

/** NS_GET_NSTYPE (include/uapi/linux/nsfs.h): the CLONE_NEW* flag of the namespace behind an fd. */
const NS_GET_NSTYPE = 0xb703;

/** The namespace of the calling thread; /proc/self would be the main thread's. */
const ownPath = '/proc/thread-self/ns/net';

/** A network namespace, held open. It lives as long as an fd, a thread or a socket in it does. */
export class NetworkNamespace implements Disposable {
  /** Its number in the kernel, e.g. 4026531840: equal for equal namespaces. */
  readonly inode: number;
  readonly #descriptor: Descriptor;

  /** Takes over `fd`. */
  constructor(fd: number) {
    this.#descriptor = new Descriptor(fd, 'network namespace');
    this.inode = fstatSync(fd).ino;
  }

  /** The fd to refer to it by (close-on-exec). Throws ArgumentError once closed. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** A path that other processes of this user can open while it is held, e.g. for `nsenter --net=PATH`. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.fd}`;
  }

  close(): void {
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Makes a new, empty namespace: only `lo`, which is down. Throws SyscallError (EPERM without CAP_SYS_ADMIN). */
export function createNamespace(): NetworkNamespace {
  startPool();
  const own = openSync(ownPath, 'r');
  try {
    syscall('unshare', 'a network namespace', CLONE_NEWNET);
    try {
      return new NetworkNamespace(openSync(ownPath, 'r'));
    } finally {
      leave(own);
    }
  } finally {
    closeSync(own);
  }
}

/** The namespace of the calling thread, held open. */
export function currentNamespace(): NetworkNamespace {
  return new NetworkNamespace(openSync(ownPath, 'r'));
}

/**
 * Opens a namespace: a path (`/proc/1/ns/net`), a name that `ip netns add` gave, or an fd, which is duplicated.
 * Throws ArgumentError where there is none.
 */
export function openNamespace(where: string | number): NetworkNamespace {
  if (typeof where === 'number') {
    checkIsNamespace(where, where);
    return new NetworkNamespace(syscall('fcntl', 'network namespace', where, F_DUPFD_CLOEXEC, 0));
  }
  const path = where.includes('/') ? where : `/run/netns/${where}`;
  const fd = openPath(path, where);
  try {
    checkIsNamespace(fd, where);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return new NetworkNamespace(fd);
}

/**
 * Runs `body` on this thread inside a namespace and returns its result. What it opens (sockets), starts (child
 * processes, Workers) or asks for by interface belongs to that namespace for good. Never hand it an async function:
 * the part after its first await would run outside, so a returned promise is refused with ArgumentError.
 */
export function inNamespace<T>(namespace: NetworkNamespace, body: () => T): T {
  startPool();
  const own = openSync(ownPath, 'r');
  try {
    syscall('setns', 'network namespace', namespace.fd, CLONE_NEWNET);
    let result: T;
    try {
      result = body();
    } finally {
      leave(own);
    }
    if (result instanceof Promise) {
      result.catch(() => undefined);
      throw new ArgumentError('inNamespace takes a function that ends before it returns, got a promise');
    }
    return result;
  } finally {
    closeSync(own);
  }
}

/** True where calls made on pool threads happen in this namespace too. */
export async function poolIsIn(namespace: NetworkNamespace): Promise<boolean> {
  startPool();
  // stat runs on a pool thread, so this is the namespace of that thread; all of them were started at once.
  return (await stat(ownPath)).ino === namespace.inode;
}

let poolStarted = false;

/**
 * libuv starts its threads at the first use, and a thread inherits the namespace of the one that starts it. So start
 * them before this thread ever enters another.
 */
function startPool(): void {
  if (poolStarted) return;
  poolStarted = true;
  // Any call will do; closing no fd fails at once, and the result does not matter.
  void trySyscallAsync('close', [0xffff_ffff]);
}

function leave(own: number): void {
  // The kernel allocates on this path too (create_new_namespaces), and staying here would be worse than trying again.
  let result = -1;
  for (let attempt = 0; result < 0 && attempt < 100; attempt += 1) result = trySyscall('setns', own, CLONE_NEWNET);
  if (result < 0) {
    throw new SyscallError('setns', -result, 'the way back to the own network namespace', {
      hint: 'this thread is in the wrong namespace from here on: end the process',
    });
  }
}

function openPath(path: string, where: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    throw new ArgumentError(`there is no network namespace ${where}`, {
      cause,
      hint: 'give the path of one (/proc/PID/ns/net), a name from `ip netns list`, or an fd',
    });
  }
}

function checkIsNamespace(fd: number, where: string | number): void {
  const type = trySyscall('ioctl', fd, NS_GET_NSTYPE);
  if (type === CLONE_NEWNET) return;
  throw new ArgumentError(`${typeof where === 'number' ? `fd ${where}` : where} is not a network namespace`);
}
