/** What map operations fail with: the error of the system call that would have failed in the kernel. */
import { Errno, SyscallError } from '@tailrace/bpf';

type Operation =
  | 'LOOKUP_ELEM'
  | 'UPDATE_ELEM'
  | 'DELETE_ELEM'
  | 'GET_NEXT_KEY'
  | 'LOOKUP_AND_DELETE_ELEM'
  | 'UPDATE_BATCH'
  | 'DELETE_BATCH';

/** BPF commands on maps. */
export type MapCommand = `BPF_MAP_${Operation}`;

/** The error for a command and a positive errno. A full map is given its own hint. */
export function mapError(command: MapCommand, errno: number, about: string, hint?: string): SyscallError {
  const known = hint ?? (errno === Errno.E2BIG ? 'the map is full, or the key is beyond its end: raise maxEntries' : undefined);
  return new SyscallError(`bpf(${command})`, errno, about, known === undefined ? {} : { hint: known });
}
