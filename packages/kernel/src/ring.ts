/**
 * Kernel ring buffers (kernel/bpf/ringbuf.c at v6.18): one page that says how far we have read, one that says how far
 * programs have come, and the data, mapped twice in a row so that a record never breaks off at the end.
 *
 *     consumer page (read and write) | producer page, data, data again (read only)
 *     record: [ length: u32, busy and discard as its top bits | page offset: u32 | bytes, rounded up to 8 ]
 *
 * Positions count bytes for ever; the lower 32 bits are enough to tell them apart.
 */
import { ArgumentError, type RecordListener, type RingReader } from '@tailrace/bpf';
import koffi, { type node } from 'koffi';
import type { KernelMap } from './map.ts';
import { type Mapping, mapMemory, pageSize } from './mapping.ts';
import { closeFd, syscall } from './syscall.ts';

const F_DUPFD_CLOEXEC = 1030;
/** BPF_RINGBUF_DISCARD_BIT; BPF_RINGBUF_BUSY_BIT is the sign. */
const DISCARD = 1 << 30;
const LENGTH = DISCARD - 1;
/** BPF_RINGBUF_HDR_SZ. */
const HEADER_BYTES = 8;
const HALF = 1n << 32n;
/** Records between two times that the kernel is told how far we are, so that a long read frees places as it goes. */
const RELEASE_EVERY = 64;

/** Reads one ring buffer. Made by `KernelInstance.openRing`. */
export class KernelRing implements RingReader {
  readonly #about: string;
  readonly #fd: number;
  readonly #onReadable: () => void;
  readonly #consumerPage: Mapping;
  readonly #rest: Mapping;
  readonly #consumed: BigUint64Array;
  /** Its lower half, which is all that changes but once in 4 GiB. */
  readonly #consumedLow: Int32Array;
  readonly #produced: Int32Array;
  readonly #headers: Int32Array;
  readonly #view: DataView;
  /** Offset of the data in `#rest`. */
  readonly #start: number;
  readonly #mask: number;
  /** Lower halves, signed: where we are, and where the kernel knows us. */
  #position: number;
  #released: number;
  #reading = false;
  #closed = false;
  #poll: node.PollHandle | undefined;
  #armed = false;
  #call: NodeJS.Immediate | undefined;

  /** Throws SyscallError, leaving nothing open. */
  constructor(map: KernelMap, onReadable: () => void) {
    this.#about = `ring buffer ${map.spec.name}`;
    this.#onReadable = onReadable;
    const page = pageSize();
    const { maxEntries: bytes } = map.spec;
    using undo = new DisposableStack();
    // A descriptor of its own: polling must not outlive the number.
    this.#fd = syscall('fcntl', this.#about, map.fd, F_DUPFD_CLOEXEC, 0);
    undo.defer(() => closeFd(this.#fd));
    this.#consumerPage = mapMemory(this.#fd, { offset: 0, length: page, writable: true }, this.#about);
    undo.defer(() => this.#consumerPage.unmap());
    this.#rest = mapMemory(this.#fd, { offset: page, length: page + 2 * bytes, writable: false }, this.#about);
    this.#consumed = new BigUint64Array(this.#consumerPage.buffer, 0, 1);
    this.#consumedLow = new Int32Array(this.#consumerPage.buffer, 0, 1);
    this.#produced = new Int32Array(this.#rest.buffer, 0, 1);
    this.#headers = new Int32Array(this.#rest.buffer);
    this.#view = new DataView(this.#rest.buffer);
    this.#start = page;
    this.#mask = bytes - 1;
    this.#position = Atomics.load(this.#consumedLow, 0);
    this.#released = this.#position;
    undo.move();
  }

  get closed(): boolean {
    return this.#closed;
  }

  get pending(): number {
    this.#checkOpen();
    return (Atomics.load(this.#produced, 0) - this.#position) >>> 0;
  }

  read(limit: number, onRecord: RecordListener): number {
    this.#checkOpen();
    if (this.#reading) throw new ArgumentError(`${this.#about} is read by its own listener`);
    this.#reading = true;
    let count = 0;
    try {
      const end = Atomics.load(this.#produced, 0);
      while (count < limit && this.#position !== end) {
        const at = this.#start + (this.#position & this.#mask);
        const header = Atomics.load(this.#headers, at >>> 2);
        if (header < 0) break;
        const length = header & LENGTH;
        this.#position = (this.#position + ((HEADER_BYTES + length + 7) & ~7)) | 0;
        if ((header & DISCARD) !== 0) continue;
        count += 1;
        onRecord(this.#view, at + HEADER_BYTES, length);
        if (this.#closed) break;
        if (count % RELEASE_EVERY === 0) this.#release();
      }
    } finally {
      this.#reading = false;
      if (!this.#closed) this.#release();
    }
    return count;
  }

  arm(): void {
    this.#checkOpen();
    if (this.#armed) return;
    this.#armed = true;
    const wake = (): void => this.#wake();
    // The kernel reports bytes for as long as there are some, so that one call a time loses none.
    if (this.#poll === undefined) this.#poll = koffi.node.poll(this.#fd, { readable: true }, wake);
    else this.#poll.start({ readable: true }, wake);
  }

  disarm(): void {
    if (!this.#armed) return;
    this.#armed = false;
    this.#poll?.stop();
    clearImmediate(this.#call);
  }

  close(): void {
    if (this.#closed) return;
    this.disarm();
    this.#release();
    this.#closed = true;
    this.#poll?.close();
    this.#rest.unmap();
    this.#consumerPage.unmap();
    closeFd(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The poll's callback comes from outside of the event loop's care: promises and errors need a turn of the loop's own. */
  #wake(): void {
    this.#poll?.stop();
    this.#call = setImmediate(() => {
      this.#armed = false;
      this.#onReadable();
    });
  }

  /** Lets the kernel have the places of what was read. The store comes after all loads of them. */
  #release(): void {
    const [from, to] = [this.#released >>> 0, this.#position >>> 0];
    if (to < from) Atomics.store(this.#consumed, 0, ((Atomics.load(this.#consumed, 0) >> 32n) + 1n) * HALF + BigInt(to));
    else if (to > from) Atomics.store(this.#consumedLow, 0, this.#position);
    this.#released = this.#position;
  }

  #checkOpen(): void {
    if (this.#closed) throw new ArgumentError(`the reader of ${this.#about} is closed`);
  }
}
