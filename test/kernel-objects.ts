/** What processes hold in the kernel, and whether it is still there: programs by id, network namespaces by inode. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { eventually } from '@tailrace/testing';
import { tryBpf } from '../packages/kernel/src/bpf.ts';
import { closeFd } from '../packages/kernel/src/syscall.ts';

/** What one process holds. Maps and links need no list: a program keeps its maps, and a link its program. */
export interface HeldObjects {
  /** Ids of programs, also of those that a link holds. */
  readonly programs: readonly number[];
  /** Network namespaces that it entered or holds open, as `net:[inode]`, without the one that this process is in. */
  readonly namespaces: readonly string[];
}

/** What a process holds now. */
export function heldBy(pid: number | 'self'): HeldObjects {
  const programs = new Set<number>();
  for (const fd of listed(`/proc/${pid}/fdinfo`)) {
    const id = /^prog_id:\s*(\d+)$/m.exec(readIfThere(`/proc/${pid}/fdinfo/${fd}`))?.[1];
    if (id !== undefined) programs.add(Number(id));
  }
  return { programs: [...programs].sort((a, b) => a - b), namespaces: [...namespacesOf(pid)].sort() };
}

/** Files of this process that a leak would leave open: bpf objects, sockets, namespaces. */
export function openFds(): number {
  return listed('/proc/self/fd').filter((fd) => /bpf|socket|net:/.test(linkIfThere(`/proc/self/fd/${fd}`))).length;
}

/** Resolves once none of it is in the kernel any more: objects disappear some milliseconds behind their last holder. Throws TimeoutError. */
export async function gone({ programs, namespaces }: HeldObjects, timeoutMs = 2_000): Promise<void> {
  await eventually(() => !programs.some(programExists), timeoutMs, `the end of programs ${programs}`);
  await eventually(
    () => !listed('/proc').some((pid) => /^\d+$/.test(pid) && [...namespacesOf(Number(pid))].some((name) => namespaces.includes(name))),
    timeoutMs,
    `the end of namespaces ${namespaces}`,
  );
}

function programExists(id: number): boolean {
  const { result } = tryBpf('BPF_PROG_GET_FD_BY_ID', { prog_id: id });
  if (result >= 0) closeFd(result);
  return result >= 0;
}

function namespacesOf(pid: number | 'self'): ReadonlySet<string> {
  const tasks = listed(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}/ns/net`);
  const open = listed(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`);
  const names = new Set([...tasks, ...open].map(linkIfThere).filter((name) => name.startsWith('net:[')));
  names.delete(readlinkSync('/proc/self/ns/net'));
  return names;
}

/** Processes and files may be gone by the time that they are looked at. */
function listed(folder: string): readonly string[] {
  return unlessGone(() => readdirSync(folder), []);
}

function linkIfThere(path: string): string {
  return unlessGone(() => readlinkSync(path), '');
}

function readIfThere(path: string): string {
  return unlessGone(() => readFileSync(path, 'utf8'), '');
}

function unlessGone<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
