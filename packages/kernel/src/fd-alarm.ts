/** News that a descriptor can be read, by the event loop's own poll. */
import type { RecordAlarm } from '@tailrace/bpf';
import koffi, { type node } from 'koffi';

/** Rings where the descriptor can be read; it has to do so for as long as there are bytes. The process stays alive for it. */
export class FdAlarm implements RecordAlarm, Disposable {
  readonly #fd: number;
  #poll: node.PollHandle | undefined;

  /** `fd` stays the caller's, and open until this is disposed of. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  start(ring: () => void): void {
    const wake = (): void => {
      this.#poll?.stop();
      ring();
    };
    if (this.#poll === undefined) this.#poll = koffi.node.poll(this.#fd, { readable: true }, wake);
    else this.#poll.start({ readable: true }, wake);
  }

  stop(): void {
    this.#poll?.stop();
  }

  [Symbol.dispose](): void {
    this.#poll?.close();
  }
}
