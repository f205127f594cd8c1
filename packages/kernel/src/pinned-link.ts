/** Links that outlive their process: finding a pinned one again, leading it to another program, taking it off. */
import { bpf, bpfError, objectInfo, tryBpfAsync } from './bpf.ts';
import { Errno, SyscallError } from './errno.ts';
import { openPin, removePin } from './pin.ts';
import type { KernelProgram } from './program.ts';
import { closeFd } from './syscall.ts';

/** What the kernel tells of a link (struct bpf_link_info). */
export interface PinnedLink {
  readonly programId: number;
  /** 0 once the interface is gone or the link was taken off. */
  readonly ifindex: number;
}

/** Reads what a pinned link is; undefined where there is none. Throws SyscallError. */
export function readLink(path: string): PinnedLink | undefined {
  return withLink(path, (fd) => {
    // u32 type, id, prog_id; then, aligned to 8, u32 ifindex of XDP, TCX and netkit links
    const info = objectInfo(fd, 24, path);
    return { programId: info.getUint32(8, true), ifindex: info.getUint32(16, true) };
  });
}

/** Leads a pinned link to another program, in one step: each packet meets one of the two. Throws SyscallError. */
export function updateLink(path: string, program: KernelProgram): void {
  withLink(path, (link_fd) => bpf('BPF_LINK_UPDATE', { link_fd, new_prog_fd: program.fd }, `${path}, program ${program.spec.name}`));
}

/** Takes a link off its interface, on a pool thread, and its pin away. Throws SyscallError. */
export async function removeLink(path: string): Promise<void> {
  let link_fd: number;
  try {
    link_fd = openPin(path);
  } catch (error) {
    if (isAbsent(error)) return;
    throw error;
  }
  try {
    const { result } = await tryBpfAsync('BPF_LINK_DETACH', { link_fd });
    if (result < 0) throw bpfError('BPF_LINK_DETACH', result, path);
    removePin(path);
  } finally {
    closeFd(link_fd);
  }
}

function withLink<T>(path: string, body: (fd: number) => T): T | undefined {
  let fd: number;
  try {
    fd = openPin(path);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
  try {
    return body(fd);
  } finally {
    closeFd(fd);
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof SyscallError && error.errno === Errno.ENOENT;
}
