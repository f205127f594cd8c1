/**
 * Kernel maps: making them, and single entries. Each map keeps one block of memory for its keys and values and writes
 * its address into the call's attributes once, so that a lookup is one copy in, one system call, one copy out.
 */
import {
  ArgumentError,
  type Batch,
  checkMapSpec,
  isMapOfMaps,
  isPerCpu,
  joinBatches,
  type LoadedMap,
  type LoadedProgram,
  type MapSpec,
  MapType,
  specOnHost,
  UpdateFlag,
} from '@tailrace/bpf';
import { attributeSize, type BpfCommand, commands, encodeAttributes } from './attribute.ts';
import { bpf, bpfError, closeOnError, loadBtf, objectId, objectName, tryBpf, tryBpfAsync } from './bpf.ts';
import { Descriptor } from './descriptor.ts';
import { Errno } from './errno.ts';
import { deleteAll, readParts, updateAll } from './map-batch.ts';
import { alignTo8, allocate, allocateCopy, type Memory } from './memory.ts';
import { inNamespace, type NetworkNamespace } from './netns.ts';
import { KernelProgram } from './program.ts';
import { closeFd, trySyscall } from './syscall.ts';

/** What a map needs to know of the engine that makes it. */
export interface MapContext {
  /** Possible CPUs. */
  readonly cpus: number;
  /** The namespace whose interfaces a devmap's entries mean; undefined: the thread's own. */
  readonly namespace?: NetworkNamespace | undefined;
}

/**
 * Makes a map. Throws ArgumentError for what the kind does not take, SyscallError (EPERM, E2BIG, EINVAL for limits the
 * kernel refuses), leaving nothing open.
 */
export function createMap(given: MapSpec, context: MapContext): KernelMap {
  checkMapSpec(given);
  const spec = specOnHost(given, context.cpus);
  const about = `map ${spec.name}`;
  return closeOnError(openMap(spec, about), (fd) => new KernelMap(spec, fd, objectId(fd, about), context));
}

function openMap(spec: MapSpec, about: string): number {
  const btfFd = spec.btf ? loadBtf(spec.btf.blob, about) : undefined;
  let innerFd: number | undefined;
  try {
    // A map of maps takes its rules from an inner map that exists while it is made.
    innerFd = spec.inner && openMap(spec.inner, `map ${spec.inner.name}`);
    return bpf(
      'BPF_MAP_CREATE',
      {
        map_type: MapType[spec.type],
        key_size: spec.keySize,
        value_size: spec.valueSize,
        max_entries: spec.maxEntries,
        map_flags: spec.flags,
        map_name: objectName(spec.name),
        map_extra: spec.extra ?? 0,
        ...(innerFd === undefined ? {} : { inner_map_fd: innerFd }),
        ...(spec.btf && btfFd !== undefined
          ? { btf_fd: btfFd, btf_key_type_id: spec.btf.keyTypeId, btf_value_type_id: spec.btf.valueTypeId }
          : {}),
      },
      about,
    ).result;
  } finally {
    // The map holds the BTF object from here on, and a copy of the inner map's rules.
    if (btfFd !== undefined) closeFd(btfFd);
    if (innerFd !== undefined) closeFd(innerFd);
  }
}

/** A live kernel map. Bytes in and out are copies. Using it after `close` throws ArgumentError. */
export class KernelMap implements LoadedMap {
  readonly spec: MapSpec;
  readonly id: number;
  readonly valueStride: number;
  readonly #about: string;
  readonly #descriptor: Descriptor;
  readonly #namespace: NetworkNamespace | undefined;
  readonly #key: Uint8Array;
  readonly #nextKey: Uint8Array;
  readonly #value: Uint8Array;
  readonly #lookup: Memory;
  readonly #update: Memory;
  readonly #delete: Memory;
  readonly #next: Memory;
  readonly #first: Memory;
  readonly #pop: Memory;

