/** Where a command writes: text, with colour where that is a terminal, and blocks of lines that are drawn over themselves. */
import type { EventEmitter } from 'node:events';

/** Wraps a text in ANSI codes, or does not. */
export type Paint = (text: string) => string;

/** Paints by meaning. */
export interface Palette {
  readonly bold: Paint;
  readonly dim: Paint;
  readonly red: Paint;
  readonly green: Paint;
  readonly yellow: Paint;
}

/** ANSI colours, or none. */
export function palette(color: boolean): Palette {
  const paint =
    (code: number): Paint =>
    (text) =>
      color ? `\u001b[${code}m${text}\u001b[0m` : text;
  return { bold: paint(1), dim: paint(2), red: paint(31), green: paint(32), yellow: paint(33) };
}

/** One of the process's two outputs. */
export interface Output {
  write(text: string): void;
  /** Undefined, or where the reader is behind a promise to await before more is written; it never rejects. */
  ready(): Promise<void> | undefined;
  /** ANSI colours may be used. */
  readonly color: boolean;
  /** Lines can be drawn over: it is a terminal. */
  readonly live: boolean;
  /** Of the terminal; undefined elsewhere. */
  readonly size: { readonly columns: number; readonly rows: number } | undefined;
  /** Calls `listener` once nobody reads any more, e.g. where `| head` had enough; returns what takes that back. */
  onClosed(listener: () => void): () => void;
}

/** Where a command writes: what it was asked for, and what went wrong. */
export interface Outputs {
  readonly output: Output;
  readonly errors: Output;
}

/** What comes in by the standard input: asked for once, by commands that read it. */
export type Input = () => AsyncIterable<Uint8Array>;

/** The environment, as far as output depends on it. */
export interface OutputEnvironment {
  /** https://no-color.org: any text but the empty one. */
  readonly NO_COLOR?: string | undefined;
  readonly TERM?: string | undefined;
}

/** What an output writes to: `process.stdout` fits. */
export interface OutputStream extends Pick<EventEmitter, 'on'> {
  /** False where the stream wants no more until it says `drain`. */
  write(text: string): boolean;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

/** Puts an output before a stream. Once nobody reads from that, what is written is lost. Throws the stream's other errors. */
export function outputOn(stream: OutputStream, environment: OutputEnvironment): Output {
  const listeners = new Set<() => void>();
  let closed = false;
  let behind: PromiseWithResolvers<void> | undefined;
  const catchUp = (): void => {
    behind?.resolve();
    behind = undefined;
  };
  stream.on('drain', catchUp);
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
    closed = true;
    catchUp();
    for (const listener of listeners) listener();
  });
  const live = stream.isTTY === true && environment.TERM !== 'dumb';
  return {
    write: (text) => {
      if (!closed && !stream.write(text)) behind ??= Promise.withResolvers();
    },
    ready: () => behind?.promise,
    color: live && !environment.NO_COLOR,
    live,
    get size() {
      const { columns, rows } = stream;
      return live && columns && rows ? { columns, rows } : undefined;
    },
    onClosed(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

/** A block of lines that is drawn over itself. */
export class LiveBlock {
  readonly #output: Output;
  #drawn = 0;
  #shown: readonly string[] = [];

  constructor(output: Output) {
    this.#output = output;
  }

  /** Draws the block in the place of the last one, cut to the terminal: what is off the screen cannot be drawn over. */
  draw(lines: readonly string[]): void {
    const { columns = 80, rows = 24 } = this.#output.size ?? {};
    const room = Math.max(1, rows - 1);
    const left = lines.length - room + 1;
    const shown = lines.length > room ? [...lines.slice(0, room - 1), `… ${left} more lines`] : lines;
    this.#write(shown.map((line) => cut(line, columns)));
  }

  /** Writes a line for good, above the block. */
  above(line: string): void {
    const below = this.#shown;
    this.#write([line]);
    this.#drawn = 0;
    this.#write(below);
  }

  /** Draws the whole block for good. */
  end(lines: readonly string[]): void {
    this.#write(lines);
    this.#drawn = 0;
    this.#shown = [];
  }

  #write(lines: readonly string[]): void {
    const back = this.#drawn > 0 ? `\u001b[${this.#drawn}A\u001b[J` : '';
    this.#output.write(back + lines.map((line) => `${line}\n`).join(''));
    this.#drawn = lines.length;
    this.#shown = lines;
  }
}

/** The first `columns` characters that are seen, with what colours them. */
export function cut(line: string, columns: number): string {
  let seen = 0;
  let kept = '';
  let colored = false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ANSI codes start with one
  for (const [part] of line.matchAll(/\u001b\[[\d;]*m|./gu)) {
    const isCode = part.startsWith('\u001b');
    if (!isCode && seen === columns) return colored ? `${kept}\u001b[0m` : kept;
    if (isCode) colored = part !== '\u001b[0m';
    else seen += 1;
    kept += part;
  }
  return kept;
}
