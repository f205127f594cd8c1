/**
 * Maps of the userspace engine: a descriptor and values in its memory, on which the runtime works, and what only the engine
 * knows of one: the programs and maps that are its values. Answers are the kernel's, errors and all.
 */
import {
  ArgumentError,
  type Batch,
  checkMapSpec,
  type Detachable,
  Errno,
  isMapOfMaps,
  isPerCpu,
  joinBatches,
  type LoadedMap,
  type LoadedProgram,
  type MapSpec,
  type MapType,
  type ProgramSpec,
  type SyscallError,
  specOnHost,
  UpdateFlag,
} from '@tailrace/bpf';
import { Held, HeldProgram } from './held.ts';
import { InnerMaps } from './inner-maps.ts';
import { MAP_DESCRIPTOR_SIZE, MAP_PROGRAMS, MAP_SHARED } from './layout.ts';
import { Linker, type SlotArray } from './linker.ts';
import { readParts } from './map-batch.ts';
import { clearRegion, describeMap, writeRegion } from './map-descriptor.ts';
import { type MapCommand, mapError } from './map-error.ts';
import type { EngineMemory } from './memory.ts';
import type { SocketProgram } from './socket-program.ts';
import { type DataHook, SocketSlots } from './socket-slots.ts';
import { tapAt } from './socket-table.ts';
import type { SocketTap } from './socket-tap.ts';

/** Hashes of a bloom filter, unless its spec says otherwise. */
const DEFAULT_HASHES = 5;

/** Kinds that the kernel updates by batches, whose failures say how far they came. */
const BATCHED: ReadonlySet<MapType> = new Set(['array', 'hash', 'perCpuArray', 'perCpuHash', 'lruHash', 'lruPerCpuHash', 'lpmTrie']);

/** A live map. Bytes in and out are copies. Using it after `close` throws ArgumentError. */
export class UserspaceMap extends Held implements LoadedMap, SlotArray {
  readonly spec: MapSpec;
  readonly id: number;
  readonly valueStride: number;
  /** Address of its descriptor. */
  readonly address: number;
  /** Tag of pointers to its values. */
  readonly tag: number;
  protected readonly about: string;
  readonly #memory: EngineMemory;
  readonly #linker: Linker;
  readonly #bytes: number;
  /** Program arrays: programs by slot. */
  readonly #programs = new Map<number, HeldProgram>();
  readonly #inner = new InnerMaps<UserspaceMap>();
  /** Maps of sockets: the sockets under its keys. */
  readonly #sockets: SocketSlots | undefined;
  #owner: ProgramSpec | undefined;
  #version = 0;