  /** Takes over `fd`. */
  constructor(spec: MapSpec, fd: number, id: number, context: MapContext) {
    this.spec = spec;
    this.id = id;
    this.valueStride = isPerCpu(spec.type) ? alignTo8(spec.valueSize) * context.cpus : spec.valueSize;
    this.#about = `map ${spec.name}`;
    this.#namespace = spec.type === 'devmap' || spec.type === 'devmapHash' ? context.namespace : undefined;
    const keyRoom = alignTo8(spec.keySize);
    const memory = allocate(2 * keyRoom + this.valueStride);
    this.#key = memory.bytes.subarray(0, spec.keySize);
    this.#nextKey = memory.bytes.subarray(keyRoom, keyRoom + spec.keySize);
    this.#value = memory.bytes.subarray(2 * keyRoom);
    // Kinds without keys want no address of one.
    const key = spec.keySize === 0 ? 0 : memory.address;
    const next_key = memory.address + keyRoom;
    const value = next_key + keyRoom;
    this.#lookup = encodeAttributes('BPF_MAP_LOOKUP_ELEM', { map_fd: fd, key, value });
    this.#update = encodeAttributes('BPF_MAP_UPDATE_ELEM', { map_fd: fd, key, value });
    // The kernel wants every field behind those a command has to be zero: no value here.
    this.#delete = encodeAttributes('BPF_MAP_DELETE_ELEM', { map_fd: fd, key });
    this.#next = encodeAttributes('BPF_MAP_GET_NEXT_KEY', { map_fd: fd, key, next_key });
    this.#first = encodeAttributes('BPF_MAP_GET_NEXT_KEY', { map_fd: fd, next_key });
    this.#pop = encodeAttributes('BPF_MAP_LOOKUP_AND_DELETE_ELEM', { map_fd: fd, value });
    // Last: from here on the descriptor owns the fd, and nothing above can throw with it open twice.
    this.#descriptor = new Descriptor(fd, this.#about);
  }

