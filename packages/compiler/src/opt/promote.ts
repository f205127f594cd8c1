/**
 * Metadata of a fused program in registers: loads and stores of fields become values and phis, and memory is read and
 * written only where a packet comes in and where other programs take over (Braun et al., "Simple and Efficient Construction
 * of Static Single Assignment Form"). Bytes that accesses share in different ways are one value, up to eight of them; what
 * is larger, or reached by an address that was computed, stays where it is.
 */
import {
  append,
  type Block,
  type Call,
  createNode,
  type Graph,
  insertBefore,
  type Load,
  type MemorySize,
  type Node,
  operands,
  type Phi,
  remove,
  reversePostOrder,
  type Store,
  type Value,
} from '../ir.ts';
import { dropUnreachable } from './simplify-cfg.ts';
import { Substitution } from './substitution.ts';

/** Bytes from the base of a program's metadata. */
interface Extent {
  readonly offset: number;
  readonly size: number;
}

/** Where a program's metadata lie, and who else looks at them. */
export interface Promotable {
  /** Their address; every access names it. */
  readonly base: Value;
  readonly space: 'map' | 'skb';
  /** All accesses lie behind this block's start, and the base before it. */
  readonly home: Block;
  /** Which bytes of what the base points to they are. */
  readonly fields: readonly Extent[];
  /** Tail calls, and what the programs behind them need of the fields. */
  readonly handed: ReadonlyMap<Value, readonly Extent[]>;
}

/** Rewrites the accesses of a graph that is not optimised yet. */
export function promoteMetadata(graph: Graph, promotable: Promotable): void {
  dropUnreachable(graph);
  if (hasOtherUses(graph, promotable.base)) return;
  const accesses = graph.blocks.flatMap((block) => block.nodes.filter((node) => isAccess(node, promotable)));
  for (const cluster of clustersOf(accesses)) if (isScalar(cluster)) new Promotion(graph, promotable, cluster).run();
}

type Access = Load | Store;

interface Cluster extends Extent {
  readonly accesses: ReadonlySet<Node>;
}

/** An address that was computed may reach any field. */
function hasOtherUses(graph: Graph, base: Value): boolean {
  return graph.blocks.some(({ nodes }) =>
    nodes.some((node) => {
      if (node.kind === 'load') return false;
      if (node.kind === 'store') return node.value === base;
      // the context is what helpers are called with: that changes none of the fields
      return base.kind === 'context' && node.kind === 'call' ? false : operands(node).includes(base);
    }),
  );
}

function isAccess(node: Node, { base, space, fields }: Promotable): node is Access {
  if ((node.kind !== 'load' && node.kind !== 'store') || node.base !== base || node.space !== space) return false;
  return fields.some((field) => field.offset <= node.offset && node.offset + node.size <= field.offset + field.size);
}

/** Accesses that share bytes, with those that share bytes with these. */
function clustersOf(accesses: readonly Access[]): readonly Cluster[] {
  const clusters: { offset: number; size: number; accesses: Set<Node> }[] = [];
  for (const access of [...accesses].sort((a, b) => a.offset - b.offset)) {
    const last = clusters.at(-1);
    if (last && access.offset < last.offset + last.size) {
      last.size = Math.max(last.size, access.offset + access.size - last.offset);
      last.accesses.add(access);
    } else clusters.push({ offset: access.offset, size: access.size, accesses: new Set([access]) });
  }
  return clusters;
}

function isScalar({ size }: Extent): boolean {
  return size === 1 || size === 2 || size === 4 || size === 8;
}

const ZERO_EXTEND = { 1: 'zext8', 2: 'zext16', 4: 'zext32' } as const;

/** One cluster on its way into values. */
class Promotion {
  readonly #graph: Graph;
  readonly #where: Promotable;
  readonly #cluster: Cluster;
  readonly #size: MemorySize;
  readonly #substitution = new Substitution();
  readonly #starts = new Map<Block, Value>();
  readonly #ends = new Map<Block, Value>();
  /** Where the values of other blocks stand until all blocks are read. */
  readonly #pending: { readonly block: Block; readonly placeholder: Phi }[] = [];
  #entry: Load | undefined;

  constructor(graph: Graph, where: Promotable, cluster: Cluster) {
    this.#graph = graph;
    this.#where = where;
    this.#cluster = cluster;
    this.#size = cluster.size as MemorySize;
  }

