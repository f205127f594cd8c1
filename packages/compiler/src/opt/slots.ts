/**
 * Stack slots that are written once and only read by calls: two that hold the same bytes become one, so that a key is
 * built once however often it is looked up.
 */
import {
  type Block,
  type Call,
  createNode,
  type Graph,
  mapOperands,
  operands,
  type StackSlot,
  type Store,
  terminatorOperands,
  type Value,
} from '../ir.ts';
import { type Dominance, dominance } from './dominance.ts';
import { sameValue } from './simplify-cfg.ts';

/** Slots whose content is the same at every call that reads it. */
export class SettledSlots {
  private readonly tree: Dominance;
  private readonly stores = new Map<StackSlot, Store[]>();
  private readonly readers = new Map<StackSlot, Call[]>();
  private readonly unsettled = new Set<StackSlot>();

  constructor(graph: Graph, tree: Dominance = dominance(graph)) {
    this.tree = tree;
    for (const block of graph.blocks) {
      for (const node of block.nodes) {
        if (node.kind === 'call') {
          for (const slot of node.writesStack) this.unsettled.add(slot);
          for (const slot of node.readsStack) this.readers.set(slot, [...(this.readers.get(slot) ?? []), node]);
        } else if (node.kind === 'store' && node.base.kind === 'stackAddress' && node.value.kind !== 'stackAddress') {
          const { slot } = node.base;
          this.stores.set(slot, [...(this.stores.get(slot) ?? []), node]);
        } else this.unsettle(operands(node));
      }
      this.unsettle(terminatorOperands(block.terminator));
    }
    for (const [slot, stores] of this.stores) if (!this.isWrittenOnce(slot, stores)) this.unsettled.add(slot);
  }

  /** True where all of a slot is written before any call reads it, each byte once, and never after. */
  isSettled(slot: StackSlot): boolean {
    return this.stores.has(slot) && !this.unsettled.has(slot);
  }

  /** Settled slots with their stores by offset. */
  settled(): [StackSlot, readonly Store[]][] {
    return [...this.stores]
      .filter(([slot]) => this.isSettled(slot))
      .map(([slot, stores]) => [slot, [...stores].sort((a, b) => offsetOf(a) - offsetOf(b))]);
  }

  /** True where control passes `first` on every way to `second`. */
  precedes(first: Store, second: Store | Call): boolean {
    if (first.block !== second.block)
      return first.block !== undefined && second.block !== undefined && this.tree.dominates(first.block, second.block);
    const nodes = (first.block as Block).nodes;
    return nodes.indexOf(first) < nodes.indexOf(second);
  }

  private unsettle(values: readonly Value[]): void {
    for (const value of values) if (value.kind === 'stackAddress') this.unsettled.add(value.slot);
  }

  private isWrittenOnce(slot: StackSlot, stores: readonly Store[]): boolean {
    const bytes = new Set<number>();
    for (const store of stores)
      for (let i = 0; i < store.size; i++) {
        const at = offsetOf(store) + i;
        if (bytes.has(at)) return false;
        bytes.add(at);
      }
    return stores.every((store) => (this.readers.get(slot) ?? []).every((call) => this.precedes(store, call)));
  }
}

/** Makes equal settled slots one. Returns true where there were some. */
export function mergeSlots(graph: Graph): boolean {
  const slots = new SettledSlots(graph);
  const replaced = new Map<StackSlot, StackSlot>();
  const kept: [StackSlot, readonly Store[]][] = [];
  for (const [slot, stores] of slots.settled()) {
    const same = kept.find(
      ([, others]) => hasSameContent(stores, others) && stores.every((s) => others.every((o) => slots.precedes(o, s))),
    );
    if (same) replaced.set(slot, same[0]);
    else kept.push([slot, stores]);
  }
  if (replaced.size === 0) return false;
  const by = (value: Value): Value => {
    const slot = value.kind === 'stackAddress' ? replaced.get(value.slot) : undefined;
    return slot && value.kind === 'stackAddress' ? createNode(graph, { kind: 'stackAddress', slot, offset: value.offset }) : value;
  };
  for (const block of graph.blocks) {
    block.nodes = block.nodes.filter(
      (node) => !(node.kind === 'store' && node.base.kind === 'stackAddress' && replaced.has(node.base.slot)),
    );
    for (const node of block.nodes) {
      if (node.kind !== 'call') continue;
      mapOperands(node, by);
      Object.assign(node, { readsStack: [...new Set(node.readsStack.map((slot) => replaced.get(slot) ?? slot))] });
    }
  }
  graph.slots = graph.slots.filter((slot) => !replaced.has(slot));
  return true;
}

function hasSameContent(a: readonly Store[], b: readonly Store[]): boolean {
  return (
    a.length === b.length &&
    a.every((store, i) => {
      const other = b[i];
      return other && store.size === other.size && offsetOf(store) === offsetOf(other) && sameValue(store.value, other.value);
    })
  );
}

function offsetOf(store: Store): number {
  return store.base.kind === 'stackAddress' ? store.base.offset + store.offset : store.offset;
}
