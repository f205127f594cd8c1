/**
 * What a map of sockets knows besides its entries: which programs are attached to it, and which sockets are under its keys. As the
 * kernel has it (net/core/sock_map.c), a socket has the programs that were attached when it came into the map, and one of a kind.
 */
import { Errno } from '@tailrace/bpf';
import { DataInlet } from './data-inlet.ts';
import { PROGRAM_DATA, PROGRAM_MESSAGE } from './layout.ts';
import { MessageOutlet } from './message-outlet.ts';
import type { SocketProgram } from './socket-program.ts';
import type { SocketTap } from './socket-tap.ts';

/** The hooks of data at a map's sockets: what comes in, what is written. */
export type DataHook = 'skSkb' | 'skMsg';

/** A socket under a key: what ends that. */
interface Link {
  readonly end: () => void;
}

/** The sockets of one map, by their keys as text. */
export class SocketSlots {
  readonly #links = new Map<string, Link>();
  readonly #programs = new Map<DataHook, SocketProgram>();
  /** Takes the entry of a socket out that was closed. */
  readonly #erase: (key: Uint8Array) => void;

  constructor(erase: (key: Uint8Array) => void) {
    this.#erase = erase;
  }

  /** Which programs there are, as SOCKET_PROGRAMS has it. */
  get programs(): number {
    return (this.#programs.has('skSkb') ? PROGRAM_DATA : 0) | (this.#programs.has('skMsg') ? PROGRAM_MESSAGE : 0);
  }

  /** Sockets that come in from now on have the program. */
  attach(hook: DataHook, program: SocketProgram): void {
    program.hold();
    this.#programs.get(hook)?.release();
    this.#programs.set(hook, program);
  }

  /** Nothing where another program has taken its place. */
  detach(hook: DataHook, program: SocketProgram): void {
    if (this.#programs.get(hook) !== program) return;
    this.#programs.delete(hook);
    program.release();
  }

  /**
   * Gives a socket the programs of this map and puts it under a key in the place of what is there, unless `write` fails, which makes
   * the entry. 0, or a negated errno: EBUSY where the socket has such a program from another place.
   */
  put(given: Uint8Array, tap: SocketTap, write: () => number): number {
    const key = given.slice();
    if ((this.programs & tap.programs) !== 0) return -Errno.EBUSY;
    const result = write();
    if (result < 0) return result;
    this.drop(key);
    using ending = new DisposableStack();
    ending.defer(
      tap.onClose(() => {
        this.drop(key);
        this.#erase(key);
      }),
    );
    const [data, messages] = [this.#programs.get('skSkb'), this.#programs.get('skMsg')];
    if (data) {
      data.hold();
      tap.inlet = new DataInlet(tap, data);
      ending.defer(() => {
        tap.inlet = undefined;
        data.release();
      });
      tap.start();
    }
    if (messages) {
      messages.hold();
      tap.outlet = new MessageOutlet(tap, messages);
      ending.defer(() => {
        tap.outlet = undefined;
        messages.release();
      });
    }
    const kept = ending.move();
    this.#links.set(nameOf(key), { end: () => kept.dispose() });
    return result;
  }

  /** The socket under a key is in this map no more. */
  drop(key: Uint8Array): void {
    const name = nameOf(key);
    const link = this.#links.get(name);
    this.#links.delete(name);
    link?.end();
  }

  /** Lets go of all sockets and programs. */
  close(): void {
    for (const { end } of this.#links.values()) end();
    this.#links.clear();
    for (const program of this.#programs.values()) program.release();
    this.#programs.clear();
  }
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key).toString('latin1');
}
