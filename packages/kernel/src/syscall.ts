/**
 * System calls through libc's `syscall(2)`: at once on this thread, or on a thread of libuv's pool. Arguments are plain
 * numbers (addresses come from memory.ts); results are checked here, so that no caller can forget to.
 */
import { UnsupportedError } from '@tailrace/bpf';
import koffi from 'koffi';
import { Errno, SyscallError } from './errno.ts';
import type { Memory } from './memory.ts';

/** Call numbers by architecture (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h). */
const numbersByArch = {
  read: { x64: 0, arm64: 63 },
  close: { x64: 3, arm64: 57 },
  mmap: { x64: 9, arm64: 222 },
  munmap: { x64: 11, arm64: 215 },
  ioctl: { x64: 16, arm64: 29 },
  socket: { x64: 41, arm64: 198 },
  connect: { x64: 42, arm64: 203 },
  sendto: { x64: 44, arm64: 206 },
  recvfrom: { x64: 45, arm64: 207 },
  recvmsg: { x64: 47, arm64: 212 },
  bind: { x64: 49, arm64: 200 },
  listen: { x64: 50, arm64: 201 },
  getsockname: { x64: 51, arm64: 204 },
  setsockopt: { x64: 54, arm64: 208 },
  getsockopt: { x64: 55, arm64: 209 },
  fcntl: { x64: 72, arm64: 25 },
  epoll_ctl: { x64: 233, arm64: 21 },
  flock: { x64: 73, arm64: 32 },
  openat: { x64: 257, arm64: 56 },
  mkdirat: { x64: 258, arm64: 34 },
  unlinkat: { x64: 263, arm64: 35 },
  renameat: { x64: 264, arm64: 38 },
  unshare: { x64: 272, arm64: 97 },
  epoll_pwait: { x64: 281, arm64: 22 },
  epoll_create1: { x64: 291, arm64: 20 },
  perf_event_open: { x64: 298, arm64: 241 },
  setns: { x64: 308, arm64: 268 },
  bpf: { x64: 321, arm64: 280 },
  membarrier: { x64: 324, arm64: 283 },
} as const;

/** The system calls that this package makes. */
export type SyscallName = keyof typeof numbersByArch;

type Arguments = [number: number, a: number, b: number, c: number, d: number, e: number, f: number];

interface RawSyscall {
  (...args: Arguments): number;
  async(...args: [...Arguments, (error: unknown, result: number) => void]): void;
}

interface Libc {
  readonly call: RawSyscall;
  readonly numbers: Readonly<Record<SyscallName, number>>;
}

let loaded: Libc | undefined;

/** Loaded at the first call, so that this package can be imported anywhere. */
function libc(): Libc {
  loaded ??= load();
  return loaded;
}

function load(): Libc {
  const { platform, arch } = process;
  if (platform !== 'linux' || (arch !== 'x64' && arch !== 'arm64')) {
    throw new UnsupportedError(`the kernel engine needs Linux on x64 or arm64, this is ${platform} on ${arch}`, {
      hint: 'use the userspace engine here',
    });
  }
  const entries = Object.entries(numbersByArch).map(([name, byArch]) => [name, byArch[arch]] as const);
  return {
    call: koffi.load(null).func('long syscall(long, uint64, uint64, uint64, uint64, uint64, uint64)'),
    numbers: Object.fromEntries(entries) as Record<SyscallName, number>,
  };
}

/**
 * Makes a call on this thread and returns its result, or the errno negated. For callers that decide by errno on a
 * fast path; others use `syscall`.
 */
export function trySyscall(name: SyscallName, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0): number {
  const injected = takeFailure(name);
  if (injected !== 0) return -injected;
  const { call, numbers } = libc();
  const result = call(numbers[name], a, b, c, d, e, f);
  return result === -1 ? -koffi.errno() : result;
}

/** Makes a call on this thread. Throws SyscallError; `about` names the object in its message. */
export function syscall(name: SyscallName, about: string | undefined, ...args: readonly number[]): number {
  const result = trySyscall(name, ...args);
  if (result < 0) throw new SyscallError(name, -result, about);
  return result;
}

/**
 * Makes a call on a thread of libuv's pool and resolves to its result, or the errno negated. Never for calls that
 * depend on the thread's namespace. `memory` is what the kernel reads and writes; it is kept alive until the call ends.
 */
export async function trySyscallAsync(
  name: SyscallName,
  args: readonly [a?: number, b?: number, c?: number, d?: number],
  memory: readonly Memory[] = [],
): Promise<number> {
  const injected = takeFailure(name);
  if (injected !== 0) return -injected;
  if (inFlight >= inFlightLimit) await new Promise<void>((resolve) => waiting.push(resolve));
  inFlight += 1;
  try {
    return await onPool(name, args, memory);
  } finally {
    inFlight -= 1;
    waiting.shift()?.();
  }
}

/** koffi throws beyond 256 calls in flight (max_async_calls), of which the pool makes four at a time anyway. */
const inFlightLimit = 128;
let inFlight = 0;
const waiting: (() => void)[] = [];

function onPool(name: SyscallName, args: Parameters<typeof trySyscallAsync>[1], memory: readonly Memory[]): Promise<number> {
  const [a = 0, b = 0, c = 0, d = 0] = args;
  return new Promise((resolve, reject) => {
    const { call, numbers } = libc();
    call.async(numbers[name], a, b, c, d, 0, 0, (error, result) => {
      // koffi hands the pool thread's errno over to this callback.
      const value = result === -1 ? -koffi.errno() : result;
      live.delete(memory);
      if (error) reject(error);
      else resolve(value);
    });
    live.add(memory);
  });
}

/** What calls in flight use: reachable from here, so the collector leaves it alone. */
const live = new Set<readonly Memory[]>();

/** Closes a file descriptor. Every fd belongs to one owner, so failure (EBADF) is a bug in this package and throws. */
export function closeFd(fd: number): void {
  syscall('close', `fd ${fd}`, fd);
}

/** Closes a file descriptor on a pool thread: closing a link detaches it, which blocks for milliseconds. */
export async function closeFdAsync(fd: number): Promise<void> {
  const result = await trySyscallAsync('close', [fd]);
  if (result < 0) throw new SyscallError('close', -result, `fd ${fd}`);
}

/** Calls to go until one fails, and from there to the next one that does. */
let countdowns: number[] = [];
let failure = 0;

/**
 * For tests of clean-up: the `nth` call from now (from 1) fails with `errno` without being made, once. `close` and
 * `munmap` are neither counted nor failed. With `then`, the call of that number behind it fails too. Zero turns it off. Not exported
 * from the package.
 */
export function injectFailure(nth: number, errno: number = Errno.ENOMEM, then = 0): void {
  countdowns = [nth, then].filter((calls) => calls > 0);
  failure = errno;
}

/** How many of the injected failures have not happened yet. */
export function failuresLeft(): number {
  return countdowns.length;
}

/** True once the injected failure has happened. */
export function failureTaken(): boolean {
  return countdowns.length === 0;
}

function takeFailure(name: SyscallName): number {
  const [calls] = countdowns;
  if (calls === undefined || name === 'close' || name === 'munmap') return 0;
  if (calls === 1) countdowns.shift();
  else countdowns[0] = calls - 1;
  return calls === 1 ? failure : 0;
}
