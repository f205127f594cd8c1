/**
 * Global value numbering along the dominator tree: what was computed on every path is not computed again. Loads count
 * as computations of their memory's version; a store makes its value known to loads of the same bytes.
 */
import type { Block, Graph, Node, Space, Store, Value } from '../ir.ts';
import { mapOperands, mapTerminatorOperands, remove } from '../ir.ts';
import { dominance } from './dominance.ts';
import { floatingKey } from './float.ts';
import { constant } from './fold-operand.ts';
import { KnownValues } from './known.ts';
import { clobbered, type MemoryVersion, memoryVersions, SPACES } from './memory.ts';
import { SettledSlots } from './slots.ts';
import { Substitution } from './substitution.ts';

/** Merges equal values. Returns true where the graph changed. */
export function numberValues(graph: Graph): boolean {
  return new Numbering(graph).run();
}

const COMMUTATIVE: ReadonlySet<string> = new Set(['add', 'mul', 'and', 'or', 'xor']);

/** A load or store that is known to hold a value, by the version of memory in which it does. */
interface Held {
  readonly base: string;
  readonly offset: number;
  readonly size: number;
  readonly value: Value;
}

class Numbering {
  private readonly graph: Graph;
  private readonly substitution = new Substitution();
  private readonly known = new KnownValues();
  private readonly slots: SettledSlots;
  /** Scoped: each block undoes what it added. */
  private readonly values = new Map<string, Value>();
  private readonly versionIds = new Map<MemoryVersion, number>();

  constructor(graph: Graph) {
    this.graph = graph;
    this.slots = new SettledSlots(graph);
  }

  run(): boolean {
    const tree = dominance(this.graph);
    const versions = memoryVersions(this.graph);
    const visit = (block: Block, held: ReadonlyMap<string, readonly Held[]>): void => {
      const added: string[] = [];
      const mine = new Map(held);
      this.block(block, mine, added, (space) => versions.atStart(block, space));
      for (const child of tree.children(block)) visit(child, mine);
      for (const key of added) this.values.delete(key);
    };
    visit(this.graph.entry, new Map());
    const changed = this.substitution.size > 0;
    this.substitution.apply(this.graph);
    return changed;
  }

  private block(block: Block, held: Map<string, readonly Held[]>, added: string[], start: (space: Space) => MemoryVersion): void {
    const versions = new Map<Space, string>(SPACES.map((space) => [space, this.versionName(space, start(space))]));
    const version = (space: Space): string => versions.get(space) ?? '';
    for (const node of [...block.nodes]) {
      if (node.kind !== 'phi') mapOperands(node, this.substitution.resolve);
      if (node.kind === 'load') {
        const at = this.held(node.base, node.offset, node.size, node);
        const list = held.get(version(node.space)) ?? [];
        const found = list.find((h) => h.base === at.base && h.offset === at.offset && h.size === at.size);
        const value = found?.value ?? this.fromConstants(list, at);
        if (value) this.replace(node, value);
        else held.set(version(node.space), [...list, at]);
        continue;
      }
      const key = this.key(node, version('context'));
      if (key !== undefined && node.kind !== 'store' && node.kind !== 'atomicAdd') {
        const found = this.values.get(key);
        if (found) this.replace(node, found);
        else {
          this.values.set(key, node);
          added.push(key);
        }
        continue;
      }
      this.clobber(node, held, versions);
    }
    mapTerminatorOperands(block.terminator, this.substitution.resolve);
  }

  /** The constant that bytes hold which were all stored as constants. */
  private fromConstants(list: readonly Held[], at: Held): Value | undefined {
    let value = 0n;
    for (let i = 0; i < at.size; i++) {
      const offset = at.offset + i;
      const by = list.find((h) => h.base === at.base && h.offset <= offset && offset < h.offset + h.size && h.value.kind === 'const');
      if (by?.value.kind !== 'const') return undefined;
      value |= ((by.value.value >> BigInt(8 * (offset - by.offset))) & 0xffn) << BigInt(8 * i);
    }
    return constant(this.graph, value);
  }

  /** Starts new versions, into which goes what the node leaves as it was, and what it stored. */
  private clobber(node: Node, held: Map<string, readonly Held[]>, versions: Map<Space, string>): void {
    for (const space of clobbered(node)) {
      const before = held.get(versions.get(space) ?? '') ?? [];
      const version = this.versionName(space, node);
      versions.set(space, version);
      if (node.kind !== 'store') continue;
      const stored = this.held(node.base, node.offset, node.size, node.value);
      const kept = before.filter(
        (h) => h.base === stored.base && (h.offset + h.size <= stored.offset || stored.offset + stored.size <= h.offset),
      );
      const isWhole = node.value.kind === 'const' || this.known.fitsUnsigned(node.value, node.size * 8);
      held.set(version, isWhole ? [...kept, { ...stored, value: this.stored(node) }] : kept);
    }
  }

  /** What a load of the same bytes yields behind a store. */
  private stored(node: Store): Value {
    return node.value.kind === 'const' ? constant(this.graph, BigInt.asUintN(node.size * 8, node.value.value)) : node.value;
  }

  private replace(node: Value, by: Value): void {
    this.substitution.replace(node, by);
    remove(node);
  }

  private held(base: Value, offset: number, size: number, value: Value): Held {
    return base.kind === 'stackAddress'
      ? { base: `s${base.slot.id}`, offset: base.offset + offset, size, value }
      : { base: this.name(base), offset, size, value };
  }

  /** Equal for nodes that compute one value; undefined for nodes that stay. `epoch` is the context's version. */
  private key(node: Node, epoch: string): string | undefined {
    switch (node.kind) {
      case 'mapValueAddress':
        return `mapValue ${node.map}+${node.offset}`;
      case 'unary':
        return `${node.op} ${this.name(node.operand)}`;
      case 'binary': {
        const sides = [this.name(node.left), this.name(node.right)];
        if (COMMUTATIVE.has(node.op) && node.pointer === undefined) sides.sort();
        return `${node.op}${node.width} ${sides.join(' ')} ${node.pointer ?? ''}`;
      }
      case 'call':
        return node.pure && node.readsStack.every((slot) => this.slots.isSettled(slot))
          ? `call ${node.helper} ${node.args.map((arg) => this.name(arg)).join(' ')} ${epoch}`
          : undefined;
      case 'phi':
        return `phi b${node.block?.id} ${node.inputs.map((input) => this.name(this.substitution.resolve(input))).join(' ')}`;
      default:
        return undefined;
    }
  }

  private name(value: Value): string {
    return floatingKey(value) ?? `%${value.id}`;
  }

  private versionName(space: Space, version: MemoryVersion): string {
    const id = this.versionIds.get(version) ?? this.versionIds.size;
    this.versionIds.set(version, id);
    return `${space}#${id}`;
  }
}
