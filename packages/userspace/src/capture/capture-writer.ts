/**
 * Writing of captures: pcap files of Ethernet frames, as `tcpdump -w` makes them, to a path or a stream.
 */
import type { Writable } from 'node:stream';
import { ArgumentError } from '@tailrace/bpf';
import { type ByteSink, fileSink, streamSink } from './byte-sink.ts';
import { CaptureError, reasonOf } from './capture-error.ts';
import { LinkType } from './link-layer.ts';
import { MAX_SNAP_LENGTH, PCAP_HEADER, PCAP_RECORD_HEADER, PcapMagic } from './pcap.ts';

/** How a capture is written. */
export interface CaptureWriterOptions {
  /** What a timestamp is cut to; nanoseconds unless said. */
  readonly precision?: 'nanoseconds' | 'microseconds';
  /** Packets are cut to this many bytes, 1 to 262144, which is the default and the most that readers take. */
  readonly snapLength?: number;
}

/** What is gathered before it is written. */
const BUFFER = 256 << 10;
/** Callers are asked to wait while more than this is on its way. */
const HIGH_WATER = 4 * BUFFER;

const NS_PER_SECOND = 1_000_000_000n;
/** The first nanosecond behind a pcap file's 32 bits of seconds. */
const END_OF_TIME = NS_PER_SECOND << 32n;

/**
 * Writes one capture. An error of the file or stream comes out of the call after it, when the file is closed already; `close`
 * tells of one that no other call has told of.
 */
export class CaptureWriter implements AsyncDisposable {
  readonly #sink: ByteSink;
  readonly #name: string;
  readonly #snapLength: number;
  readonly #nsPerUnit: bigint;
  #buffer = Buffer.allocUnsafeSlow(BUFFER);
  #view = new DataView(this.#buffer.buffer);
  #used = 0;
  #packets = 0;
  /** Bytes that the sink has taken, and those given to it that it has not. */
  #written = 0;
  #waiting = 0;
  /** Settles when all that was given to the sink is out; rejects never. */
  #tail: Promise<void> = Promise.resolve();
  #failure: CaptureError | undefined;
  #told = false;
  #closing: Promise<void> | undefined;
  #second = -1n;
  #secondNs = 0n;

  private constructor(sink: ByteSink, name: string, options: CaptureWriterOptions) {
    const { precision = 'nanoseconds', snapLength = MAX_SNAP_LENGTH } = options;
    this.#sink = sink;
    this.#name = name;
    this.#snapLength = snapLength;
    this.#nsPerUnit = precision === 'nanoseconds' ? 1n : 1000n;
    this.#view.setUint32(0, PcapMagic[precision], true);
    this.#view.setUint16(4, 2, true);
    this.#view.setUint16(6, 4, true);
    this.#view.setUint32(8, 0, true);
    this.#view.setUint32(12, 0, true);
    this.#view.setUint32(16, snapLength, true);
    this.#view.setUint32(20, LinkType.ethernet, true);
    this.#used = PCAP_HEADER;
  }

  /**
   * Begins a capture in a file, which is emptied if it is there, or in a stream, which is the writer's from here on.
   * @throws CaptureError if the file cannot be made; ArgumentError for options out of range.
   */
  static async open(target: string | URL | Writable, options: CaptureWriterOptions = {}): Promise<CaptureWriter> {
    checkOptions(options);
    if (typeof target !== 'string' && !(target instanceof URL)) {
      if (typeof target?.write === 'function' && typeof target.end === 'function') {
        return new CaptureWriter(streamSink(target), 'capture', options);
      }
      throw new ArgumentError(`cannot write a capture to ${typeof target}, expected a path or a writable stream`);
    }
    try {
      return new CaptureWriter(await fileSink(target), `capture ${target}`, options);
    } catch (cause) {
      throw new CaptureError({ offset: 0, record: undefined }, `cannot create capture ${target}: ${reasonOf(cause)}`, { cause });
    }
  }

  /** Packets that were given to `write`. */
  get packets(): number {
    return this.#packets;
  }

