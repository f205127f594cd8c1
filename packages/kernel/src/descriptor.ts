/**
 * A file descriptor with one owner. Calls on pool threads hold it: closing waits for them, so that the number cannot be
 * given to another file while a queued call still names it.
 */
import { ArgumentError } from '@tailrace/bpf';
import { closeFd } from './syscall.ts';

/** Owns one fd; closing twice is harmless, using it afterwards throws. */
export class Descriptor implements Disposable {
  readonly #fd: number;
  readonly #what: string;
  #holders = 0;
  #closed = false;

  /** `what` names the object in errors, e.g. `map l4lb/conns`. */
  constructor(fd: number, what: string) {
    this.#fd = fd;
    this.#what = what;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The number. Throws ArgumentError once closed. */
  get fd(): number {
    if (this.#closed) throw new ArgumentError(`${this.#what} is closed`);
    return this.#fd;
  }

  /** Keeps the fd open until the promise of `work` settles. */
  async hold<T>(work: (fd: number) => Promise<T>): Promise<T> {
    const { fd } = this;
    this.#holders += 1;
    try {
      return await work(fd);
    } finally {
      this.#holders -= 1;
      if (this.#closed && this.#holders === 0) closeFd(fd);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#holders === 0) closeFd(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
