/**
 * Kernel maps: making them, and single entries. Each map keeps one block of memory for its keys and values and writes
 * its address into the call's attributes once, so that a lookup is one copy in, one system call, one copy out.
 */
import { ArgumentError, type Batch, isPerCpu, type LoadedMap, type LoadedProgram, type MapSpec, MapType, UpdateFlag } from '@tailrace/bpf';
import { attributeSize, type BpfCommand, commands, encodeAttributes } from './attribute.ts';
import { bpf, bpfError, closeOnError, loadBtf, objectId, objectName, tryBpfAsync } from './bpf.ts';
import { Descriptor } from './descriptor.ts';
import { Errno } from './errno.ts';
import { deleteAll, readAll, updateAll } from './map-batch.ts';
import { alignTo8, allocate, type Memory } from './memory.ts';
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

/** Makes a map. Throws SyscallError (EPERM, E2BIG, EINVAL for limits the kernel refuses), leaving nothing open. */
export function createMap(spec: MapSpec, context: MapContext): KernelMap {
  const about = `map ${spec.name}`;
  const btfFd = spec.btf ? loadBtf(spec.btf.blob, about) : undefined;
  try {
    const { result: fd } = bpf(
      'BPF_MAP_CREATE',
      {
        map_type: MapType[spec.type],
        key_size: spec.keySize,
        value_size: spec.valueSize,
        max_entries: spec.maxEntries,
        map_flags: spec.flags,
        map_name: objectName(spec.name),
        ...(spec.btf && btfFd !== undefined
          ? { btf_fd: btfFd, btf_key_type_id: spec.btf.keyTypeId, btf_value_type_id: spec.btf.valueTypeId }
          : {}),
      },
      about,
    );
    return closeOnError(fd, () => new KernelMap(spec, fd, objectId(fd, about), context));
  } finally {
    // The map holds the BTF object from here on.
    if (btfFd !== undefined) closeFd(btfFd);
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

  /** Takes over `fd`. */
  constructor(spec: MapSpec, fd: number, id: number, context: MapContext) {
    this.spec = spec;
    this.id = id;
    this.valueStride = isPerCpu(spec.type) ? alignTo8(spec.valueSize) * context.cpus : spec.valueSize;
    this.#about = `map ${spec.name}`;
    this.#namespace = spec.type === 'devmap' ? context.namespace : undefined;
    const keyRoom = alignTo8(spec.keySize);
    const memory = allocate(2 * keyRoom + this.valueStride);
    this.#key = memory.bytes.subarray(0, spec.keySize);
    this.#nextKey = memory.bytes.subarray(keyRoom, keyRoom + spec.keySize);
    this.#value = memory.bytes.subarray(2 * keyRoom);
    const key = memory.address;
    const next_key = key + keyRoom;
    const value = next_key + keyRoom;
    this.#lookup = encodeAttributes('BPF_MAP_LOOKUP_ELEM', { map_fd: fd, key, value });
    this.#update = encodeAttributes('BPF_MAP_UPDATE_ELEM', { map_fd: fd, key, value });
    // The kernel wants every field behind those a command has to be zero: no value here.
    this.#delete = encodeAttributes('BPF_MAP_DELETE_ELEM', { map_fd: fd, key });
    this.#next = encodeAttributes('BPF_MAP_GET_NEXT_KEY', { map_fd: fd, key, next_key });
    this.#first = encodeAttributes('BPF_MAP_GET_NEXT_KEY', { map_fd: fd, next_key });
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
    this.#setKey(key);
    checkLength(`a value of ${this.#about}`, value, this.valueStride);
    this.#value.set(value);
    this.#update.view.setBigUint64(commands.BPF_MAP_UPDATE_ELEM.fields.flags[0], BigInt(UpdateFlag[flag]), true);
    const result = this.#namespace
      ? inNamespace(this.#namespace, () => this.#call('BPF_MAP_UPDATE_ELEM', this.#update))
      : this.#call('BPF_MAP_UPDATE_ELEM', this.#update);
    if (result < 0) throw bpfError('BPF_MAP_UPDATE_ELEM', result, this.#about);
  }

  delete(key: Uint8Array): boolean {
    this.#setKey(key);
    const result = this.#call('BPF_MAP_DELETE_ELEM', this.#delete);
    if (result === 0) return true;
    if (result === -Errno.ENOENT) return false;
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
    return readAll(this);
  }

  updateBatch(batch: Batch): void {
    checkLength(`keys of a batch for ${this.#about}`, batch.keys, batch.count * this.spec.keySize);
    checkLength(`values of a batch for ${this.#about}`, batch.values, batch.count * this.valueStride);
    if (this.spec.type === 'devmap' && this.#namespace) inNamespace(this.#namespace, () => updateAll(this, batch));
    else updateAll(this, batch);
  }

  deleteBatch(keys: Uint8Array, count: number): void {
    checkLength(`keys of a batch for ${this.#about}`, keys, count * this.spec.keySize);
    deleteAll(this, keys, count);
  }

  async setProgram(slot: number, program: LoadedProgram): Promise<void> {
    const key = this.#slotKey(slot);
    if (!(program instanceof KernelProgram)) {
      throw new ArgumentError(`program ${program.spec.name} was not loaded by the kernel engine`);
    }
    await this.#descriptor.hold((map_fd) =>
      program.hold(async (programFd) => {
        const value = allocate(4);
        value.view.setUint32(0, programFd, true);
        const attributes = { map_fd, key: key.address, value: value.address };
        const { result } = await tryBpfAsync('BPF_MAP_UPDATE_ELEM', attributes, [key, value]);
        if (result < 0) {
          const about = `slot ${slot} of ${this.#about}, program ${program.spec.name}`;
          throw bpfError('BPF_MAP_UPDATE_ELEM', result, about, slotHint(-result));
        }
      }),
    );
  }

  async clearProgram(slot: number): Promise<void> {
    const key = this.#slotKey(slot);
    await this.#descriptor.hold(async (map_fd) => {
      const { result } = await tryBpfAsync('BPF_MAP_DELETE_ELEM', { map_fd, key: key.address }, [key]);
      if (result < 0 && result !== -Errno.ENOENT) {
        throw bpfError('BPF_MAP_DELETE_ELEM', result, `slot ${slot} of ${this.#about}`);
      }
    });
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#descriptor.closed;
  }

  close(): void {
    this.#descriptor.close();
  }

  #call(command: BpfCommand, attributes: Memory): number {
    // The attributes still hold the fd's number, which may be another file's by now.
    if (this.#descriptor.closed) throw new ArgumentError(`${this.#about} is closed`);
    return trySyscall('bpf', commands[command].number, attributes.address, attributeSizes[command]);
  }

  #setKey(key: Uint8Array): void {
    if (key.length !== this.spec.keySize) checkLength(`a key of ${this.#about}`, key, this.spec.keySize);
    this.#key.set(key);
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

const commandNames = Object.keys(commands) as readonly BpfCommand[];
const attributeSizes = Object.fromEntries(commandNames.map((name) => [name, attributeSize(name)])) as Readonly<Record<BpfCommand, number>>;

function checkLength(what: string, bytes: Uint8Array, expected: number): void {
  if (bytes.length !== expected) throw new ArgumentError(`${what} takes ${expected} bytes, got ${bytes.length}`);
}

function slotHint(errno: number): string | undefined {
  if (errno !== Errno.EINVAL) return undefined;
  return 'programs that name or fill one program array must agree on type, frags flag and expected attach type';
}
