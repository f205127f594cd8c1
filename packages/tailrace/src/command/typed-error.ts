/** Telling errors of these packages from others by their shape: they may come from another copy, next to the user's module. */
import type { TailraceError } from '@tailrace/bpf';
import type { CompileError } from '@tailrace/compiler';
import type { VerifierError } from '@tailrace/kernel';

/** True for errors of these packages, whichever copy of them. */
export function isTailraceError(error: unknown): error is TailraceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && 'hint' in error;
}

/** True where a stage's source was refused. */
export function isCompileError(error: TailraceError): error is CompileError {
  return error.code === 'compile' && 'diagnostic' in error;
}

/** True where the verifier rejected a program. */
export function isVerifierError(error: TailraceError): error is VerifierError {
  return error.code === 'verifier' && 'registers' in error;
}