  /**
   * Throws ArgumentError for what the kind does not take, SyscallError (ENOMEM, ENOSPC), leaving nothing behind. `isShared`: several threads work on it at a time. `linker` has the chains that may run through it.
   */
  constructor(memory: EngineMemory, given: MapSpec, id: number, cpus: number, isShared = cpus > 1, linker = new Linker()) {
    super();
    checkMapSpec(given);
    const spec = specOnHost(given, cpus);
    this.about = `map ${spec.name}`;
    this.spec = spec;
    this.id = id;
    this.valueStride = isPerCpu(spec.type) ? Math.ceil(spec.valueSize / 8) * 8 * cpus : spec.valueSize;
    this.#memory = memory;
    this.#linker = linker;
    if (isMapOfSockets(spec.type))
      this.#sockets = new SocketSlots((key) => void memory.runtime.map_delete(this.address, this.#place(key)[0]));
    using undo = new DisposableStack();
    this.tag = memory.takeTag(this.about);
    undo.defer(() => memory.freeTag(this.tag));
    this.address = memory.allocate(MAP_DESCRIPTOR_SIZE, 64, this.about);
    undo.defer(() => memory.free(this.address));
    describeMap(memory, this, isPerCpu(spec.type) ? cpus : 1, isShared);
    const extra = spec.extra ?? DEFAULT_HASHES;
    this.#bytes = memory.allocate(memory.runtime.map_bytes(this.address, extra), 64, this.about);
    memory.runtime.map_init(this.address, this.#bytes, extra, crypto.getRandomValues(new BigUint64Array(1))[0] as bigint);
    writeRegion(memory, this);
    undo.move();
  }

  /** A u32 of the descriptor. */
  field(offset: number): number {
    return this.#memory.view.getUint32(this.address + offset, true);
  }

  /** Program arrays: what is in their slots. */
  get programs(): ReadonlyMap<number, HeldProgram> {
    return this.#programs;
  }

  /** Program arrays: another number after each change of a slot. */
  get version(): number {
    return this.#version;
  }

  lookup(key: Uint8Array): Uint8Array | undefined {
    const { type } = this.spec;
    const { runtime } = this.#memory;
    const [at, , value] = this.#place(key);
    if (type === 'bloomFilter') throw new ArgumentError(`${this.about} is a bloomFilter and gives no values`, { hint: 'use has' });
    if (type === 'queue' || type === 'stack') return this.#taken('BPF_MAP_LOOKUP_ELEM', runtime.map_peek(this.address, value), value);
    if (type === 'ringBuffer' || type === 'perfEventArray') throw this.#error('BPF_MAP_LOOKUP_ELEM', Errno.ENOTSUPP);
    // As the kernel has it: only programs see what is in there.
    if (type === 'xskmap') throw this.#error('BPF_MAP_LOOKUP_ELEM', Errno.EOPNOTSUPP);
    if (type === 'programArray' || isMapOfMaps(type)) return this.#idAt(at, value);
    // As the kernel has it: what stands for a socket has 8 bytes.
    if (isMapOfSockets(type) && this.spec.valueSize !== 8) throw this.#error('BPF_MAP_LOOKUP_ELEM', Errno.ENOSPC);
    return runtime.map_read(this.address, at, value) === 0 ? undefined : this.#valueAt(value);
  }

  update(key: Uint8Array, value: Uint8Array, flag: UpdateFlag = 'any'): void {
    const result = this.#write(key, value, flag);
    if (result < 0) throw this.#error('BPF_MAP_UPDATE_ELEM', -result);
  }

  delete(key: Uint8Array): boolean {
    const { type } = this.spec;
    if (type === 'perfEventArray') throw this.#holdsEvents();
    const [at] = this.#place(key);
    if (type !== 'programArray' && !isMapOfMaps(type)) {
      const wasThere = this.#delete(at, 'BPF_MAP_DELETE_ELEM', this.about);
      this.#sockets?.drop(key);
      return wasThere;
    }
    const result = this.#clear(at);
    if (result < 0 && result !== -Errno.ENOENT) throw this.#error('BPF_MAP_DELETE_ELEM', -result);
    return result === 0;
  }

  nextKey(key?: Uint8Array): Uint8Array | undefined {
    const [at, next] = key ? this.#place(key) : this.#place(new Uint8Array(this.spec.keySize));
    const result = this.#memory.runtime.map_next_key(this.address, key ? at : 0, next);
    if (result === 0) return this.#memory.u8.slice(next, next + this.spec.keySize);
    if (result === -Errno.ENOENT) return undefined;
    throw this.#error('BPF_MAP_GET_NEXT_KEY', -result);
  }

  readAll(): Batch {
    this.#checkReadable();
    return joinBatches([...this.#parts(this.field(MAP_SHARED) === 1)]);
  }

  readParts(): Iterable<Batch> {
    this.#checkReadable();
    return this.#parts(true);
  }

  #checkReadable(): void {
    this.checkOpen();
    const { type, keySize } = this.spec;
    if (keySize === 0) throw new ArgumentError(`${this.about} is a ${type} and has no keys to read by`);
    if (type === 'perfEventArray') throw this.#error('BPF_MAP_LOOKUP_ELEM', Errno.ENOTSUPP);
    if (type === 'xskmap') throw this.#error('BPF_MAP_LOOKUP_ELEM', Errno.EOPNOTSUPP);
  }

  *#parts(mayChange: boolean): Generator<Batch> {
    const { type } = this.spec;
    const holdsObjects = type === 'programArray' || isMapOfMaps(type);
    for (const part of readParts(this.#memory, this, mayChange)) {
      const values = new DataView(part.values.buffer);
      if (holdsObjects) for (let i = 0; i < part.count; i++) values.setUint32(4 * i, this.#idOf(values.getUint32(4 * i, true)), true);
      yield part;
      this.checkOpen();
    }
  }

  updateBatch(batch: Batch): void {
    const { keySize, type } = this.spec;
    checkLength(`keys of a batch for ${this.about}`, batch.keys, batch.count * keySize);
    checkLength(`values of a batch for ${this.about}`, batch.values, batch.count * this.valueStride);
    this.checkOpen();
    for (let index = 0; index < batch.count; index += 1) {
      const result = this.#write(part(batch.keys, index, keySize), part(batch.values, index, this.valueStride), 'any');
      if (result >= 0) continue;
      if (!BATCHED.has(type)) throw this.#error('BPF_MAP_UPDATE_ELEM', -result);
      throw mapError('BPF_MAP_UPDATE_BATCH', -result, `${this.about} (${index} of ${batch.count} entries written)`);
    }
  }

  deleteBatch(keys: Uint8Array, count: number): number {
    const { keySize, type } = this.spec;
    checkLength(`keys of a batch for ${this.about}`, keys, count * keySize);
    this.checkOpen();
    let deleted = 0;
    for (let index = 0; index < count; index += 1) {
      const key = part(keys, index, keySize);
      const isBatch = BATCHED.has(type) && type !== 'array' && type !== 'perCpuArray';
      const about = `${this.about} (${index} of ${count} keys passed)`;
      if (isBatch ? this.#delete(this.#place(key)[0], 'BPF_MAP_DELETE_BATCH', about) : this.delete(key)) deleted += 1;
    }
    return deleted;
  }

  pop(): Uint8Array | undefined {
    const { type } = this.spec;
    if (type !== 'queue' && type !== 'stack') throw new ArgumentError(`${this.about} is a ${type}, nothing can be taken out of it`);
    const [, , value] = this.#place(new Uint8Array(0));
    return this.#taken('BPF_MAP_LOOKUP_AND_DELETE_ELEM', this.#memory.runtime.map_pop(this.address, value), value);
  }

  has(value: Uint8Array): boolean {
    if (this.spec.type !== 'bloomFilter') throw new ArgumentError(`${this.about} is a ${this.spec.type} and no bloom filter`);
    const [, , at] = this.#place(new Uint8Array(0), value);
    return this.#memory.runtime.map_peek(this.address, at) === 0n;
  }

  async setProgram(slot: number, program: LoadedProgram): Promise<void> {
    this.#checkSlot(slot);
    const { name } = program.spec;
    if (!(program instanceof HeldProgram)) throw new ArgumentError(`program ${name} was not loaded by the userspace engine`);
    if (program.memory !== this.#memory) throw new ArgumentError(`program ${name} was loaded by another userspace engine`);
    this.checkOpen();
    this.admit(program.spec, `slot ${slot} of ${this.about}, program ${name}`);
    program.hold();
    try {
      await this.#linker.change({ array: this, slot, program });
    } catch (error) {
      program.release();
      throw error;
    }
  }

  async clearProgram(slot: number): Promise<void> {
    this.#checkSlot(slot);
    this.checkOpen();
    await this.#linker.change({ array: this, slot, program: undefined });
  }

  put(slot: number, program: HeldProgram | undefined): void {
    const [at, , value] = this.#place(u32(slot), u32(program?.id ?? 0));
    if (program) this.#memory.runtime.map_update_entry(this.address, at, value, UpdateFlag.any);
    else this.#memory.runtime.map_delete(this.address, at);
    this.#keep(slot, program);
  }

  async setMap(key: Uint8Array, map: LoadedMap): Promise<void> {
    this.#checkOuter(key);
    if (!(map instanceof UserspaceMap)) throw new ArgumentError(`map ${map.spec.name} was not made by the userspace engine`);
    if (map.#memory !== this.#memory) throw new ArgumentError(`map ${map.spec.name} was made by another userspace engine`);
    this.checkOpen();
    map.checkOpen();
    const about = `${this.about}, inner map ${map.spec.name}`;
    if (!isAlike(this.spec.inner as MapSpec, map.spec)) {
      const hint = 'an inner map must be of the kind, sizes and flags that the outer map was made for';
      throw mapError('BPF_MAP_UPDATE_ELEM', Errno.EINVAL, about, hint);
    }
    const [at, , value] = this.#place(key, u32(map.address));
    const before = this.#u32At(this.#memory.runtime.map_entry(this.address, at));
    const result = this.#memory.runtime.map_update_entry(this.address, at, value, UpdateFlag.any);
    if (result < 0) throw mapError('BPF_MAP_UPDATE_ELEM', -result, about);
    this.#inner.keep(map);
    this.#inner.drop(before);
  }

  async clearMap(key: Uint8Array): Promise<boolean> {
    this.#checkOuter(key);
    const [at] = this.#place(key);
    return this.#clear(at) === 0;
  }

  /** Maps of sockets: gives those that come in from now on a program. Throws ArgumentError for other maps. */
  attachToSockets(hook: DataHook, program: SocketProgram): Detachable {
    const sockets = this.#sockets;
    this.checkOpen();
    if (sockets === undefined) throw new ArgumentError(`${this.about} is no map of sockets of the userspace engine`);
    sockets.attach(hook, program);
    this.#describePrograms(sockets);
    return {
      detach: async () => {
        if (this.closed) return;
        sockets.detach(hook, program);
        this.#describePrograms(sockets);
      },
    };
  }

  /** Maps of sockets: a program of events has put a socket under a key, which is in memory already. */
  adoptSocket(key: Uint8Array, tap: SocketTap): void {
    this.#sockets?.put(key, tap, () => 0);
  }

  #describePrograms(sockets: SocketSlots): void {
    this.#memory.view.setUint32(this.address + MAP_PROGRAMS, sockets.programs, true);
  }

  /**
   * Program arrays: what all programs that name or fill one must have in common, the first of them decides. Throws
   * SyscallError (EINVAL) for others.
   */
  admit(program: ProgramSpec, about = `${this.about}, program ${program.name}`): void {
    this.#owner ??= program;
    if (this.#owner.type === program.type && this.#owner.frags === program.frags) return;
    const hint = 'programs that name or fill one program array must agree on type, frags flag and expected attach type';
    throw mapError('BPF_MAP_UPDATE_ELEM', Errno.EINVAL, about, hint);
  }

  /** A program array is emptied then, as the kernel does it, and so are maps of sockets: its programs may be those that hold it. */
  override close(): void {
    if (this.closed) return;
    this.#sockets?.close();
    if (this.spec.type === 'programArray') for (const slot of [...this.#programs.keys()]) this.#clear(this.#place(u32(slot))[0]);
    super.close();
  }

  protected override dispose(): void {
    this.#inner.dropAll();
    clearRegion(this.#memory, this);
    this.#memory.free(this.#bytes);
    this.#memory.free(this.address);
    this.#memory.freeTag(this.tag);
  }

  /** Copies key and value to where the runtime can read them; places of the key, of another one and of a value. */
  #place(key: Uint8Array, value?: Uint8Array): readonly [key: number, next: number, value: number] {
    const { keySize } = this.spec;
    checkLength(`a key of ${this.about}`, key, keySize);
    if (value) checkLength(`a value of ${this.about}`, value, this.valueStride);
    this.checkOpen();
    const room = Math.ceil(keySize / 8) * 8;
    const at = this.#memory.scratch(2 * room + this.valueStride + 8);
    this.#memory.u8.set(key, at);
    if (value) this.#memory.u8.set(value, at + 2 * room);
    return [at, at + room, at + 2 * room];
  }

  #write(key: Uint8Array, value: Uint8Array, flag: UpdateFlag): number {
    const { type, keySize } = this.spec;
    if (type === 'programArray') {
      throw new ArgumentError(`${this.about} holds programs, not bytes`, { hint: 'use setProgram and clearProgram' });
    }
    if (isMapOfMaps(type)) throw new ArgumentError(`${this.about} holds maps, not bytes`, { hint: 'use setMap and clearMap' });
    if (type === 'perfEventArray') throw this.#holdsEvents();
    if (this.#sockets) return this.#writeSocket(this.#sockets, key, value, flag);
    const [at, , place] = this.#place(key, value);
    const { runtime } = this.#memory;
    if (keySize === 0 && type !== 'ringBuffer') return Number(runtime.map_push(this.address, place, BigInt(UpdateFlag[flag])));
    if (flag !== 'any' && (type === 'devmap' || type === 'devmapHash' || type === 'cpumap')) {
      // First of all, whatever the key and value are.
      const isThere = runtime.map_entry(this.address, at) !== 0;
      if (isThere !== (flag === 'exist')) return -(isThere ? Errno.EEXIST : Errno.ENOENT);
      return this.#write(key, value, 'any');
    }
    if (type === 'devmapHash' && !isDevice(value)) return -Errno.EINVAL;
    return runtime.map_update_entry(this.address, at, place, UpdateFlag[flag]);
  }

  #writeSocket(sockets: SocketSlots, key: Uint8Array, value: Uint8Array, flag: UpdateFlag): number {
    checkLength(`a value of ${this.about}`, value, this.valueStride);
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    const tap = value.length === 8 && view.getUint32(4, true) !== 0 ? undefined : tapAt(view.getUint32(0, true));
    const refused = (errno: number, hint: string): SyscallError => mapError('BPF_MAP_UPDATE_ELEM', errno, this.about, hint);
    if (tap === undefined) throw refused(Errno.EBADF, 'no socket has that number: take it from socketNumber(socket)');
    if (tap.refusal !== undefined) throw refused(Errno.EOPNOTSUPP, tap.refusal);
    return sockets.put(key, tap, () => {
      const [at, , place] = this.#place(key, value);
      return this.#memory.runtime.map_update_entry(this.address, at, place, UpdateFlag[flag]);
    });
  }

  #delete(at: number, command: MapCommand, about: string): boolean {
    const { type } = this.spec;
    const result = Number(this.#memory.runtime.map_delete(this.address, at));
    if (result === 0) return true;
    // Beyond the end of these there is nothing either.
    if (result === -Errno.ENOENT || (result === -Errno.EINVAL && (type === 'devmap' || type === 'cpumap' || type === 'sockmap')))
      return false;
    throw mapError(command, -result, about);
  }

  /** Empties a slot or takes an inner map away; 0, or a negated errno. */
  #clear(at: number): number {
    const { runtime, view } = this.#memory;
    const before = this.#u32At(runtime.map_entry(this.address, at));
    const result = Number(runtime.map_delete(this.address, at));
    if (result < 0) return result;
    if (this.spec.type === 'programArray') {
      this.#keep(view.getUint32(at, true), undefined);
      this.#linker.changed(this);
    } else this.#inner.drop(before);
    return 0;
  }

  /** Notes what is in a slot now. */
  #keep(slot: number, program: HeldProgram | undefined): void {
    const before = this.#programs.get(slot);
    if (program) this.#programs.set(slot, program);
    else this.#programs.delete(slot);
    this.#version += 1;
    before?.release();
  }

  /** Programs are in memory by their ids, maps by their addresses. */
  #idOf(content: number): number {
    return this.spec.type === 'programArray' ? content : (this.#inner.at(content)?.id ?? 0);
  }

  #idAt(key: number, value: number): Uint8Array | undefined {
    if (this.#memory.runtime.map_read(this.address, key, value) === 0) return undefined;
    return u32(this.#idOf(this.#u32At(value)));
  }

  #taken(command: MapCommand, result: bigint, value: number): Uint8Array | undefined {
    if (result === 0n) return this.#valueAt(value);
    if (result === BigInt(-Errno.ENOENT)) return undefined;
    throw this.#error(command, -Number(result));
  }

  #valueAt(address: number): Uint8Array {
    return this.#memory.u8.slice(address, address + this.valueStride);
  }

  #u32At(address: number): number {
    return address === 0 ? 0 : this.#memory.view.getUint32(address, true);
  }

  #checkSlot(slot: number): void {
    if (this.spec.type !== 'programArray') throw new ArgumentError(`${this.about} is no program array`);
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.spec.maxEntries) {
      throw new ArgumentError(`${this.about} has slots 0 to ${this.spec.maxEntries - 1}, got ${slot}`);
    }
  }

  #checkOuter(key: Uint8Array): void {
    if (!isMapOfMaps(this.spec.type)) throw new ArgumentError(`${this.about} is no map of maps`);
    checkLength(`a key of ${this.about}`, key, this.spec.keySize);
  }

