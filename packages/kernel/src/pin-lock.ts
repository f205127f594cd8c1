/**
 * Who owns a folder of pins: whoever holds the lock on it (flock(2)). The kernel lets go of it when the process ends, however
 * that happens.
 */
import { fstatSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { TailraceError } from '@tailrace/bpf';
import { Descriptor } from './descriptor.ts';
import { Errno, SyscallError } from './errno.ts';
import { checkOwn, ownFolder, pathMemory, removeIfEmpty, status } from './pin.ts';
import { trySyscall } from './syscall.ts';

/** LOCK_EX and LOCK_NB (include/uapi/asm-generic/fcntl.h). */
const exclusively = 2 | 4;
/** O_DIRECTORY, O_NOFOLLOW (include/uapi/asm-generic/fcntl.h; arm64 has its own) and O_CLOEXEC. */
const openFlags = (process.arch === 'arm64' ? 0o40000 | 0o100000 : 0o200000 | 0o400000) | 0o2000000;
/** Somebody may remove the folder between our opening and our locking it, or let go of it before we see who has it, so often. */
const attempts = 8;

/** A pipeline's pins belong to another process. */
export class PinsTakenError extends TailraceError {
  /** The pipeline's name. */
  readonly pipeline: string;
  /** The process that has them; undefined where it cannot be seen from here. */
  readonly pid: number | undefined;

  constructor(pipeline: string, pid: number | undefined) {
    super('conflict', `pipeline '${pipeline}' belongs to ${pid === undefined ? 'another process' : `process ${pid}`}`, {
      hint: 'stop that one, or let it leave() the pipeline',
    });
    this.pipeline = pipeline;
    this.pid = pid;
  }
}

/** Makes the folder, and the one around it, where there is none, and locks it. Throws PinsTakenError, PinFolderError, SyscallError, leaving nothing open. */
export function lockFolder(path: string, name: string): Descriptor {
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const isNew = madeWithin(path);
    if (isNew === undefined) continue;
    const memory = pathMemory(path);
    const fd = trySyscall('openat', 0, memory.address, openFlags);
    if (fd === -Errno.ENOENT) continue;
    if (fd < 0) throw failed('openat', fd, path, isNew);
    using opened = new DisposableStack();
    const lock = opened.use(new Descriptor(fd, `the lock on ${path}`));
    const result = trySyscall('flock', fd, exclusively);
    if (result === -Errno.EAGAIN) {
      const owner = lockOwner(path);
      // it may have let go by now
      if (owner === undefined && attempt < attempts - 1) continue;
      throw new PinsTakenError(name, owner);
    }
    if (result < 0) throw failed('flock', result, path, isNew);
    // Another may have removed the folder meanwhile: a lock on what has no name keeps nobody out.
    if (status(path)?.ino !== fstatSync(fd).ino) continue;
    checkOwn(path, fstatSync(fd));
    opened.move();
    return lock;
  }
  throw new PinsTakenError(name, undefined);
}

/** True where the folder was made; undefined where the one around it went meanwhile, with another pipeline's last pin. */
function madeWithin(path: string): boolean | undefined {
  ownFolder(dirname(path));
  try {
    return ownFolder(path);
  } catch (error) {
    if (error instanceof SyscallError && error.errno === Errno.ENOENT) return undefined;
    throw error;
  }
}

/** The error of a call; folders that were made for it go. */
function failed(call: string, result: number, path: string, isNew: boolean): SyscallError {
  if (isNew) for (const made of [path, dirname(path)]) removeIfEmpty(made);
  return new SyscallError(call, -result, path);
}

/** The process that holds the lock on a folder; undefined where none does, or none that can be seen from here. */
export function lockOwner(path: string): number | undefined {
  const inode = status(path)?.ino;
  if (inode === undefined) return undefined;
  for (const line of readFileSync('/proc/locks', 'utf8').split('\n')) {
    // 1: FLOCK  ADVISORY  WRITE 1234 00:1d:5678 0 EOF (fs/locks.c, lock_get_status)
    const [, pid, device, at] = /^\d+: FLOCK +\S+ +WRITE +(\d+) +(\S+):(\d+) /.exec(line) ?? [];
    if (Number(at) === inode && device === deviceOf(path)) return Number(pid) || undefined;
  }
  return undefined;
}

/** As /proc/locks writes it, e.g. `00:1d`. */
function deviceOf(path: string): string {
  const device = BigInt(status(path)?.dev ?? 0);
  // glibc's gnu_dev_major and gnu_dev_minor
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xffff_f000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffff_ff00n);
  return [major, minor].map((part) => part.toString(16).padStart(2, '0')).join(':');
}