  /**
   * Adds an Ethernet frame, whose bytes are copied. Returns undefined, or a promise to await before more is written, when the
   * file or stream is behind; that never rejects, and `await writer.write(…)` is always right. `originalLength` is the length on the wire, if `bytes`
   * are not all of it.
   * @throws CaptureError if the file or stream has failed or is closed; ArgumentError for a time that pcap cannot hold
   * (before 1970, after 2106) or an original length that is less than that of `bytes`.
   */
  write(bytes: Uint8Array, timestampNs: bigint, originalLength: number = bytes.length): Promise<void> | undefined {
    if (this.#failure !== undefined) throw this.#tell(this.#failure);
    if (this.#closing !== undefined) throw this.#error('it is closed');
    if (typeof timestampNs !== 'bigint' || timestampNs < 0n || timestampNs >= END_OF_TIME) {
      throw new ArgumentError(`a timestamp of ${timestampNs} ns, expected a bigint from 0 to ${END_OF_TIME - 1n}`);
    }
    if (!Number.isInteger(originalLength) || originalLength < bytes.length || originalLength > 0xffff_ffff) {
      throw new ArgumentError(`an original length of ${originalLength}, expected a whole number from ${bytes.length} to ${0xffff_ffff}`);
    }
    const captured = Math.min(bytes.length, this.#snapLength);
    const size = PCAP_RECORD_HEADER + captured;
    if (this.#used + size > this.#buffer.length) {
      this.#send();
      this.#allocate(Math.max(BUFFER, size));
    }
    const at = this.#used;
    if (timestampNs < this.#secondNs || timestampNs - this.#secondNs >= NS_PER_SECOND || this.#second < 0n) {
      this.#second = timestampNs / NS_PER_SECOND;
      this.#secondNs = this.#second * NS_PER_SECOND;
    }
    this.#view.setUint32(at, Number(this.#second), true);
    this.#view.setUint32(at + 4, Number((timestampNs - this.#secondNs) / this.#nsPerUnit), true);
    this.#view.setUint32(at + 8, captured, true);
    this.#view.setUint32(at + 12, originalLength, true);
    this.#buffer.set(captured < bytes.length ? bytes.subarray(0, captured) : bytes, at + PCAP_RECORD_HEADER);
    this.#used += size;
    this.#packets++;
    return this.#waiting > HIGH_WATER ? this.#tail : undefined;
  }

  /** Hands on what is gathered; resolves when the file or stream has taken it. @throws CaptureError as `write` */
  async flush(): Promise<void> {
    if (this.#failure !== undefined) throw this.#tell(this.#failure);
    if (this.#closing !== undefined) throw this.#error('it is closed');
    if (this.#used > 0) {
      this.#send();
      this.#allocate(BUFFER);
    }
    await this.#tail;
    if (this.#failure !== undefined) throw this.#tell(this.#failure);
  }

  /**
   * Writes what is left and closes the file or ends the stream; a second call waits for the first.
   * @throws CaptureError if that fails, or something failed before and no call has told of it.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    if (this.#used > 0) this.#send();
    await this.#tail;
    if (this.#failure === undefined) await this.#sink.close().catch((cause: unknown) => this.#fail(cause));
    if (this.#failure !== undefined && !this.#told) throw this.#tell(this.#failure);
  }

  #allocate(size: number): void {
    this.#buffer = Buffer.allocUnsafeSlow(size);
    this.#view = new DataView(this.#buffer.buffer);
  }

  /** Queues the buffer for the sink and leaves none: the caller allocates. */
  #send(): void {
    const bytes = this.#buffer.subarray(0, this.#used);
    this.#used = 0;
    this.#waiting += bytes.length;
    this.#tail = this.#tail.then(async () => {
      if (this.#failure === undefined) {
        try {
          await this.#sink.write(bytes);
          this.#written += bytes.length;
        } catch (cause) {
          await this.#fail(cause);
        }
      }
      this.#waiting -= bytes.length;
    });
  }

  async #fail(cause: unknown): Promise<void> {
    await this.#sink.abandon();
    this.#failure ??= this.#error(reasonOf(cause), cause);
  }

  #error(reason: string, cause?: unknown): CaptureError {
    const place = { offset: this.#written, record: undefined };
    return new CaptureError(place, `cannot write ${this.#name} at byte ${this.#written}: ${reason}`, { cause });
  }

  #tell(failure: CaptureError): CaptureError {
    this.#told = true;
    return failure;
  }
}

function checkOptions({ precision, snapLength }: CaptureWriterOptions): void {
  if (precision !== undefined && precision !== 'nanoseconds' && precision !== 'microseconds') {
    throw new ArgumentError(`precision of a capture must be nanoseconds or microseconds, got ${precision}`);
  }
  if (snapLength !== undefined && !(Number.isInteger(snapLength) && snapLength >= 1 && snapLength <= MAX_SNAP_LENGTH)) {
    throw new ArgumentError(`snapLength of a capture must be a whole number from 1 to ${MAX_SNAP_LENGTH}, got ${snapLength}`);
  }
}
