/**
 * Sinking: what is computed long before it is used moves towards its uses, past calls and into the branches that need
 * it, where its operands are at hand there anyway. Fewer values live across calls, for which there are four registers.
 */
import {
  type Binary,
  type Block,
  type Graph,
  insertBefore,
  type Load,
  type Node,
  operands,
  remove,
  terminatorOperands,
  type Unary,
  type Value,
} from '../ir.ts';
import { type Dominance, dominance } from './dominance.ts';
import { isFloating } from './float.ts';
import { type MemoryVersions, memoryVersions } from './memory.ts';

/** Moves values down. Returns true where one moved. */
export function sinkValues(graph: Graph): boolean {
  return new Sinker(graph).run();
}

type Movable = Binary | Unary | Load;

/** A place in a block: before a node, or at its end. */
interface Position {
  readonly block: Block;
  readonly before: Node | undefined;
}

class Sinker {
  private readonly tree: Dominance;
  /** Loads alone move, which change no version. */
  private readonly versions: MemoryVersions;
  /** The nodes that read a value, and the blocks whose ends do (terminators, and phis behind them). */
  private readonly users = new Map<Value, (Node | Block)[]>();

  constructor(graph: Graph) {
    this.tree = dominance(graph);
    this.versions = memoryVersions(graph);
    for (const block of this.tree.order) {
      for (const node of block.nodes)
        operands(node).forEach((value, i) => {
          const user = node.kind === 'phi' ? block.predecessors[i] : node;
          if (user) this.addUser(value, user);
        });
      for (const value of terminatorOperands(block.terminator)) this.addUser(value, block);
    }
  }

  run(): boolean {
    let changed = false;
    for (const block of [...this.tree.order].reverse())
      for (const node of [...block.nodes].reverse())
        if ((node.kind === 'binary' || node.kind === 'unary' || node.kind === 'load') && this.sink(node, block)) changed = true;
    return changed;
  }

  private addUser(value: Value, user: Node | Block): void {
    const users = this.users.get(value);
    if (users) users.push(user);
    else this.users.set(value, [user]);
  }

  private sink(node: Movable, from: Block): boolean {
    const to = this.destination(node);
    if (!to || this.tree.loopDepth(to.block) > this.tree.loopDepth(from)) return false;
    if (to.block === from && !callBetween(node, to)) return false;
    if (node.kind === 'load' && this.versionAt(node, to) !== this.versions.before(node, node.space)) return false;
    if (operands(node).some((value) => !isFloating(value) && !this.isNeededAfter(value, to))) return false;
    remove(node);
    if (to.before) insertBefore(to.before, node);
    else {
      node.block = to.block;
      to.block.nodes.push(node);
    }
    return true;
  }

  /** The latest place that all uses are behind. */
  private destination(node: Movable): Position | undefined {
    const users = this.users.get(node);
    if (!users) return undefined;
    const blocks = users.map((user) => ('terminator' in user ? user : user.block));
    const block = blocks.reduce((a, b) => (a && b ? this.common(a, b) : undefined));
    if (!block) return undefined;
    return { block, before: block.nodes.find((other) => users.includes(other)) };
  }

  /** The nearest block that dominates both. */
  private common(a: Block, b: Block): Block | undefined {
    let at: Block | undefined = a;
    while (at && !this.tree.dominates(at, b)) at = this.tree.parent(at);
    return at;
  }

  private versionAt(node: Load, to: Position): unknown {
    return to.before ? this.versions.before(to.before, node.space) : this.versions.atEnd(to.block, node.space);
  }

  /** True where a value is still read behind a place. */
  private isNeededAfter(value: Value, to: Position): boolean {
    const start = to.before ? to.block.nodes.indexOf(to.before) : to.block.nodes.length;
    return to.block.nodes.slice(start).some((other) => operands(other).includes(value)) || this.isLiveAtEnd(value, to.block);
  }

  /** True where a way from the end of a block leads to a reader of a value, or its terminator is one. */
  private isLiveAtEnd(value: Value, block: Block): boolean {
    const seen = new Set<Block>();
    const pending: Block[] = [];
    // from the readers back to where the value is made
    const wantedIn = (at: Block | undefined): void => {
      if (!at || at === value.block || seen.has(at)) return;
      seen.add(at);
      pending.push(at);
    };
    for (const user of this.users.get(value) ?? []) {
      if (user === block) return true;
      wantedIn('terminator' in user ? user : user.block);
    }
    for (let at = pending.pop(); at; at = pending.pop()) {
      if (at.predecessors.includes(block)) return true;
      at.predecessors.forEach(wantedIn);
    }
    return false;
  }
}

/** True where a call stands between a node and a place further down in its block. */
function callBetween(node: Node, to: Position): boolean {
  const start = to.block.nodes.indexOf(node);
  const end = to.before ? to.block.nodes.indexOf(to.before) : to.block.nodes.length;
  return to.block.nodes.slice(start, end).some((other) => other.kind === 'call');
}
