/**
 * The error base of every Tailrace package. Errors are data: a literal code, one lowercase line, an optional hint.
 * Each package adds subclasses by what went wrong; `new Error` is banned by lint.
 */

/** What went wrong, for programs that branch on errors. */
export type ErrorCode =
  | 'encoding' // an instruction, BTF or attribute that cannot be encoded or decoded
  | 'elf' // an object file that is cut, damaged, or asks for what is not there
  | 'compile' // a stage's source is refused
  | 'chain' // a pipeline that cannot be built: open exit, cycle, too deep
  | 'conflict' // a map, name or interface is taken by something else
  | 'trap' // a program in the userspace engine did what it must not do
  | 'verifier' // the kernel's verifier rejected a program
  | 'syscall' // a system call failed
  | 'netlink' // an rtnetlink request failed
  | 'unsupported' // this kernel, engine or machine lacks something
  | 'privilege' // capabilities are missing
  | 'timeout' // what was waited for did not come in time
  | 'capture' // a capture that is cut or damaged, or that cannot be read or written
  | 'snapshot' // a file of a map's entries that is cut or damaged, or that cannot be read or written
  | 'migration' // entries of a pinned map that cannot be taken along into its next form
  | 'rollback' // a change failed, and so did taking it back: something of it is left
  | 'closing' // several things failed to close; all others are closed
  | 'argument'; // a value handed in is out of its range or of the wrong shape

export interface ErrorOptions {
  /** What the user can do about it, one lowercase line. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** Base class of all errors that Tailrace throws. */
export class TailraceError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
  }
}

/** A value handed in is out of range or of the wrong shape. */
export class ArgumentError extends TailraceError {
  constructor(message: string, options?: ErrorOptions) {
    super('argument', message, options);
  }
}

/** A kernel, engine or machine lacks something that was asked for. */
export class UnsupportedError extends TailraceError {
  constructor(message: string, options?: ErrorOptions) {
    super('unsupported', message, options);
  }
}

/** An instruction, BTF or attribute that cannot be encoded or decoded. */
export class EncodingError extends TailraceError {
  /** The field at fault, e.g. `offset`, `imm`, `member name`. */
  readonly field: string;
  /** The instruction slot at fault, where there is one. */
  readonly pc: number | undefined;

  constructor(field: string, message: string, options: ErrorOptions & { readonly pc?: number } = {}) {
    super('encoding', message, options);
    this.field = field;
    this.pc = options.pc;
  }
}

/** An object file that is cut or damaged, or that cannot be read or written. */
export class ElfError extends TailraceError {
  /** The section at fault, e.g. `.BTF`; `header` and `section headers` for the container itself. */
  readonly section: string;
  /** Bytes from the section's start, where the fault has a place. */
  readonly offset: number | undefined;

  constructor(section: string, message: string, options: ErrorOptions & { readonly offset?: number | undefined } = {}) {
    const place = options.offset === undefined ? section : `${section} at byte ${options.offset}`;
    super('elf', `object file, ${place}: ${message}`, options);
    this.section = section;
    this.offset = options.offset;
  }
}

/** Taking back what failed failed too, so that something of it is left. `cause` is what failed first. */
export class RollbackError extends TailraceError {
  /** What taking it back failed with, in that order. Messages name what is left. */
  readonly failures: readonly unknown[];

  constructor(cause: unknown, failures: readonly unknown[]) {
    super('rollback', `${lineOf(cause)}; and taking that back failed: ${failures.map(lineOf).join('; ')}`, {
      hint: 'stop it, or run it again where it is persistent: what is left goes with that',
      cause,
    });
    this.failures = failures;
  }
}

/** Several things failed to close. Everything else is closed: nothing kept one thing from being closed because another had failed. */
export class ClosingError extends TailraceError {
  /** What closing failed with, in that order. */
  readonly failures: readonly unknown[];

  constructor(what: string, failures: readonly unknown[]) {
    super('closing', `${what} was closed, but for ${failures.length} parts of it: ${failures.map(lineOf).join('; ')}`, {
      cause: failures[0],
    });
    this.failures = failures;
  }
}

function lineOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
