/**
 * Memory versions: for each load, a number that changes whenever what it reads might have. Two loads of one address
 * with one version yield one value.
 *
 * - `context` and `packet` change at calls that move the packet; `packet` also at stores to it, `context` at stores.
 * - `skb` and `ring` change at stores to them alone.
 * - `stack` changes at stores to it and at calls that write it.
 * - `map` memory belongs to other CPUs too: it changes at every store, atomic and call, and at every block boundary.
 */
import type { Block, Graph, Node, Space } from '../ir.ts';
import { reversePostOrder } from '../ir.ts';

/** A point in the life of one space: the node that last changed it, the block where versions met, or the start. */
export type MemoryVersion = Node | Block | undefined;

export interface MemoryVersions {
  /** The version of a space at the start of a block. */
  atStart(block: Block, space: Space): MemoryVersion;
  /** The version of a space just before a node of a block. */
  before(node: Node, space: Space): MemoryVersion;
  /** The version of a space at the end of a block. */
  atEnd(block: Block, space: Space): MemoryVersion;
}

/** Every space there is. */
export const SPACES: readonly Space[] = ['context', 'skb', 'packet', 'stack', 'map', 'ring'];

const NONE: readonly Space[] = [];
const ALONE: Readonly<Record<Space, readonly Space[]>> = {
  context: ['context'],
  skb: ['skb'],
  packet: ['packet'],
  stack: ['stack'],
  map: ['map'],
  ring: ['ring'],
};

/** The spaces of which loads may yield something else behind a node. */
export function clobbered(node: Node): readonly Space[] {
  switch (node.kind) {
    case 'store':
    case 'atomicAdd':
      return ALONE[node.space];
    case 'call': {
      if (node.pure) return NONE;
      const spaces: Space[] = ['map'];
      if (node.writesStack.length > 0) spaces.push('stack');
      if (node.movesPacket) spaces.push('context', 'packet');
      return spaces;
    }
    default:
      return NONE;
  }
}

/** Computes the versions at the starts of blocks; those within are read off the blocks when they are asked for. */
export function memoryVersions(graph: Graph): MemoryVersions {
  const order = reversePostOrder(graph);
  const starts = new Map<Space, Map<Block, MemoryVersion>>();
  for (const [space, last] of lastChanges(order)) if (space !== 'map') starts.set(space, startVersions(graph.entry, order, last));
  const atStart = (block: Block, space: Space): MemoryVersion => (space === 'map' ? block : starts.get(space)?.get(block));
  const behind = (block: Block, count: number, space: Space): MemoryVersion => {
    if (space !== 'map' && !starts.has(space)) return undefined;
    for (let i = count - 1; i >= 0; i--) {
      const node = block.nodes[i];
      if (node && clobbered(node).includes(space)) return node;
    }
    return atStart(block, space);
  };
  return {
    atStart,
    before: (node, space) => {
      if (!node.block) throw new RangeError('a node that stands in no block has no memory before it');
      return behind(node.block, node.block.nodes.indexOf(node), space);
    },
    atEnd: (block, space) => behind(block, block.nodes.length, space),
  };
}

/** The node of each block that changes a space last, for those that are changed anywhere. */
function lastChanges(order: readonly Block[]): Map<Space, Map<Block, Node>> {
  const last = new Map<Space, Map<Block, Node>>();
  for (const block of order)
    for (const node of block.nodes)
      for (const space of clobbered(node)) {
        const known = last.get(space);
        if (known) known.set(block, node);
        else last.set(space, new Map([[block, node]]));
      }
  return last;
}

function startVersions(entry: Block, order: readonly Block[], last: ReadonlyMap<Block, Node>): Map<Block, MemoryVersion> {
  const starts = new Map<Block, MemoryVersion>();
  const ends = new Map<Block, MemoryVersion>();
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of order) {
      const start = startOf(block, entry, ends, starts);
      const end = last.get(block) ?? start;
      if (ends.has(block) && starts.get(block) === start && ends.get(block) === end) continue;
      starts.set(block, start);
      ends.set(block, end);
      changed = true;
    }
  }
  return starts;
}

/** What the predecessors seen so far agree on, or the block itself where they do not. */
function startOf(
  block: Block,
  entry: Block,
  ends: ReadonlyMap<Block, MemoryVersion>,
  starts: ReadonlyMap<Block, MemoryVersion>,
): MemoryVersion {
  if (block === entry) return undefined;
  if (starts.get(block) === block) return block;
  let first: MemoryVersion;
  let isFirst = true;
  for (const p of block.predecessors) {
    if (!ends.has(p)) continue;
    const end = ends.get(p);
    if (isFirst) first = end;
    else if (end !== first) return block;
    isFirst = false;
  }
  return first;
}
