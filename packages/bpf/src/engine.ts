/**
 * What runs a pipeline. The kernel and the userspace engine implement this interface; the pipeline package knows only
 * it. Everything here speaks bytes and specs; types and schemas live above.
 */
import type { MapSpec, UpdateFlag } from './map.ts';
import type { ProgramSpec } from './program.ts';

/** Blueprint of an engine: what `kernel({...})` returns. Opening it touches the machine. */
export interface Engine {
  readonly kind: 'kernel' | 'userspace';
  /**
   * Checks privileges, features and interfaces and makes an instance.
   * Throws PrivilegeError, UnsupportedError or ArgumentError with a hint, leaving nothing behind.
   */
  open(): Promise<EngineInstance>;
}

/** One opened engine: everything made through it is closed with it. */
export interface EngineInstance extends AsyncDisposable {
  readonly kind: Engine['kind'];
  /** Values that a per-CPU map holds for each key (possible CPUs). */
  readonly cpus: number;
  createMap(spec: MapSpec): LoadedMap;
  /** Loads off the main thread. `maps` resolves the names in `spec.mapReferences`. Throws VerifierError. */
  loadProgram(spec: ProgramSpec, maps: ReadonlyMap<string, LoadedMap>): Promise<LoadedProgram>;
  /** Attaches to every interface of this engine, or to none. Foreign programs are never displaced. */
  attach(program: LoadedProgram, hook: 'xdp'): Promise<Attachment>;
  /** Returns once no CPU runs a program that was reachable before the call. */
  gracePeriod(): Promise<void>;
  /** Detaches and closes everything, links first. Idempotent. */
  close(): Promise<void>;
}

/** A live attachment of one program at all interfaces of its engine. */
export interface Attachment {
  readonly interfaces: readonly string[];
  detach(): Promise<void>;
}

/** A live program. */
export interface LoadedProgram {
  readonly spec: ProgramSpec;
  /** Kernel object id, or a number of the engine's own. */
  readonly id: number;
  testRun(options: TestRunOptions): Promise<TestRunResult>;
  close(): void;
}

export interface TestRunOptions {
  /** The packet, from its first byte (at least 14 bytes for the kernel). */
  readonly packet: Uint8Array;
  /** Runs in a row over the same packet memory; default 1. */
  readonly repeat?: number;
}

export interface TestRunResult {
  /** The program's return value, e.g. 2 for XDP_PASS. */
  readonly returnValue: number;
  /** The packet as the program left it. */
  readonly packet: Uint8Array;
  /** Mean duration of a run in ns, as the engine reports it. */
  readonly durationNs: number;
}

/** Keys and values of a batch, concatenated: `count` keys of keySize, `count` values of `valueStride`. */
export interface Batch {
  readonly count: number;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

/**
 * A live map. Keys and values are raw bytes in the map's own layout. For per-CPU kinds a value is
 * `cpus` copies of `valueStride / cpus` bytes each (the value size rounded up to 8).
 */
export interface LoadedMap {
  readonly spec: MapSpec;
  readonly id: number;
  /** Bytes that a value takes in lookup, update and batches. */
  readonly valueStride: number;
  lookup(key: Uint8Array): Uint8Array | undefined;
  /** Throws SyscallError (E2BIG when full, EEXIST or ENOENT by flag). */
  update(key: Uint8Array, value: Uint8Array, flag?: UpdateFlag): void;
  /** False where there was no such key. */
  delete(key: Uint8Array): boolean;
  /** The key after `key`, or the first. */
  nextKey(key?: Uint8Array): Uint8Array | undefined;
  /** All entries, by batches where the kernel has them for this kind. Entries that change meanwhile may be missed. */
  readAll(): Batch;
  updateBatch(batch: Batch): void;
  deleteBatch(keys: Uint8Array, count: number): void;
  /** Program arrays: points a slot at a program. Off the main thread: patching jumps takes up to a millisecond. */
  setProgram(slot: number, program: LoadedProgram): Promise<void>;
  /** Program arrays: empties a slot (about 8 ms). */
  clearProgram(slot: number): Promise<void>;
  close(): void;
}
