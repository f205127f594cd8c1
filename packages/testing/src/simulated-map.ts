/**
 * Maps of a simulation: bytes in, bytes out, as the kernel's. They implement the engines' interface, so that whatever
 * works on a live map works on these; beyond it, `reference` gives programs a value in place. There is one CPU. An LRU
 * map that is full evicts the entry that was written or looked up longest ago, where the kernel is less exact.
 */
import {
  ArgumentError,
  type Batch,
  isKeyless,
  isMapOfMaps,
  isPerCpu,
  type LoadedMap,
  type MapSpec,
  UnsupportedError,
  type UpdateFlag,
} from '@tailrace/bpf';
import { MemoryRing } from '@tailrace/pipeline';
import { type AnyMap, toMapSpec } from '@tailrace/stage';
import { SimulatedStore } from './simulated-store.ts';

let lastId = 0;

interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** One simulated map. */
export class SimulatedMap implements LoadedMap {
  readonly spec: MapSpec;
  readonly id = ++lastId;
  readonly valueStride: number;
  /** Values, where the kind has no keys. */
  readonly store: SimulatedStore | undefined;
  /** Records, where it is a ring buffer. */
  readonly ring: MemoryRing | undefined;
  readonly #entries = new Map<string, Entry>();
  readonly #inner = new Map<number, SimulatedMap>();
  readonly #isArray: boolean;
  readonly #isLru: boolean;

  constructor(spec: MapSpec) {
    this.spec = spec;
    this.valueStride = isPerCpu(spec.type) ? Math.ceil(spec.valueSize / 8) * 8 : spec.valueSize;
    this.store = isKeyless(spec.type) ? new SimulatedStore(spec) : undefined;
    this.ring = spec.type === 'ringBuffer' ? new MemoryRing(spec) : undefined;
    this.#isArray = spec.type === 'array' || spec.type === 'perCpuArray';
    this.#isLru = spec.type === 'lruHash' || spec.type === 'lruPerCpuHash';
  }

