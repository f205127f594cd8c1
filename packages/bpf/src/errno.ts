/**
 * Errno numbers, their names, and the error that a failed system call becomes. Numbers are those of the generic Linux ABI
 * (include/uapi/asm-generic/errno.h), which x86-64 and arm64 share. Those that Tailrace decides by mean the same on every
 * platform: the userspace engine answers as Linux does, wherever it runs.
 */
import { constants } from 'node:os';
import { getSystemErrorMessage } from 'node:util';
import { type ErrorOptions, TailraceError } from './errors.ts';

/** The errno numbers that Tailrace decides by. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  ENOSYS: 38,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ENOBUFS: 105,
  EINPROGRESS: 115,
  /** Kernel internal (include/linux/errno.h), yet it reaches user space from bpf(2). */
  ENOTSUPP: 524,
} as const;

/** Texts of those that do not come from a system call only. */
const texts: ReadonlyMap<number, string> = new Map([
  [Errno.ENOENT, 'no such file or directory'],
  [Errno.E2BIG, 'argument list too long'],
  [Errno.ENOMEM, 'not enough memory'],
  [Errno.EEXIST, 'file already exists'],
  [Errno.EINVAL, 'invalid argument'],
  [Errno.ENOSPC, 'no space left on device'],
  [Errno.EOVERFLOW, 'value too large for defined data type'],
  [Errno.EOPNOTSUPP, 'operation not supported on socket'],
  [Errno.ENOTSUPP, 'operation is not supported'],
]);

const names = new Map<number, string>();
for (const [name, number] of Object.entries(constants.errno)) if (!names.has(number)) names.set(number, name);
for (const [name, number] of Object.entries(Errno)) names.set(number, name);

/** The symbolic name of an errno number, e.g. `ENOSPC`; `errno N` for one without a name. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** The C library's text for an errno number, e.g. `no space left on device`. */
export function errnoText(errno: number): string {
  return texts.get(errno) ?? getSystemErrorMessage(-errno);
}

/** A system call failed, or what an engine does in its place. */
export class SyscallError extends TailraceError {
  /** The call, with its command where it has one, e.g. `bpf(BPF_MAP_CREATE)`. */
  readonly syscall: string;
  /** The errno number, positive. */
  readonly errno: number;
  /** The errno's name, e.g. `ENOSPC`. */
  readonly errnoName: string;

  /** `about` names the object, e.g. `map l4lb/conns`. */
  constructor(syscall: string, errno: number, about?: string, options: ErrorOptions = {}) {
    const where = about === undefined ? '' : ` for ${about}`;
    const hint = options.hint ?? hints[errnoName(errno)];
    super('syscall', `${syscall}${where} failed: ${errnoName(errno)}, ${errnoText(errno)}`, {
      ...options,
      ...(hint === undefined ? {} : { hint }),
    });
    this.syscall = syscall;
    this.errno = errno;
    this.errnoName = errnoName(errno);
  }
}

const hints: Readonly<Record<string, string>> = {
  EPERM: 'run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON',
  ENOMEM: 'the kernel had no memory for this: lower maxEntries or raise the memory limit of the cgroup',
  ENOSYS: 'this kernel was built without that system call',
  EMFILE: 'too many open files in this process: raise the limit (ulimit -n)',
  ENFILE: 'too many open files on this machine',
};