  /** For this package: the fd to refer to this map by. Throws ArgumentError once closed. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  lookup(key: Uint8Array): Uint8Array | undefined {
    this.#setKey(key);
    const result = this.#call('BPF_MAP_LOOKUP_ELEM', this.#lookup);
    if (result === 0) return this.#value.slice();
    if (result === -Errno.ENOENT) return undefined;
    throw bpfError('BPF_MAP_LOOKUP_ELEM', result, this.#about);
  }

  update(key: Uint8Array, value: Uint8Array, flag: keyof typeof UpdateFlag = 'any'): void {
    if (this.spec.type === 'programArray') {
      throw new ArgumentError(`${this.#about} holds programs, not bytes`, { hint: 'use setProgram and clearProgram' });
    }
    if (isMapOfMaps(this.spec.type)) {
      throw new ArgumentError(`${this.#about} holds maps, not bytes`, { hint: 'use setMap and clearMap' });
    }
    const { type } = this.spec;
    if (type === 'perfEventArray') throw holdsEvents(this.#about);
    // These maps of devices and CPUs take flags in ways of their own, or not at all.
    if (flag !== 'any' && (type === 'devmap' || type === 'devmapHash' || type === 'cpumap')) {
      if ((this.lookup(key) === undefined) === (flag === 'exist')) {
        throw bpfError('BPF_MAP_UPDATE_ELEM', flag === 'exist' ? -Errno.ENOENT : -Errno.EEXIST, this.#about);
      }
      return this.update(key, value);
    }
    this.#setKey(key);
    this.#setValue(value);
    this.#update.view.setBigUint64(commands.BPF_MAP_UPDATE_ELEM.fields.flags[0], BigInt(UpdateFlag[flag]), true);
    const result = this.#namespace
      ? inNamespace(this.#namespace, () => this.#call('BPF_MAP_UPDATE_ELEM', this.#update))
      : this.#call('BPF_MAP_UPDATE_ELEM', this.#update);
    if (result < 0) throw bpfError('BPF_MAP_UPDATE_ELEM', result, this.#about, updateHint(-result));
  }

  delete(key: Uint8Array): boolean {
    const { type } = this.spec;
    // Of these the kernel deletes whatever is there, and says so of nothing too.
    if ((type === 'devmap' || type === 'cpumap') && this.lookup(key) === undefined) return false;
    if (type === 'perfEventArray') throw holdsEvents(this.#about);
    this.#setKey(key);
    const result = this.#call('BPF_MAP_DELETE_ELEM', this.#delete);
    if (result === 0) return true;
    // A sockmap has its own word for an empty slot.
    if (result === -Errno.ENOENT || (type === 'sockmap' && result === -Errno.EINVAL)) return false;
    throw bpfError('BPF_MAP_DELETE_ELEM', result, this.#about);
  }

  nextKey(key?: Uint8Array): Uint8Array | undefined {
    if (key) this.#setKey(key);
    const result = this.#call('BPF_MAP_GET_NEXT_KEY', key ? this.#next : this.#first);
    if (result === 0) return this.#nextKey.slice();
    if (result === -Errno.ENOENT) return undefined;
    throw bpfError('BPF_MAP_GET_NEXT_KEY', result, this.#about);
  }

  readAll(): Batch {
    return joinBatches([...this.readParts()]);
  }

  readParts(): Iterable<Batch> {
    if (this.spec.keySize === 0) throw new ArgumentError(`${this.#about} is a ${this.spec.type} and has no keys to read by`);
    return readParts(this);
  }

  updateBatch(batch: Batch): void {
    checkLength(`keys of a batch for ${this.#about}`, batch.keys, batch.count * this.spec.keySize);
    checkLength(`values of a batch for ${this.#about}`, batch.values, batch.count * this.valueStride);
    if (this.#namespace) inNamespace(this.#namespace, () => updateAll(this, batch));
    else updateAll(this, batch);
  }

  deleteBatch(keys: Uint8Array, count: number): number {
    checkLength(`keys of a batch for ${this.#about}`, keys, count * this.spec.keySize);
    return deleteAll(this, keys, count);
  }

  pop(): Uint8Array | undefined {
    const { type } = this.spec;
    if (type !== 'queue' && type !== 'stack') throw new ArgumentError(`${this.#about} is a ${type}, nothing can be taken out of it`);
    const result = this.#call('BPF_MAP_LOOKUP_AND_DELETE_ELEM', this.#pop);
    if (result === 0) return this.#value.slice();
    if (result === -Errno.ENOENT) return undefined;
    throw bpfError('BPF_MAP_LOOKUP_AND_DELETE_ELEM', result, this.#about);
  }

  has(value: Uint8Array): boolean {
    if (this.spec.type !== 'bloomFilter') throw new ArgumentError(`${this.#about} is a ${this.spec.type} and no bloom filter`);
    this.#setValue(value);
    const result = this.#call('BPF_MAP_LOOKUP_ELEM', this.#lookup);
    if (result === 0) return true;
    if (result === -Errno.ENOENT) return false;
    throw bpfError('BPF_MAP_LOOKUP_ELEM', result, this.#about);
  }

  /**
   * Takes the right to write from this process and all others; what programs may do is said by flags. The verifier then
   * knows the values of a map whose flags have `readOnlyProgram`. Throws SyscallError.
   */
  freeze(): void {
    bpf('BPF_MAP_FREEZE', { map_fd: this.fd }, this.#about);
  }

  async setProgram(slot: number, program: LoadedProgram): Promise<void> {
    const key = this.#slotKey(slot);
    if (!(program instanceof KernelProgram)) {
      throw new ArgumentError(`program ${program.spec.name} was not loaded by the kernel engine`);
    }
    const about = `slot ${slot} of ${this.#about}, program ${program.spec.name}`;
    // at once: the kernel waits for nobody here, and a thread of the pool costs as much as the call
    await program.hold((fd) => this.#setDescriptor(key, fd, { about, hint: slotHint, call: tryBpf }));
  }

  async clearProgram(slot: number): Promise<void> {
    await this.#clearDescriptor(this.#slotKey(slot), `slot ${slot} of ${this.#about}`);
  }

  async setMap(key: Uint8Array, map: LoadedMap): Promise<void> {
    const place = this.#innerKey(key);
    if (!(map instanceof KernelMap)) throw new ArgumentError(`map ${map.spec.name} was not made by the kernel engine`);
    const about = `${this.#about}, inner map ${map.spec.name}`;
    await map.#descriptor.hold((fd) => this.#setDescriptor(place, fd, { about, hint: innerHint, call: tryBpfAsync }));
  }

  clearMap(key: Uint8Array): Promise<boolean> {
    return this.#clearDescriptor(this.#innerKey(key), this.#about);
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#descriptor.closed;
  }

  close(): void {
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #call(command: BpfCommand, attributes: Memory): number {
    // The attributes still hold the fd's number, which may be another file's by now.
    if (this.#descriptor.closed) throw new ArgumentError(`${this.#about} is closed`);
    return trySyscall('bpf', commands[command].number, attributes.address, attributeSizes[command]);
  }

  #setDescriptor(key: Memory, fd: number, { about, hint, call }: SetDescriptor): Promise<void> {
    return this.#descriptor.hold(async (map_fd) => {
      const value = allocate(4);
      value.view.setUint32(0, fd, true);
      const { result } = await call('BPF_MAP_UPDATE_ELEM', { map_fd, key: key.address, value: value.address }, [key, value]);
      if (result < 0) throw bpfError('BPF_MAP_UPDATE_ELEM', result, about, hint(-result));
    });
  }

