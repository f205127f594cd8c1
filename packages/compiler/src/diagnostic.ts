/** Diagnostics as data, and the one formatter that prints them with the source line and a caret. */
import { TailraceError } from '@tailrace/bpf';
import type { Place } from './ir.ts';

/** Why a stage's source is refused. */
export type DiagnosticId =
  | 'source' // the function's source cannot be read
  | 'syntax' // a construct outside the language
  | 'name' // a free name, an unknown field or method
  | 'type' // number, bigint, boolean or reference where another is needed
  | 'range' // a value may leave what can be computed exactly, or an index its array
  | 'undefined' // something that may be undefined is used
  | 'stale' // a header from before the packet moved
  | 'verdict' // a path without a verdict, or a verdict that is not returned
  | 'memory' // an access that cannot be done in place
  | 'loop' // a loop without a provable bound
  | 'limit'; // too much stack, too many instructions

export interface Diagnostic {
  readonly id: DiagnosticId;
  /** The stage. */
  readonly stage: string;
  /** One lowercase line. */
  readonly message: string;
  readonly hint?: string | undefined;
  /** Where; absent where the function has no readable source. */
  readonly place?: Place | undefined;
  /** Characters to underline, at least 1. */
  readonly length: number;
}

/** A stage's source is refused: what, where, and what to write instead. */
export class CompileError extends TailraceError {
  readonly diagnostic: Diagnostic;

  constructor(diagnostic: Diagnostic, cause?: unknown) {
    const { place, stage, message, hint } = diagnostic;
    const where = place ? `${place.file}:${place.line}:${place.column}` : `stage '${stage}'`;
    super('compile', `${where}: ${message}`, { ...(hint === undefined ? {} : { hint }), cause });
    this.diagnostic = diagnostic;
  }
}

/** The diagnostic with its source line, a caret under the place, and the hint. */
export function formatDiagnostic(diagnostic: Diagnostic): string {
  const { place, stage, message, hint, length } = diagnostic;
  if (!place) return [`stage '${stage}': ${message}`, ...(hint ? [`  hint: ${hint}`] : [])].join('\n');
  const number = String(place.line);
  const gutter = ' '.repeat(number.length);
  const underline = '^'.repeat(Math.max(1, Math.min(length, place.text.length - place.column + 1)));
  return [
    `${place.file}:${place.line}:${place.column}: stage '${stage}': ${message}`,
    ` ${number} | ${place.text}`,
    ` ${gutter} | ${' '.repeat(place.column - 1)}${underline}`,
    ...(hint ? [` ${gutter} = hint: ${hint}`] : []),
  ].join('\n');
}