  /** Slots are filled and emptied by who reads. */
  #holdsEvents(): ArgumentError {
    return new ArgumentError(`${this.about} holds perf events, not bytes`, { hint: 'use openRing' });
  }

  #error(command: MapCommand, errno: number): SyscallError {
    return mapError(command, errno, this.about);
  }
}

/** Whether a map is one of those that an outer map was made for (`bpf_map_meta_equal`, `array_map_meta_equal`). */
function isAlike(wanted: MapSpec, { type, keySize, valueSize, flags, maxEntries }: MapSpec): boolean {
  if (wanted.type !== type || wanted.keySize !== keySize || wanted.valueSize !== valueSize || wanted.flags !== flags) return false;
  return type !== 'array' || wanted.maxEntries === maxEntries;
}

function isMapOfSockets(type: MapType): boolean {
  return type === 'sockmap' || type === 'sockhash';
}

/** Whether a value of a devmap names an interface and no program. */
function isDevice(value: Uint8Array): boolean {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  return view.getUint32(0, true) !== 0 && (value.length < 8 || view.getInt32(4, true) <= 0);
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function part(bytes: Uint8Array, index: number, size: number): Uint8Array {
  return bytes.subarray(index * size, (index + 1) * size);
}

function checkLength(what: string, bytes: Uint8Array, expected: number): void {
  if (bytes.length !== expected) throw new ArgumentError(`${what} takes ${expected} bytes, got ${bytes.length}`);
}
