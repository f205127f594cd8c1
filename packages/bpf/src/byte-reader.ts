/** Little-endian bytes of a file, read with a check on every bound: what lies outside is an ElfError with its place. */
import { ElfError } from './errors.ts';

/** Bytes of the longest name; longer ones are taken for damage. */
export const MAX_NAME = 4096;

const decoder = new TextDecoder();

/** A stretch of bytes with a name, which errors carry. All methods throw ElfError. */
export class ByteReader {
  /** The section that these bytes are. */
  readonly section: string;
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(section: string, bytes: Uint8Array) {
    this.section = section;
    // A Buffer's slices share memory, those of plain bytes are copies.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.bytes.length;
  }

  u8(at: number): number {
    this.check(at, 1);
    return this.#view.getUint8(at);
  }

  u16(at: number): number {
    this.check(at, 2);
    return this.#view.getUint16(at, true);
  }

  u32(at: number): number {
    this.check(at, 4);
    return this.#view.getUint32(at, true);
  }

  i32(at: number): number {
    this.check(at, 4);
    return this.#view.getInt32(at, true);
  }

  /** A 64-bit size or offset. */
  size(at: number): number {
    this.check(at, 8);
    const value = this.#view.getBigUint64(at, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.fault(`${value} is larger than any file`, at);
    return Number(value);
  }

  /** A stretch of these bytes; no copy. */
  slice(at: number, length: number): Uint8Array {
    this.check(at, length);
    return this.bytes.subarray(at, at + length);
  }

  /** A zero-terminated string. */
  text(at: number, most = MAX_NAME): string {
    this.check(at, 1);
    const end = this.bytes.subarray(at, at + most + 1).indexOf(0);
    if (end < 0) throw this.fault(`a string without its end, expected a zero byte within ${most}`, at);
    return end === 0 ? '' : decoder.decode(this.bytes.subarray(at, at + end));
  }

  /** Throws where so many bytes are not there. */
  check(at: number, length: number): void {
    if (at + length > this.bytes.length || at < 0 || length < 0)
      throw this.fault(`${length} bytes wanted, the end is at ${this.bytes.length}`, at);
  }

  fault(message: string, offset?: number): ElfError {
    return new ElfError(this.section, message, { offset });
  }
}