  run(): void {
    const handed: { readonly call: Call; readonly value: Value }[] = [];
    for (const block of reversePostOrder(this.#graph)) {
      let current: Value | undefined;
      const now = (): Value => {
        current ??= this.#placeholder(block);
        return current;
      };
      for (const node of [...block.nodes]) {
        if (node.kind === 'call' && this.#isHanded(node)) handed.push({ call: node, value: now() });
        if (!this.#cluster.accesses.has(node)) continue;
        if (node.kind === 'load') this.#substitution.replace(node, this.#extract(node, now()));
        if (node.kind !== 'store') continue;
        current = this.#insert(node, now);
        remove(node);
      }
      if (current) this.#ends.set(block, current);
    }
    for (const { block, placeholder } of this.#pending) this.#substitution.replace(placeholder, this.#atStart(block));
    for (const { call, value } of handed) this.#hand(call, value);
    this.#substitution.apply(this.#graph);
  }

  #isHanded(call: Call): boolean {
    const { offset, size } = this.#cluster;
    return (this.#where.handed.get(call) ?? []).some((field) => field.offset <= offset && offset + size <= field.offset + field.size);
  }

  /** Stands for the value at a block's start; it is in no block itself. */
  #placeholder(block: Block): Value {
    const placeholder: Phi = createNode(this.#graph, { kind: 'phi', inputs: [] });
    this.#pending.push({ block, placeholder });
    return placeholder;
  }

  #atEnd(block: Block): Value {
    return this.#ends.get(block) ?? this.#atStart(block);
  }

  #atStart(block: Block): Value {
    const known = this.#starts.get(block);
    if (known) return known;
    const [first, ...others] = block.predecessors;
    if (block === this.#where.home || !first) {
      const entry = this.#load();
      this.#starts.set(block, entry);
      return entry;
    }
    if (others.length === 0) {
      const value = this.#atEnd(first);
      this.#starts.set(block, value);
      return value;
    }
    const phi: Phi = createNode(this.#graph, { kind: 'phi', inputs: [] });
    this.#starts.set(block, phi);
    append(block, phi);
    phi.inputs = block.predecessors.map((before) => this.#atEnd(before));
    return phi;
  }

  /** What the program before this one left. */
  #load(): Load {
    if (this.#entry) return this.#entry;
    const { base, space, home } = this.#where;
    const load = createNode(this.#graph, { kind: 'load', size: this.#size, space, base, offset: this.#cluster.offset });
    const at = home.nodes.findIndex((node) => node.kind !== 'phi' && node.kind !== 'context');
    load.block = home;
    home.nodes.splice(at < 0 ? home.nodes.length : at, 0, load);
    this.#entry = load;
    return load;
  }

  /** The bytes that a load reads. */
  #extract(load: Load, whole: Value): Value {
    if (load.size === this.#size) return whole;
    const shift = this.#constant(8 * (load.offset - this.#cluster.offset));
    const low = insertBefore(load, createNode(this.#graph, { kind: 'binary', op: 'rsh', width: 64, left: whole, right: shift }));
    return this.#narrow(load, load.size, low);
  }

  /** The value with the bytes that a store writes. */
  #insert(store: Store, before: () => Value): Value {
    const stored = this.#narrow(store, store.size, store.value);
    if (store.size === this.#size) return stored;
    const shift = 8 * (store.offset - this.#cluster.offset);
    const mask = ((1n << BigInt(8 * store.size)) - 1n) << BigInt(shift);
    const binary = (op: 'and' | 'or' | 'lsh', left: Value, right: Value): Value =>
      insertBefore(store, createNode(this.#graph, { kind: 'binary', op, width: 64, left, right }));
    const kept = binary('and', before(), this.#constant(BigInt.asIntN(64, ~mask)));
    return binary('or', kept, binary('lsh', stored, this.#constant(shift)));
  }

  /** Writes the value where the next program finds it, unless it is what was there. */
  #hand(call: Call, value: Value): void {
    const now = this.#substitution.resolve(value);
    if (this.#isEntry(now)) return;
    const { base, space } = this.#where;
    insertBefore(
      call,
      createNode(this.#graph, {
        kind: 'store',
        size: this.#size,
        space,
        base,
        offset: this.#cluster.offset,
        value: now,
        place: call.place,
      }),
    );
  }

  #isEntry(value: Value, seen = new Set<Value>()): boolean {
    const now = this.#substitution.resolve(value);
    if (now === this.#entry || seen.has(now)) return true;
    seen.add(now);
    return now.kind === 'phi' && this.#starts.get(now.block as Block) === now && now.inputs.every((input) => this.#isEntry(input, seen));
  }

  #narrow(before: Node, size: MemorySize, value: Value): Value {
    if (size === 8) return value;
    return insertBefore(before, createNode(this.#graph, { kind: 'unary', op: ZERO_EXTEND[size], operand: value, place: before.place }));
  }

  #constant(value: bigint | number): Value {
    return createNode(this.#graph, { kind: 'const', value: BigInt(value) });
  }
}
