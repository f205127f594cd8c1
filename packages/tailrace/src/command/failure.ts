/**
 * Errors as people read them: one line and a hint, the source line where a stage is refused, registers where the verifier
 * is against it. A stack trace is for mistakes that are nobody's typed error. An error may come from another copy of these
 * packages than ours, next to the user's module, so it is known by its shape.
 */
import { inspect } from 'node:util';
import { formatDiagnostic } from '@tailrace/compiler';
import { formatVerifierError } from '@tailrace/kernel';
import { ExitCode, UsageError } from './arguments.ts';
import { type Output, palette } from './output.ts';
import { ImportError } from './pipeline-module.ts';
import { isCompileError, isTailraceError, isVerifierError } from './typed-error.ts';

/** Prints an error and returns the exit code for it. */
export function reportFailure(error: unknown, output: Output): number {
  const { dim, red } = palette(output.color);
  const say = (message: string): void => output.write(`${red('tailrace:')} ${message}\n`);
  if (error instanceof ImportError) say(`${error.message}\n${inspect(error.cause)}`);
  else if (!isTailraceError(error)) say(inspect(error));
  else if (isCompileError(error)) output.write(`${formatDiagnostic(error.diagnostic)}\n`);
  else if (isVerifierError(error)) output.write(`${formatVerifierError(error)}\n`);
  else say(error.hint === undefined ? error.message : `${error.message}\n${dim(error.hint)}`);
  return exitCodeFor(error);
}

/** Prints the first line of an error only, for those who read output by lines, and returns the exit code for it. */
export function reportLine(error: unknown, output: Output): number {
  const message = isTailraceError(error) ? error.message : error instanceof Error ? String(error) : inspect(error);
  output.write(`tailrace: ${message.split('\n', 1)[0]}\n`);
  return exitCodeFor(error);
}

function exitCodeFor(error: unknown): number {
  return error instanceof UsageError ? ExitCode.wrongUse : ExitCode.failed;
}
