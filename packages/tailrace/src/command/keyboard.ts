/** Single keys from a terminal, as they are pressed. */
import type { ReadStream } from 'node:tty';

/** What Ctrl-C comes as where keys come one by one. */
const INTERRUPT = '\u0003';

/** Hands over keys until it is disposed of. Ctrl-C is the signal that it is elsewhere. */
export class Keyboard implements Disposable {
  readonly #input: ReadStream;
  readonly #listener: (keys: string) => void;

  private constructor(input: ReadStream, onKey: (key: string) => void) {
    this.#input = input;
    this.#listener = (keys) => {
      for (const key of keys)
        if (key === INTERRUPT) process.kill(process.pid, 'SIGINT');
        else onKey(key);
    };
    input.setRawMode(true);
    input.setEncoding('utf8');
    input.on('data', this.#listener);
  }

  /** Listens; undefined where the input is no terminal. */
  static of(input: ReadStream, onKey: (key: string) => void): Keyboard | undefined {
    return input.isTTY ? new Keyboard(input, onKey) : undefined;
  }

  [Symbol.dispose](): void {
    this.#input.off('data', this.#listener);
    this.#input.setRawMode(false);
    this.#input.pause();
  }
}
