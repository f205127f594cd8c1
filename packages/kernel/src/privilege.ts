/**
 * What the kernel engine needs of the machine: Linux 6.1, bpf(2), capabilities, and for pins a mounted bpffs. Each check
 * throws an error that says what is missing and what to do.
 */
import { readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { TailraceError, UnsupportedError } from '@tailrace/bpf';
import { objectName, tryBpf } from './bpf.ts';
import { Errno, SyscallError } from './errno.ts';
import { closeFd } from './syscall.ts';

/** Capability numbers (include/uapi/linux/capability.h). */
export const Capability = { CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21, CAP_PERFMON: 38, CAP_BPF: 39 } as const;
export type Capability = keyof typeof Capability;

/** BPF_FS_MAGIC (include/uapi/linux/magic.h). */
const BPF_FS_MAGIC = 0xcafe4a11;
/** Where a BPF file system is usually mounted. */
export const bpffsPath = '/sys/fs/bpf';
const oldestKernel = [6, 1] as const;

/** Capabilities are missing, or do not count here. */
export class PrivilegeError extends TailraceError {
  /** Exactly those that are missing; empty where the process has all and the kernel refuses nevertheless. */
  readonly missing: readonly Capability[];

  constructor(missing: readonly Capability[], message: string, hint: string) {
    super('privilege', message, { hint });
    this.missing = missing;
  }
}

/** Throws UnsupportedError unless this is Linux 6.1 or later. */
export function requireKernel(platform: string = process.platform, version: string = release()): void {
  if (platform !== 'linux') {
    throw new UnsupportedError(`the kernel engine needs Linux, this is ${platform}`, {
      hint: 'use the userspace engine here',
    });
  }
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const [wantedMajor, wantedMinor] = oldestKernel;
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) return;
  throw new UnsupportedError(`the kernel engine needs Linux ${wantedMajor}.${wantedMinor} or later, this is ${version}`, {
    hint: 'use a newer kernel, or the userspace engine',
  });
}

/**
 * Throws PrivilegeError unless this thread has what loading and attaching takes: CAP_NET_ADMIN, and CAP_BPF and
 * CAP_PERFMON or CAP_SYS_ADMIN in their place; entering another namespace takes CAP_SYS_ADMIN itself.
 * `effective` is the set of effective capabilities, one bit each.
 */
export function requireCapabilities(entersNamespace: boolean, effective: bigint = effectiveCapabilities()): void {
  const has = (name: Capability) => ((effective >> BigInt(Capability[name])) & 1n) === 1n;
  const missing: Capability[] = [];
  if (!has('CAP_BPF') && !has('CAP_SYS_ADMIN')) missing.push('CAP_BPF');
  if (!has('CAP_NET_ADMIN')) missing.push('CAP_NET_ADMIN');
  if (!has('CAP_PERFMON') && !has('CAP_SYS_ADMIN')) missing.push('CAP_PERFMON');
  if (entersNamespace && !has('CAP_SYS_ADMIN')) missing.push('CAP_SYS_ADMIN');
  if (missing.length === 0) return;
  // setcap replaces what the file had, so the remedy lists all that is needed.
  const needed = ['cap_bpf', 'cap_net_admin', 'cap_perfmon', ...(entersNamespace ? ['cap_sys_admin'] : [])].join(',');
  throw new PrivilegeError(
    missing,
    `the kernel engine lacks ${missing.join(', ')}`,
    `run as root, or: setcap ${needed}=ep ${process.execPath}`,
  );
}

/** Throws UnsupportedError where the kernel has no bpf(2), PrivilegeError where it refuses it to this process. */
export function requireBpf(): void {
  const { result } = tryBpf('BPF_MAP_CREATE', {
    map_type: 2,
    key_size: 4,
    value_size: 8,
    max_entries: 1,
    map_name: objectName('tailrace_probe'),
  });
  if (result >= 0) {
    closeFd(result);
    return;
  }
  if (result === -Errno.ENOSYS) {
    throw new UnsupportedError('this kernel has no bpf system call', { hint: 'it needs CONFIG_BPF_SYSCALL=y' });
  }
  if (result === -Errno.EPERM) {
    throw new PrivilegeError(
      [],
      'the kernel refuses bpf(2) although the capabilities are there',
      'they count in the first user namespace only, and seccomp or lockdown may forbid it: run outside of the container',
    );
  }
  throw new SyscallError('bpf(BPF_MAP_CREATE)', -result, 'a probe');
}

/** Whether a BPF file system, which pins live in, is mounted at `path`. */
export function bpffsMounted(path: string = bpffsPath): boolean {
  try {
    return statfsSync(path).type === BPF_FS_MAGIC;
  } catch {
    return false;
  }
}

/** Throws UnsupportedError with the remedy unless a BPF file system is mounted at `path`. */
export function requireBpffs(path: string = bpffsPath): void {
  if (bpffsMounted(path)) return;
  throw new UnsupportedError(`no BPF file system is mounted at ${path}, which pins need`, {
    hint: `mount -t bpf bpf ${path}`,
  });
}

/** The effective capabilities of this thread, one bit each. */
export function effectiveCapabilities(): bigint {
  const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/thread-self/status', 'utf8'));
  return BigInt(`0x${match?.[1] ?? '0'}`);
}

/** CPUs that this machine may ever have: what a per-CPU map holds values for. */
export function possibleCpus(list: string = readFileSync('/sys/devices/system/cpu/possible', 'utf8')): number {
  let count = 0;
  for (const range of list.trim().split(',')) {
    const [first = '', last = first] = range.split('-');
    count += Number(last) - Number(first) + 1;
  }
  return count;
}
