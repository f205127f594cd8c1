/** Verdicts on what comes in at a socket: to its reader, to nobody, out of another socket or in at it. */
import type { SocketProgram } from './socket-program.ts';
import { tapAt } from './socket-table.ts';
import type { Inlet, SocketTap } from './socket-tap.ts';

/** enum sk_action */
const SK_PASS = 1;

/** A socket's data under one program. What it sends on waits in the target's own buffers, and the source is read no further then. */
export class DataInlet implements Inlet {
  readonly #source: SocketTap;
  readonly #program: SocketProgram;

  constructor(source: SocketTap, program: SocketProgram) {
    this.#source = source;
    this.#program = program;
  }

  /** A program that traps ends the connection, with the trap as its error. */
  take(bytes: Buffer): Buffer | undefined {
    const source = this.#source;
    try {
      const { verdict, bytes: after, target } = this.#program.runOnSocket({ bytes, sequence: source.arrived, ends: source.socket });
      if (verdict !== SK_PASS) return undefined;
      const left = bytes.equals(after) ? bytes : Buffer.from(after);
      if (target === undefined) return left;
      const other = tapAt(target.socket);
      // of no length is only an end, which goes nowhere else
      if (other === undefined || left.length === 0) return undefined;
      const hasRoom = target.ingress ? other.deliver(left) : other.send(left);
      if (!hasRoom) source.waitFor(other, target.ingress ? 'reader' : 'peer');
    } catch (error) {
      source.socket.destroy(error as Error);
    }
    return undefined;
  }
}
