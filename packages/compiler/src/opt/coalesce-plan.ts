/** How to write a run of bytes with the fewest and widest stores: coalesce.ts says which bytes, this says how. */
import { type Binary, createNode, type Graph, type Load, type MemorySize, type Node, type Place, type Store, type Value } from '../ir.ts';
import { constant } from './fold-operand.ts';
import type { KnownValues } from './known.ts';

/** What a byte of memory gets: a constant, or byte `index` of a value, the lowest being 0. */
export type ByteSource = { readonly constant: number } | { readonly value: Value; readonly index: number };

/** One store of a plan. */
export interface PlannedStore {
  readonly offset: number;
  readonly size: MemorySize;
  readonly value: Value;
}

export interface PlanOptions {
  readonly graph: Graph;
  /** By offset in the object. */
  readonly bytes: ReadonlyMap<number, ByteSource>;
  /** Stores must be aligned to their size, as on the stack. */
  readonly isAligned: boolean;
  /** Halves of words may be joined by shift and or. */
  readonly joins: boolean;
  /** True where loading again at the place of the stores yields the same. */
  readonly canReload: (load: Load) => boolean;
  readonly known: KnownValues;
  readonly place: Place | undefined;
}

const SIZES: readonly MemorySize[] = [8, 4, 2, 1];

export class StorePlanner {
  /** Nodes that the plan's values need, in order; to be put before the stores. */
  readonly made: Node[] = [];
  private readonly options: PlanOptions;

  constructor(options: PlanOptions) {
    this.options = options;
  }

  /** The stores in ascending order, or undefined where some bytes cannot be had (a value that was cut in pieces). */
  plan(): PlannedStore[] | undefined {
    const out: PlannedStore[] = [];
    const offsets = [...this.options.bytes.keys()].sort((a, b) => a - b);
    let end = Number.NEGATIVE_INFINITY;
    for (const offset of offsets) {
      if (offset < end) continue;
      const store = this.widest(offset);
      if (!store) return undefined;
      out.push(store);
      end = offset + store.size;
    }
    return out;
  }

  /** A store node like `like`, with another offset, size and value. */
  store(like: Store, offset: number, size: MemorySize, value: Value): Store {
    const { graph, place } = this.options;
    return createNode(graph, { kind: 'store', size, space: like.space, base: like.base, offset, value, place });
  }

  private widest(offset: number): PlannedStore | undefined {
    for (const size of SIZES) {
      if (this.options.isAligned && offset % size !== 0) continue;
      const bytes = this.bytesAt(offset, size);
      const before = this.made.length;
      const value = bytes && this.express(bytes);
      if (value) return { offset, size, value };
      this.made.length = before;
    }
    return undefined;
  }

  private bytesAt(offset: number, size: number): ByteSource[] | undefined {
    const bytes = Array.from({ length: size }, (_, i) => this.options.bytes.get(offset + i));
    return bytes.every((byte) => byte !== undefined) ? bytes : undefined;
  }

  /** A value whose low bytes are these, or undefined where none is cheap enough. */
  private express(bytes: readonly ByteSource[]): Value | undefined {
    const zeros = trailingZeros(bytes);
    return this.constant(bytes) ?? this.whole(bytes, zeros) ?? this.loaded(bytes, zeros) ?? this.joined(bytes);
  }

  private constant(bytes: readonly ByteSource[]): Value | undefined {
    let value = 0n;
    for (const [i, byte] of bytes.entries()) {
      if (!('constant' in byte)) return undefined;
      value |= BigInt(byte.constant) << BigInt(8 * i);
    }
    const signed = BigInt.asIntN(8 * bytes.length, value);
    // Without an immediate, two stores of halves are no worse.
    return bytes.length === 8 && signed !== BigInt.asIntN(32, signed) ? undefined : constant(this.options.graph, signed);
  }

  /** One value, from its lowest byte on, with nothing above but zeros. */
  private whole(bytes: readonly ByteSource[], zeros: number): Value | undefined {
    const [first] = bytes;
    if (!first || 'constant' in first || first.index !== 0) return undefined;
    const { value } = first;
    const used = bytes.length - zeros;
    const isRun = bytes.slice(0, used).every((byte, i) => 'value' in byte && byte.value === value && byte.index === i);
    if (!isRun) return undefined;
    return zeros === 0 || this.options.known.fitsUnsigned(value, 8 * used) ? value : undefined;
  }

  /** Bytes that were loaded from neighbouring places, with nothing above but zeros. */
  private loaded(bytes: readonly ByteSource[], zeros: number): Value | undefined {
    const used = bytes.length - zeros;
    const [first] = bytes;
    if (!first || !('value' in first) || first.value.kind !== 'load' || (used !== 2 && used !== 4 && used !== 8)) return undefined;
    const { value: load, index } = first;
    const start = load.offset + index;
    const loads = new Set<Load>();
    for (const [i, byte] of bytes.slice(0, used).entries()) {
      if (!('value' in byte) || byte.value.kind !== 'load') return undefined;
      const { value, index: at } = byte;
      if (value.base !== load.base || value.space !== load.space || value.pointer !== undefined || value.offset + at !== start + i)
        return undefined;
      loads.add(value);
    }
    if (load.space === 'stack' && start % used !== 0) return undefined;
    for (const each of loads) if (!this.options.canReload(each)) return undefined;
    return this.make(
      createNode(this.options.graph, { kind: 'load', size: used, space: load.space, base: load.base, offset: start, place: load.place }),
    );
  }

  /** Two halves of a word, one shifted above the other. */
  private joined(bytes: readonly ByteSource[]): Value | undefined {
    const half = bytes.length / 2;
    if (!this.options.joins || bytes.length > 4 || half < 1) return undefined;
    const low = this.express(bytes.slice(0, half));
    const high = low && this.express(bytes.slice(half));
    if (!low || !high) return undefined;
    const bits = 8 * half;
    const clean = this.options.known.fitsUnsigned(low, bits)
      ? low
      : this.binary('and', low, constant(this.options.graph, (1n << BigInt(bits)) - 1n));
    if (high.kind === 'const') return this.binary('or', clean, constant(this.options.graph, BigInt.asIntN(32, high.value << BigInt(bits))));
    return this.binary('or', this.binary('lsh', high, constant(this.options.graph, BigInt(bits))), clean);
  }

  private binary(op: Binary['op'], left: Value, right: Value): Binary {
    return this.make(createNode(this.options.graph, { kind: 'binary', op, width: 32, left, right, place: this.options.place }));
  }

  private make<T extends Node>(node: T): T {
    this.made.push(node);
    return node;
  }
}

/** Zero bytes at the upper end, but never all. */
function trailingZeros(bytes: readonly ByteSource[]): number {
  let zeros = 0;
  while (zeros < bytes.length - 1) {
    const byte = bytes[bytes.length - 1 - zeros];
    if (!byte || !('constant' in byte) || byte.constant !== 0) break;
    zeros++;
  }
  return zeros;
}
