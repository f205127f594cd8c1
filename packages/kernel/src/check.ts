/**
 * One thing that was looked for on this machine, and how looking for it becomes a result: what works is there, what the
 * kernel does not know is not, and what it refuses to this process cannot be told.
 */
import { TailraceError } from '@tailrace/bpf';
import { Errno, SyscallError } from './errno.ts';
import { NetlinkError } from './netlink.ts';
import { Capability } from './privilege.ts';
import { VerifierError } from './verifier.ts';

/** Whether something is there; `unknown` where it cannot be told, as without privileges. */
export type CheckState = 'yes' | 'no' | 'unknown';

/** One thing that was looked for. */
export interface Check {
  /** A name that stays: `cap.bpf`, `map.ringBuffer`, `xdp.frags`. */
  readonly id: string;
  /** What was looked for, in words. */
  readonly title: string;
  readonly state: CheckState;
  /** True where nothing runs without it. */
  readonly needed: boolean;
  /** What was found, or why it is not there or cannot be told. */
  readonly detail?: string;
  /** What to do about it: wherever it is not there. */
  readonly remedy?: string;
}

/** What to look for. */
export interface Search {
  readonly id: string;
  readonly title: string;
  /** Default false. */
  readonly needed?: boolean;
  /** What to do where it is not there. */
  readonly remedy: string;
  /** Capabilities that looking takes; none unless given. */
  readonly takes?: readonly Capability[];
}

/** Errno numbers by which the kernel says that it does not have something. */
const absent: readonly number[] = [Errno.EINVAL, Errno.ENOENT, Errno.ENOSYS, Errno.EOPNOTSUPP, Errno.ENOTSUPP];
const EACCES = 13;

/** A result that is known already. */
export function found(search: Search, state: CheckState, detail?: string): Check {
  const { id, title, needed = false, remedy } = search;
  return { id, title, state, needed, ...(detail === undefined ? {} : { detail }), ...(state === 'no' ? { remedy } : {}) };
}

/**
 * Looks, with the capabilities that this thread has (one bit each). `look` returns what there is to say of what it found, and
 * throws where it found nothing. Throws what is no TailraceError.
 */
export async function look(
  search: Search,
  effective: bigint,
  look: () => Promise<string | undefined> | string | undefined,
): Promise<Check> {
  try {
    return found(search, 'yes', await look());
  } catch (error) {
    if (!(error instanceof TailraceError)) throw error;
    const errno = error instanceof SyscallError || error instanceof NetlinkError ? error.errno : undefined;
    if (errno === Errno.EPERM || errno === EACCES) return found(search, 'unknown', refusal(search.takes ?? [], effective));
    const isAbsent = errno === undefined || absent.includes(errno) || error instanceof VerifierError;
    return found(search, isAbsent ? 'no' : 'unknown', error.message);
  }
}

/** Whether a set of capabilities (one bit each) has what `name` stands for: CAP_SYS_ADMIN stands in for those of bpf(2). */
export function has(effective: bigint, name: Capability): boolean {
  const bit = (of: Capability) => ((effective >> BigInt(Capability[of])) & 1n) === 1n;
  return bit(name) || (name !== 'CAP_NET_ADMIN' && bit('CAP_SYS_ADMIN'));
}

function refusal(takes: readonly Capability[], effective: bigint): string {
  const missing = takes.filter((name) => !has(effective, name));
  return missing.length === 0 ? 'the kernel refuses it to this process' : `cannot be told without ${missing.join(', ')}`;
}
