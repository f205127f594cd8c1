/**
 * The stretch of a capture that is in memory: bytes that came and are not parsed yet. It grows by chunks and gives way
 * record by record. Bytes it has shown are never written again, so what a parser cuts out of it stays valid.
 */

/** The least buffer a window makes for itself. */
const LEAST_CAPACITY = 64 << 10;

/** Unparsed bytes, `bytes[start]` to before `bytes[end]`; parsers move `start`. */
export class ByteWindow {
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(this.bytes.buffer);
  start = 0;
  end = 0;
  /** Where in the capture `bytes[0]` lies. */
  base = 0;
  /** True where `bytes` is the window's own, with room behind `end`. */
  #owned = false;

  /** Bytes that wait. */
  get length(): number {
    return this.end - this.start;
  }

  /** Where in the capture the next byte to parse lies. */
  get offset(): number {
    return this.base + this.start;
  }

  /** Puts a chunk behind what waits. Nothing is copied where nothing waits; the chunk must then stay as it is. */
  append(chunk: Uint8Array): void {
    const waiting = this.length;
    if (waiting === 0) {
      this.base += this.end;
      this.#show(chunk, chunk.length, false);
      return;
    }
    if (!this.#owned || this.end + chunk.length > this.bytes.length) {
      // twice what waits, so that a long record made of short chunks is not copied for each of them
      const capacity = Math.max(waiting + chunk.length, 2 * waiting, LEAST_CAPACITY);
      const grown = Buffer.allocUnsafeSlow(capacity);
      grown.set(this.bytes.subarray(this.start, this.end));
      this.base += this.start;
      this.#show(grown, waiting, true);
    }
    this.bytes.set(chunk, this.end);
    this.end += chunk.length;
  }

  #show(bytes: Uint8Array, end: number, owned: boolean): void {
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.start = 0;
    this.end = end;
    this.#owned = owned;
  }
}
