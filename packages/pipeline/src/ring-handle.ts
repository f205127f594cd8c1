/**
 * The handle of a ring buffer or a perf event array: who reads it, and how fast. It has a reader while somebody wants records and
 * none otherwise, so that an idle handle holds neither memory nor the event loop. Reading goes on for a slice of records at
 * most before everything else in the process gets its turn.
 */
import { ArgumentError, DEFAULT_PERF_BYTES, type EngineInstance, type LoadedMap, type RingReader } from '@tailrace/bpf';
import { type AnyMap, type Decoder, decoder, type PerfEventsHandle } from '@tailrace/stage';
import type { Observable, ObservableInput } from 'rxjs';
import { type BeginSlices, broadcast } from './ring-broadcast.ts';
import { consumed } from './ring-consumer.ts';
import { RingIterator } from './ring-iterator.ts';
import { type BeginReading, SLICE } from './ring-source.ts';

/** Bytes that a record takes at least: BPF_RINGBUF_HDR_SZ and one byte, rounded up to 8. */
const LEAST_RECORD = 16;

/** Somebody who reads the ring now. */
interface Reading {
  readonly reader: RingReader;
  readonly onStop: () => void;
}

/** Records of a ring buffer, or events of a perf event array. */
export class RingHandle implements PerfEventsHandle<unknown>, Disposable {
  readonly events$: Observable<unknown>;
  readonly #about: string;
  readonly #loaded: LoadedMap;
  readonly #rings: Pick<EngineInstance, 'openRing'>;
  readonly #decode: Decoder<unknown>;
  readonly #size: number;
  /** Bytes of each CPU's ring, of perf event arrays. */
  readonly #perfBytes: number | undefined;
  readonly #withPacket: boolean;
  #received = 0;
  /** What readers lost that are gone. */
  #lost = 0n;
  #reading: Reading | undefined;
  #stopped = false;

  readonly #exclusively: BeginReading = (onReadable, onStop) => {
    if (this.#stopped) return undefined;
    const reader = this.#begin(onReadable, onStop);
    let box: { readonly value: unknown } | undefined;
    const keep = (view: DataView, offset: number, length: number): void => {
      box = { value: this.#taken(view, offset, length) };
    };
    return {
      next() {
        box = undefined;
        reader.read(1, keep);
        return box;
      },
      arm: () => reader.arm(),
      end: () => this.#end(reader),
    };
  };

  constructor(map: AnyMap, loaded: LoadedMap, rings: Pick<EngineInstance, 'openRing'>) {
    const isPerf = map.type === 'perfEventArray';
    this.#about = `${isPerf ? 'perf event array' : 'ring buffer'} '${map.name}'`;
    this.#perfBytes = isPerf ? (map.perf?.bytes ?? DEFAULT_PERF_BYTES) : undefined;
    this.#withPacket = map.perf?.packet === true;
    this.#loaded = loaded;
    this.#rings = rings;
    this.#decode = decoder(map.value);
    this.#size = map.value.layout.size;
    const slices: BeginSlices = (onReadable, onStop) => {
      if (this.#stopped) return undefined;
      const reader = this.#begin(onReadable, onStop);
      return {
        read: (onEvent) => reader.read(SLICE, (view, offset, length) => onEvent(this.#taken(view, offset, length))),
        arm: () => reader.arm(),
        end: () => this.#end(reader),
      };
    };
    const { maxEntries } = loaded.spec;
    this.events$ = broadcast(slices, (maxEntries * (this.#perfBytes ?? 1)) / LEAST_RECORD);
  }

  get received(): bigint {
    return BigInt(this.#received);
  }

  /** Of ring buffers it is programs that know. */
  get lost(): bigint {
    return this.#lost + (this.#reading?.reader.lost ?? 0n);
  }

  get pending(): number {
    if (this.#reading) return this.#reading.reader.pending;
    if (this.#stopped) throw new ArgumentError(`${this.#about} is closed`);
    // nobody reads, and nothing waits
    if (this.#perfBytes !== undefined) return 0;
    using reader = this.#rings.openRing(this.#loaded, () => undefined);
    return reader.pending;
  }

  // biome-ignore lint/suspicious/noConfusingVoidType: as in RingBufferHandle
  consume<R>(project: (event: unknown) => ObservableInput<R> | void): Observable<R> {
    return consumed(this.#exclusively, project);
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<unknown, undefined, undefined> {
    return new RingIterator(this.#exclusively);
  }

  /** What is still in the ring goes to the subscribers of `events$`; then all end. */
  [Symbol.dispose](): void {
    this.#stopped = true;
    this.#reading?.onStop();
  }

  #taken(view: DataView, offset: number, length: number): unknown {
    if (length < this.#size)
      throw new ArgumentError(`${this.#about}: a record of ${length} bytes, expected ${this.#size}`, {
        hint: 'something else writes to it',
      });
    this.#received += 1;
    const value = this.#decode(view, offset);
    if (!this.#withPacket) return value;
    const from = view.byteOffset + offset;
    return { value, packet: new Uint8Array(view.buffer, from + this.#size, length - this.#size).slice() };
  }

  #begin(onReadable: () => void, onStop: () => void): RingReader {
    if (this.#reading)
      throw new ArgumentError(`${this.#about} is being read, expected nobody`, {
        hint: 'events$ is for any number of subscribers; consume() and iterators want it for themselves',
      });
    const reader = this.#rings.openRing(this.#loaded, onReadable, this.#perfBytes);
    this.#reading = { reader, onStop };
    return reader;
  }

  #end(reader: RingReader): void {
    if (this.#reading?.reader === reader) {
      this.#lost += reader.lost;
      this.#reading = undefined;
    }
    reader.close();
  }
}
