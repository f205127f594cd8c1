/**
 * The name of a clsact filter, which says what process added it, so that another can tell whether that one is gone. A
 * process is known by its number and its start, both of which count only within one PID and one time namespace.
 */
import { readFileSync, readlinkSync } from 'node:fs';

/** The process that added a filter. */
export interface FilterOwner {
  /** The program's name. */
  readonly program: string;
  readonly pid: number;
  /** Clock ticks since boot (field 22 of /proc/PID/stat). */
  readonly start: string;
  /** The PID and time namespaces that these are numbers of, as `/proc/self/ns` names them. */
  readonly namespaces: string;
  /** The qdisc was made for filters like this one, and is to go with the last of them. */
  readonly madeQdisc: boolean;
}

/** CLS_BPF_NAME_LEN is 256; the owner takes up to 90 of it. */
const programBytes = 128;
const form = /^tailrace:(\S+) pid=(\d+) start=(\d+) in=(\S+)( qdisc)?$/;

/** The name for a filter of this process. */
export function filterName(program: string, madeQdisc: boolean): string {
  const { pid } = process;
  const text = program.replace(/[^\x21-\x7e]/g, '_').slice(0, programBytes);
  return `tailrace:${text} pid=${pid} start=${startOf(pid) ?? '0'} in=${ownNamespaces()}${madeQdisc ? ' qdisc' : ''}`;
}

/** The owner that a filter's name tells; undefined for filters of others. */
export function parseFilterName(name: string): FilterOwner | undefined {
  const [, program, pid, start, namespaces, qdisc] = form.exec(name) ?? [];
  if (program === undefined || pid === undefined || start === undefined || namespaces === undefined) return undefined;
  return { program, pid: Number(pid), start, namespaces, madeQdisc: qdisc !== undefined };
}

/** True where the owner is gone for certain; false where it lives, or cannot be seen from here. */
export function ownerIsGone({ pid, start, namespaces }: FilterOwner): boolean {
  if (namespaces !== ownNamespaces()) return false;
  if (!exists(pid)) return true;
  const now = startOf(pid);
  return now !== undefined && now !== start;
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it is there and belongs to somebody else.
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH');
  }
}

/** The start of a process in clock ticks; undefined where it may not be seen. */
function startOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The second field is the command in parentheses, which may hold anything.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

function ownNamespaces(): string {
  return ['pid', 'time'].map((kind) => readlinkSync(`/proc/self/ns/${kind}`)).join(',');
}