  /** False where there was none. */
  #clearDescriptor(key: Memory, about: string): Promise<boolean> {
    return this.#descriptor.hold(async (map_fd) => {
      const { result } = await tryBpfAsync('BPF_MAP_DELETE_ELEM', { map_fd, key: key.address }, [key]);
      // E2BIG: beyond the end of an array.
      if (result < 0 && result !== -Errno.ENOENT && result !== -Errno.E2BIG) throw bpfError('BPF_MAP_DELETE_ELEM', result, about);
      return result === 0;
    });
  }

  #setValue(value: Uint8Array): void {
    checkLength(`a value of ${this.#about}`, value, this.valueStride);
    this.#value.set(value);
  }

  #setKey(key: Uint8Array): void {
    if (key.length !== this.spec.keySize) checkLength(`a key of ${this.#about}`, key, this.spec.keySize);
    this.#key.set(key);
  }

  #innerKey(key: Uint8Array): Memory {
    if (!isMapOfMaps(this.spec.type)) throw new ArgumentError(`${this.#about} is no map of maps`);
    checkLength(`a key of ${this.#about}`, key, this.spec.keySize);
    return allocateCopy(key);
  }

  #slotKey(slot: number): Memory {
    if (this.spec.type !== 'programArray') throw new ArgumentError(`${this.#about} is no program array`);
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.spec.maxEntries) {
      throw new ArgumentError(`${this.#about} has slots 0 to ${this.spec.maxEntries - 1}, got ${slot}`);
    }
    const key = allocate(4);
    key.view.setUint32(0, slot, true);
    return key;
  }
}

/** How a descriptor gets into a map. */
interface SetDescriptor {
  readonly about: string;
  hint(errno: number): string | undefined;
  readonly call: typeof tryBpf | typeof tryBpfAsync;
}

const commandNames = Object.keys(commands) as readonly BpfCommand[];
const attributeSizes = Object.fromEntries(commandNames.map((name) => [name, attributeSize(name)])) as Readonly<Record<BpfCommand, number>>;

function checkLength(what: string, bytes: Uint8Array, expected: number): void {
  if (bytes.length !== expected) throw new ArgumentError(`${what} takes ${expected} bytes, got ${bytes.length}`);
}

/** Slots are filled and emptied by who reads. */
function holdsEvents(about: string): ArgumentError {
  return new ArgumentError(`${about} holds perf events, not bytes`, { hint: 'use openRing' });
}

/** A full map, whatever its kind, answers E2BIG. */
function updateHint(errno: number): string | undefined {
  return errno === Errno.E2BIG ? 'the map is full, or the key is beyond its end: raise maxEntries' : undefined;
}

function innerHint(errno: number): string | undefined {
  return errno === Errno.EINVAL ? 'an inner map must be of the kind, sizes and flags that the outer map was made for' : updateHint(errno);
}

function slotHint(errno: number): string | undefined {
  if (errno !== Errno.EINVAL) return undefined;
  return 'programs that name or fill one program array must agree on type, frags flag and expected attach type';
}
