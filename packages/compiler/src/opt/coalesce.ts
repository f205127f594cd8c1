/**
 * Store coalescing: neighbouring stores that nothing reads in between become the widest that their values allow.
 * Constants join, bytes that were loaded from neighbouring places are loaded at once, a value with clear upper bits
 * covers zeros behind it. In slots that a helper reads, two halves of a word are put together by shift and or: the
 * kernel hashes keys in 4-byte words, and a word stored in pieces stalls the load (13 ns a lookup).
 */
import type { Block, Graph, Node, StackSlot, Store } from '../ir.ts';
import { insertBefore, operands, remove } from '../ir.ts';
import { type ByteSource, StorePlanner } from './coalesce-plan.ts';
import { constantOf } from './fold-operand.ts';
import { KnownValues } from './known.ts';
import { type MemoryVersions, memoryVersions } from './memory.ts';

/** Coalesces stores within each block. Returns true where the graph changed. */
export function coalesceStores(graph: Graph): boolean {
  let changed = false;
  const readByCalls = new Set<StackSlot>();
  for (const block of graph.blocks)
    for (const node of block.nodes) if (node.kind === 'call') for (const slot of node.readsStack) readByCalls.add(slot);
  let versions: MemoryVersions | undefined;
  for (const block of graph.blocks) {
    const groups = storeGroups(block);
    if (groups.length === 0) continue;
    versions ??= memoryVersions(graph);
    let rewritten = false;
    for (const group of groups) if (rewrite(graph, group, versions, readByCalls)) rewritten = true;
    if (!rewritten) continue;
    changed = true;
    // they name nodes, which rewriting the block may have removed
    versions = undefined;
  }
  return changed;
}

/** Stores to one object in program order, between which nothing depends on how far they have come. */
type StoreGroup = readonly Store[];

/** The object that a store writes to: stores to different objects of one space may still overlap. */
function objectOf(node: Store): string {
  return node.base.kind === 'stackAddress' ? `s${node.base.slot.id}` : `%${node.base.id}`;
}

/** The offset of an access in its object. */
function offsetOf(node: { readonly base: Node; readonly offset: number }): number {
  return node.base.kind === 'stackAddress' ? node.base.offset + node.offset : node.offset;
}

function storeGroups(block: Block): StoreGroup[] {
  const open = new Map<string, Store[]>();
  const done: StoreGroup[] = [];
  for (const node of block.nodes) {
    for (const [object, group] of [...open])
      if (separates(node, object, group)) {
        done.push(group);
        open.delete(object);
      }
    // the kernel wants fields of the context as wide as they are
    if (node.kind !== 'store' || node.space === 'skb') continue;
    const group = open.get(objectOf(node));
    if (group) group.push(node);
    else open.set(objectOf(node), [node]);
  }
  done.push(...open.values());
  return done.filter((group) => group.length > 1);
}

/** True where a node may read or overwrite what a group writes, so that the group's stores cannot be put off past it. */
function separates(node: Node, object: string, group: StoreGroup): boolean {
  const [first] = group;
  if (!first) return false;
  switch (node.kind) {
    case 'store':
      return node.space === first.space && objectOf(node) !== object && !areApart(node, first);
    case 'atomicAdd':
      return node.space === first.space;
    case 'load': {
      if (node.space !== first.space) return false;
      const sameObject = node.base.kind === 'stackAddress' ? `s${node.base.slot.id}` === object : `%${node.base.id}` === object;
      if (!sameObject) return !areApart(node, first);
      const offset = offsetOf(node);
      return group.some((store) => offset < offsetOf(store) + store.size && offsetOf(store) < offset + node.size);
    }
    case 'call': {
      if (first.base.kind !== 'stackAddress') return true;
      const { slot } = first.base;
      return (
        node.readsStack.includes(slot) ||
        node.writesStack.includes(slot) ||
        operands(node).some((arg) => arg.kind === 'stackAddress' && arg.slot === slot)
      );
    }
    default:
      return operands(node).some((value) => value.kind === 'stackAddress' && `s${value.slot.id}` === object);
  }
}

/** Two slots never overlap; of other bases in one space that is not known. */
function areApart(a: { readonly base: Node }, b: { readonly base: Node }): boolean {
  return a.base.kind === 'stackAddress' && b.base.kind === 'stackAddress';
}

/** What a store writes to one of its bytes. */
function byteOf({ value }: Store, index: number): ByteSource {
  const known = constantOf(value);
  if (known !== undefined) return { constant: Number((known >> BigInt(8 * index)) & 0xffn) };
  // above what a load reads are zeros, and not what memory has there
  return value.kind === 'load' && index >= value.size ? { constant: 0 } : { value, index };
}

function rewrite(graph: Graph, group: StoreGroup, versions: MemoryVersions, readByCalls: ReadonlySet<StackSlot>): boolean {
  const first = group[0];
  const last = group.at(-1);
  if (!first || !last) return false;
  const bytes = new Map<number, ByteSource>();
  for (const store of group) for (let i = 0; i < store.size; i++) bytes.set(offsetOf(store) + i, byteOf(store, i));
  const isStack = first.base.kind === 'stackAddress';
  const planner = new StorePlanner({
    graph,
    bytes,
    isAligned: isStack,
    joins: first.base.kind === 'stackAddress' && readByCalls.has(first.base.slot),
    // The group's own stores move to the last one's place, so memory there is as it was before the first.
    canReload: (load) => {
      const { space } = load;
      if (space === 'context' || space === 'skb') return false;
      return versions.before(load, space) === versions.before(space === first.space ? first : last, space);
    },
    known: new KnownValues(),
    place: last.place,
  });
  const plan = planner.plan();
  if (!plan || plan.length >= group.length) return false;
  for (const node of planner.made) insertBefore(last, node);
  const delta = first.base.kind === 'stackAddress' ? first.base.offset : 0;
  for (const { offset, size, value } of plan) insertBefore(last, planner.store(first, offset - delta, size, value));
  for (const store of group) remove(store);
  return true;
}
