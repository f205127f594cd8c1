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
  /** The versions of all spaces just before a node of a block. */
  before(node: Node): Readonly<Record<Space, MemoryVersion>>;
  /** The versions of all spaces at the end of a block. */
  atEnd(block: Block): Readonly<Record<Space, MemoryVersion>>;
}

const SPACES: readonly Space[] = ['context', 'skb', 'packet', 'stack', 'map', 'ring'];

/** True where the node may change what loads from `space` yield. */
export function clobbers(node: Node, space: Space): boolean {
  switch (node.kind) {
    case 'store':
    case 'atomicAdd':
      return node.space === space;
    case 'call':
      if (node.pure) return false;
      if (space === 'map') return true;
      if (space === 'skb' || space === 'ring') return false;
      if (space === 'stack') return node.writesStack.length > 0;
      return node.movesPacket;
    default:
      return false;
  }
}

/** Computes the versions of a graph as it stands. */
export function memoryVersions(graph: Graph): MemoryVersions {
  const order = reversePostOrder(graph);
  const starts = new Map<Space, Map<Block, MemoryVersion>>();
  for (const space of SPACES) starts.set(space, startVersions(graph, order, space));
  const atStart = (block: Block, space: Space): MemoryVersion => starts.get(space)?.get(block);
  const upTo = (block: Block, end: Node | undefined): Record<Space, MemoryVersion> => {
    const versions: Record<Space, MemoryVersion> = {
      context: undefined,
      skb: undefined,
      packet: undefined,
      stack: undefined,
      map: undefined,
      ring: undefined,
    };
    for (const space of SPACES) versions[space] = atStart(block, space);
    for (const node of block.nodes) {
      if (node === end) break;
      for (const space of SPACES) if (clobbers(node, space)) versions[space] = node;
    }
    return versions;
  };
  return {
    atStart,
    before: (node) => {
      if (!node.block) throw new RangeError('a node that stands in no block has no memory before it');
      return upTo(node.block, node);
    },
    atEnd: (block) => upTo(block, undefined),
  };
}

function startVersions(graph: Graph, order: readonly Block[], space: Space): Map<Block, MemoryVersion> {
  const starts = new Map<Block, MemoryVersion>();
  const ends = new Map<Block, MemoryVersion>();
  const visited = new Set<Block>();
  const last = new Map(order.map((block) => [block, block.nodes.findLast((node) => clobbers(node, space))]));
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of order) {
      const start = space === 'map' ? block : startOf(block, graph.entry, ends, visited, starts);
      const end = last.get(block) ?? start;
      if (visited.has(block) && starts.get(block) === start && ends.get(block) === end) continue;
      visited.add(block);
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
  visited: ReadonlySet<Block>,
  starts: ReadonlyMap<Block, MemoryVersion>,
): MemoryVersion {
  if (block === entry) return undefined;
  if (starts.get(block) === block) return block;
  const seen = block.predecessors.filter((p) => visited.has(p)).map((p) => ends.get(p));
  return seen.every((version) => version === seen[0]) ? seen[0] : block;
}
