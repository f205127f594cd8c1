/** Verdicts on what the owner of a socket writes: to its peer, to nobody, out of another socket or in at it. */
import type { SocketProgram, SocketTarget } from './socket-program.ts';
import { tapAt } from './socket-table.ts';
import type { Done, Outlet, SocketTap } from './socket-tap.ts';

/** enum sk_action */
const SK_PASS = 1;
/** Bytes that a program sees at a time: what the kernel gathers in a message is about as much. */
const MESSAGE_LIMIT = 65_536;

/** A write that a program dropped, as Node tells of one that the kernel refuses. */
export class RefusedWriteError extends Error {
  override readonly name = 'RefusedWriteError';
  readonly code = 'EACCES';
  readonly errno = -13;
  readonly syscall = 'write';

  constructor(program: string) {
    super(`write EACCES: program ${program} dropped what was written`);
  }
}

interface Verdict {
  readonly passes: boolean;
  readonly target: SocketTarget | undefined;
  /** Bytes that it holds for; undefined: for the message that it was given on. */
  left: number | undefined;
}

/**
 * A socket's writes under one program (tcp_bpf_sendmsg of the kernel). A write is over once TCP or the target has room for more; what is
 * held back for `corkBytes` goes with the socket.
 */
export class MessageOutlet implements Outlet {
  readonly #source: SocketTap;
  readonly #program: SocketProgram;
  #verdict: Verdict | undefined;
  #held: Buffer = Buffer.alloc(0);
  /** Bytes that have to come together before the program is asked again. */
  #wanted = 0;

  constructor(source: SocketTap, program: SocketProgram) {
    this.#source = source;
    this.#program = program;
  }

  take(bytes: Buffer, done: Done): void {
    const all: Buffer = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    if (all.length < Math.min(this.#wanted, MESSAGE_LIMIT)) {
      this.#held = all;
      return done();
    }
    this.#held = Buffer.alloc(0);
    this.#wanted = 0;
    try {
      this.#send(all, done);
    } catch (error) {
      done(error as Error);
    }
  }

  /** Sends all, message by message. */
  #send(bytes: Buffer, done: Done): void {
    if (bytes.length === 0) return done();
    let all = bytes;
    let message = Math.min(bytes.length, MESSAGE_LIMIT);
    if (this.#verdict === undefined) {
      const given = bytes.subarray(0, message);
      const {
        verdict,
        bytes: after,
        target,
        applyBytes,
        corkBytes,
      } = this.#program.runOnSocket({ bytes: given, ends: this.#source.socket });
      if (!given.equals(after)) all = Buffer.concat([after, bytes.subarray(message)]);
      if (corkBytes > message && message < MESSAGE_LIMIT) {
        this.#held = all;
        this.#wanted = corkBytes;
        return done();
      }
      this.#verdict = { passes: verdict === SK_PASS, target, left: applyBytes || undefined };
    } else message = bytes.length;
    const verdict = this.#verdict;
    const length = Math.min(message, verdict.left ?? message);
    if (verdict.left !== undefined) verdict.left -= length;
    if (!verdict.left) this.#verdict = undefined;
    const part = all.subarray(0, length);
    const rest = all.subarray(length);
    const next: Done = (error) => {
      if (error) return done(error);
      try {
        this.#send(rest, done);
      } catch (trap) {
        done(trap as Error);
      }
    };
    this.#act(verdict, part, next);
  }

  #act({ passes, target }: Verdict, part: Buffer, next: Done): void {
    const other = target && tapAt(target.socket);
    if (!passes || (target && !other)) return next(new RefusedWriteError(this.#program.spec.name));
    if (target === undefined || other === undefined) return this.#source.pass(part, next);
    if (target.ingress ? other.deliver(part) : other.sendPast(part)) return next();
    other.whenRoom(target.ingress ? 'reader' : 'peer', next);
  }
}
