/** A cursor over one line of assembly text: takes tokens by pattern and reports what it expected, with the place. */
import { EncodingError } from './errors.ts';

/** Text that is no assembly. `render()` shows the line with a caret. */
export class AssemblyError extends EncodingError {
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
  /** The whole line. */
  readonly source: string;

  constructor(message: string, place: { readonly line: number; readonly column: number; readonly source: string }) {
    super('text', `line ${place.line}, column ${place.column}: ${message}`);
    this.line = place.line;
    this.column = place.column;
    this.source = place.source;
  }

  /** Message, source line and a caret below the column. */
  render(): string {
    const margin = `${this.line} | `;
    return `${this.message}\n${margin}${this.source}\n${' '.repeat(margin.length + this.column - 1)}^`;
  }
}

/** Scans one line; spaces between tokens do not matter. */
export class Scanner {
  readonly #source: string;
  readonly #line: number;
  /** Where the line's comment starts. */
  readonly #end: number;
  #at = 0;

  constructor(source: string, line: number) {
    this.#source = source;
    this.#line = line;
    const comment = source.search(/;|\/\//);
    this.#end = comment < 0 ? source.length : comment;
  }

  /** Column of the next token, from 1. */
  get column(): number {
    this.#skip();
    return this.#at + 1;
  }

  get done(): boolean {
    this.#skip();
    return this.#at >= this.#end;
  }

  /** The next character, or nothing at the end. */
  peek(): string {
    return this.done ? '' : this.#source.charAt(this.#at);
  }

  /** Takes what the sticky pattern matches here, or nothing. */
  take(pattern: RegExp): RegExpExecArray | undefined {
    this.#skip();
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#source.slice(0, this.#end));
    if (!match) return undefined;
    this.#at += match[0].length;
    return match;
  }

  /** Takes exactly this text, or nothing. */
  literal(text: string): boolean {
    this.#skip();
    if (!this.#source.slice(0, this.#end).startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  /** Takes these texts in a row. Throws AssemblyError at the first that is missing. */
  expect(...texts: string[]): void {
    for (const text of texts) if (!this.literal(text)) this.fail(`expected '${text}'`);
  }

  /** Throws AssemblyError at the next token, or at an earlier column. */
  fail(message: string, column = this.column): never {
    throw new AssemblyError(message, { line: this.#line, column, source: this.#source });
  }

  #skip(): void {
    while (this.#at < this.#end && /\s/.test(this.#source.charAt(this.#at))) this.#at++;
  }
}
