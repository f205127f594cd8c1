/** Sockets whose events programs hear of: what a cgroup is to the kernel engine. */
import { Server, type Socket } from 'node:net';
import { ArgumentError } from '@tailrace/bpf';
import { tapOf } from './socket-table.ts';
import type { SocketTap } from './socket-tap.ts';

/** BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB and BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB (include/uapi/linux/bpf.h). */
const ACTIVE_ESTABLISHED = 4;
const PASSIVE_ESTABLISHED = 5;

/** Called with a socket and which event it is (BPF_SOCK_OPS_*). */
export type SocketListener = (tap: SocketTap, operation: number) => void;

/**
 * Sockets of this process whose connections are told to `sockOps` chains, ahead of all others that listen: those that servers
 * accept from now on, and clients that are about to connect.
 */
export class SocketGroup {
  readonly #listeners = new Set<SocketListener>();

  /** Throws ArgumentError as `add` does. */
  constructor(...members: readonly (Server | Socket)[]) {
    for (const member of members) this.add(member);
  }

  /** Throws ArgumentError for sockets that are connected or closed already. */
  add(member: Server | Socket): void {
    if (member instanceof Server) {
      member.prependListener('connection', (socket) => this.#tell(tapOf(socket), PASSIVE_ESTABLISHED));
      return;
    }
    if (!member.pending || member.destroyed)
      throw new ArgumentError(`the socket is ${member.destroyed ? 'closed' : 'connected'} already`, {
        hint: 'add it to the group before it connects, or put it into a map by its handle',
      });
    const tap = tapOf(member);
    member.prependOnceListener('connect', () => this.#tell(tap, ACTIVE_ESTABLISHED));
  }

  /** Tells of what happens from now on, until the result is called. */
  listen(listener: SocketListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(tap: SocketTap, operation: number): void {
    for (const listener of this.#listeners) listener(tap, operation);
  }
}
