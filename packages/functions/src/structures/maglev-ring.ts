/**
 * Maglev rings as a structure: the tables of several vips in one map, looked up by programs with a hash, filled by the
 * controller. A line holds 32 slots, so that the kernel's 8 bytes for each entry of an array do not quadruple the table,
 * and a change writes no more than the lines it touches.
 */
import { ArgumentError, type ArrayHandle, array, arrayMap, defineStructure, fn, type Structure, u16, u32 } from '@tailrace/stage';
import { MAGLEV_SIZE } from './maglev.ts';

/** Slots in a line: 64 bytes. */
const LINE = 32;

/** What programs do with rings. */
export interface MaglevRingOps {
  /** The value in the slot that `hash` (u32) falls on, 0 where the ring is empty. `ring` is 0..rings-1. */
  at(ring: number, hash: number): number;
}

/** What controllers do with rings. */
export interface MaglevRingHandle {
  readonly rings: number;
  /** The table as the map has it. Throws ArgumentError outside 0..rings-1. */
  get(ring: number): Uint16Array;
  /**
   * Makes `table` the ring, writing only the lines that differ; packets meanwhile see old slots or new ones. Returns the
   * number of lines written. Throws ArgumentError for a table of another size.
   */
  set(ring: number, table: Uint16Array): number;
}

/** Maglev rings, see `maglevTable`. */
export interface MaglevRing extends Structure<MaglevRingOps, MaglevRingHandle> {}

/** Declares `rings` rings of `size` slots (a prime, MAGLEV_SIZE unless said otherwise). */
export function maglevRing(options: { readonly name: string; readonly rings: number; readonly size?: number }): MaglevRing {
  const { name, rings, size = MAGLEV_SIZE } = options;
  if (!Number.isSafeInteger(rings) || rings < 1 || rings > 0x1_0000)
    throw new ArgumentError(`maglevRing '${name}': rings is ${rings}, expected 1..65536`);
  if (!Number.isSafeInteger(size) || size < 1 || size > MAGLEV_SIZE)
    throw new ArgumentError(`maglevRing '${name}': size is ${size}, expected 1..${MAGLEV_SIZE}`);
  const stride = Math.ceil(size / LINE);
  const lines = arrayMap({ name: `${name}.lines`, value: array(u16, LINE), maxEntries: rings * stride, mmapable: true });
  return defineStructure({
    name,
    maps: { lines },
    fns: {
      // the product's upper half falls evenly on 0..size-1 and takes no division (Lemire, "Fast Random Integer
      // Generation in an Interval", 2019)
      at: fn([u16, u32], u16, { lines, size: BigInt(size), stride }, (ring, hash, { lines, size, stride }) => {
        const slot = Number((BigInt(hash) * size) >> 32n);
        const line = lines.lookup(ring * stride + (slot >>> 5));
        if (!line) return 0;
        const value = line[slot & 31];
        return value ? value : 0;
      }),
    },
    handle: ({ lines }) => new RingHandle(lines, rings, size),
  });
}

class RingHandle implements MaglevRingHandle {
  readonly rings: number;
  readonly #lines: ArrayHandle<ArrayLike<number>>;
  readonly #size: number;
  readonly #tables = new Map<number, Uint16Array>();

  constructor(lines: ArrayHandle<ArrayLike<number>>, rings: number, size: number) {
    this.#lines = lines;
    this.rings = rings;
    this.#size = size;
  }

  get(ring: number): Uint16Array {
    return this.#read(ring).slice();
  }

  set(ring: number, table: Uint16Array): number {
    if (table.length !== this.#size) throw new ArgumentError(`ring ${ring}: a table of ${table.length} slots, expected ${this.#size}`);
    const known = this.#read(ring);
    const first = ring * this.#stride;
    const changed: [index: number, line: Uint16Array][] = [];
    for (let line = 0; line < this.#stride; line++) {
      const wanted = lineOf(table, line);
      if (!lineOf(known, line).every((value, i) => value === wanted[i])) changed.push([first + line, wanted]);
    }
    if (changed.length > 0) this.#lines.setMany(changed);
    known.set(table);
    return changed.length;
  }

  get #stride(): number {
    return Math.ceil(this.#size / LINE);
  }

  /** What the map has; only this handle writes it, so that it is read once. */
  #read(ring: number): Uint16Array {
    if (!Number.isInteger(ring) || ring < 0 || ring >= this.rings) throw new ArgumentError(`ring ${ring}, expected 0..${this.rings - 1}`);
    const known = this.#tables.get(ring);
    if (known) return known;
    const table = new Uint16Array(this.#size);
    for (let line = 0; line < this.#stride; line++) {
      const values = this.#lines.get(ring * this.#stride + line) ?? [];
      const start = line * LINE;
      for (let i = 0; i < LINE && start + i < this.#size; i++) table[start + i] = values[i] ?? 0;
    }
    this.#tables.set(ring, table);
    return table;
  }
}

/** A line's slots; behind the last slot zeros. */
function lineOf(table: Uint16Array, line: number): Uint16Array {
  const slots = new Uint16Array(LINE);
  slots.set(table.subarray(line * LINE, (line + 1) * LINE));
  return slots;
}