  /** The bytes of a value in place, for a program's lookup: `spec.valueSize` of them are the value. */
  reference(key: Uint8Array): Uint8Array | undefined {
    const wanted = this.#checkedKey(key);
    if (this.spec.type === 'lpmTrie') return this.#longestPrefix(wanted)?.value;
    if (this.#isArray) return this.#element(wanted)?.value;
    const name = nameOf(wanted);
    const found = this.#entries.get(name);
    if (found !== undefined && this.#isLru) {
      this.#entries.delete(name);
      this.#entries.set(name, found);
    }
    return found?.value;
  }

  /** The inner map under a key of a map of maps. */
  inner(key: Uint8Array): SimulatedMap | undefined {
    const id = this.lookup(key);
    return id && this.#inner.get(new DataView(id.buffer, id.byteOffset).getUint32(0, true));
  }

  /** Writes an entry as a program does, and says why where it cannot. */
  tryUpdate(key: Uint8Array, value: Uint8Array, flag: UpdateFlag = 'any'): 'written' | keyof typeof reasons {
    if (value.length !== this.valueStride)
      throw new ArgumentError(`map ${this.spec.name}: a value of ${value.length} bytes, expected ${this.valueStride}`);
    const wanted = this.#checkedKey(key);
    if (!this.#isValid(wanted)) return 'invalid';
    const found = this.#isArray ? this.#element(wanted) : this.#entries.get(nameOf(this.#masked(wanted)));
    if (found === undefined && this.#isArray) return 'full';
    if (found !== undefined && flag === 'noexist') return 'exists';
    if (found === undefined && flag === 'exist') return 'missing';
    if (found === undefined && this.#entries.size >= this.spec.maxEntries) {
      const [oldest] = this.#entries.keys();
      if (!this.#isLru || oldest === undefined) return 'full';
      this.#entries.delete(oldest);
    }
    if (found !== undefined && (this.#isArray || isPerCpu(this.spec.type))) found.value.set(value);
    // Other kinds put a new element in the place of the old one: older references keep its bytes.
    else {
      const name = nameOf(this.#masked(wanted));
      this.#entries.delete(name);
      this.#entries.set(name, { key: this.#masked(wanted).slice(), value: value.slice() });
    }
    return 'written';
  }

  lookup(key: Uint8Array): Uint8Array | undefined {
    if (this.store) return this.store.peek();
    return this.reference(key)?.slice();
  }

  update(key: Uint8Array, value: Uint8Array, flag?: UpdateFlag): void {
    if (isMapOfMaps(this.spec.type)) throw new ArgumentError(`map ${this.spec.name} holds maps, not bytes`);
    if (this.store && !this.store.push(value, flag === 'exist'))
      throw new ArgumentError(`map ${this.spec.name}: the value cannot be put in, ${reasons.full}`);
    if (this.store) return;
    this.#write(key, value, flag);
  }

  #write(key: Uint8Array, value: Uint8Array, flag?: UpdateFlag): void {
    const outcome = this.tryUpdate(key, value, flag);
    if (outcome !== 'written') throw new ArgumentError(`map ${this.spec.name}: the key cannot be written, ${reasons[outcome]}`);
  }

  delete(key: Uint8Array): boolean {
    if (this.#isArray) throw new ArgumentError(`map ${this.spec.name}: entries of an array cannot be deleted`);
    return this.#isValid(key) && this.#entries.delete(nameOf(this.#masked(this.#checkedKey(key))));
  }

  nextKey(key?: Uint8Array): Uint8Array | undefined {
    const all = this.#all();
    const at = key === undefined ? -1 : all.findIndex((entry) => nameOf(entry.key) === nameOf(key));
    return all[at + 1]?.key.slice();
  }

  readParts(): Iterable<Batch> {
    return [this.readAll()];
  }

  readAll(): Batch {
    const all = this.#all();
    const keys = new Uint8Array(all.length * this.spec.keySize);
    const values = new Uint8Array(all.length * this.valueStride);
    for (const [index, { key, value }] of all.entries()) {
      keys.set(key, index * this.spec.keySize);
      values.set(value, index * this.valueStride);
    }
    return { count: all.length, keys, values };
  }

  updateBatch({ count, keys, values }: Batch): void {
    const { keySize } = this.spec;
    for (let index = 0; index < count; index++)
      this.update(
        keys.subarray(index * keySize, (index + 1) * keySize),
        values.subarray(index * this.valueStride, (index + 1) * this.valueStride),
      );
  }

  deleteBatch(keys: Uint8Array, count: number): number {
    const { keySize } = this.spec;
    let deleted = 0;
    for (let index = 0; index < count; index++) if (this.delete(keys.subarray(index * keySize, (index + 1) * keySize))) deleted++;
    return deleted;
  }

  pop(): Uint8Array | undefined {
    return this.store?.pop();
  }

  has(value: Uint8Array): boolean {
    return this.store?.has(value) ?? false;
  }

  async setMap(key: Uint8Array, map: LoadedMap): Promise<void> {
    if (!(map instanceof SimulatedMap)) throw new ArgumentError(`map ${map.spec.name} is not simulated`);
    const id = new Uint8Array(4);
    new DataView(id.buffer).setUint32(0, map.id, true);
    if (this.spec.type === 'arrayOfMaps' && indexOf(key) >= this.spec.maxEntries)
      throw new ArgumentError(`map ${this.spec.name}: the key cannot be written, ${reasons.full}`);
    this.#write(key, id);
    this.#inner.set(map.id, map);
  }

  async clearMap(key: Uint8Array): Promise<boolean> {
    return this.delete(key);
  }

  setProgram(): Promise<void> {
    throw new UnsupportedError('a simulation has no program arrays');
  }

  clearProgram(): Promise<void> {
    throw new UnsupportedError('a simulation has no program arrays');
  }

  close(): void {
    this.store?.clear();
    this.#entries.clear();
  }

  #all(): Entry[] {
    if (!this.#isArray) return [...this.#entries.values()];
    return Array.from({ length: this.spec.maxEntries }, (_, index) => this.#elementAt(index));
  }

  /** Elements of arrays are all there, zeroed; they are made when they are first asked for. */
  #element(key: Uint8Array): Entry | undefined {
    const index = indexOf(key);
    return index < this.spec.maxEntries ? this.#elementAt(index) : undefined;
  }

  #elementAt(index: number): Entry {
    const key = new Uint8Array(4);
    new DataView(key.buffer).setUint32(0, index, true);
    const name = nameOf(key);
    const entry = this.#entries.get(name) ?? { key, value: new Uint8Array(this.valueStride) };
    this.#entries.set(name, entry);
    return entry;
  }

  /** An entry matches a key that is at least as long and has its bits (kernel/bpf/lpm_trie.c, trie_lookup_elem). */
  #longestPrefix(key: Uint8Array): Entry | undefined {
    if (!this.#isValid(key)) return undefined;
    const length = prefixLength(key);
    let best: Entry | undefined;
    for (const entry of this.#entries.values()) {
      const prefix = prefixLength(entry.key);
      if (prefix > length || (best !== undefined && prefix <= prefixLength(best.key))) continue;
      if (nameOf(maskedPrefix(key, prefix)) === nameOf(entry.key)) best = entry;
    }
    return best;
  }

  /** The key as entries are told apart by it: a trie does not look behind a prefix's own bits. */
  #masked(key: Uint8Array): Uint8Array {
    if (this.spec.type !== 'lpmTrie') return key;
    return maskedPrefix(key, prefixLength(key));
  }

  /** A prefix is no longer than the bits it is of. */
  #isValid(key: Uint8Array): boolean {
    return this.spec.type !== 'lpmTrie' || prefixLength(key) <= 8 * (this.spec.keySize - 4);
  }

  #checkedKey(key: Uint8Array): Uint8Array {
    if (key.length !== this.spec.keySize)
      throw new ArgumentError(`map ${this.spec.name}: a key of ${key.length} bytes, expected ${this.spec.keySize}`);
    return key;
  }
}

const reasons = {
  full: 'the map is full',
  exists: 'it is there already',
  missing: 'it is not there',
  invalid: 'its prefix is too long',
} as const;

/** The simulated maps behind declarations, made when they are first asked for. Pass one to several simulations to keep their state. */
export class SimulatedMaps {
  readonly #maps = new Map<AnyMap, SimulatedMap>();

  /** The map behind a declaration. */
  of(map: AnyMap): SimulatedMap {
    let found = this.#maps.get(map);
    if (found === undefined) {
      found = new SimulatedMap(toMapSpec(map, map.name));
      this.#maps.set(map, found);
    }
    return found;
  }
}

function nameOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function indexOf(key: Uint8Array): number {
  return new DataView(key.buffer, key.byteOffset).getUint32(0, true);
}

function prefixLength(key: Uint8Array): number {
  return new DataView(key.buffer, key.byteOffset).getUint32(0, true);
}

/** `key` cut to a prefix of `length` bits, with zeros behind. */
function maskedPrefix(key: Uint8Array, length: number): Uint8Array {
  const masked = new Uint8Array(key.length);
  new DataView(masked.buffer).setUint32(0, length, true);
  for (let bit = 0; bit < length; bit++) {
    const at = 4 + (bit >> 3);
    masked[at] = (masked[at] ?? 0) | ((key[at] ?? 0) & (0x80 >> (bit & 7)));
  }
  return masked;
}
