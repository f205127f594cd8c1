/**
 * After code was copied, a value has several definitions. This rewrites its uses to the one that reaches them, with
 * phis where several do (Braun et al., "Simple and Efficient Construction of Static Single Assignment Form").
 */
import {
  append,
  type Block,
  createNode,
  type Graph,
  mapOperands,
  mapTerminatorOperands,
  operands,
  type Phi,
  type Space,
  terminatorOperands,
  type Value,
} from '../ir.ts';
import { GraphError } from './verify.ts';

/** Where a value comes from and where it goes. */
export interface Repaired {
  /** The block of the original, whose own uses stay. */
  readonly home: Block;
  /** What holds the value at the end of blocks. */
  readonly definitions: ReadonlyMap<Block, Value>;
  /** The blocks that read the original. */
  readonly users: readonly Block[];
}

/** The blocks that read each of some values of `home`: any of its own in phis alone. */
export function blocksThatRead(graph: Graph, values: ReadonlyMap<Value, unknown>, home: Block): Map<Value, Block[]> {
  const users = new Map<Value, Block[]>();
  if (values.size === 0) return users;
  for (const block of graph.blocks) {
    const note = (value: Value): void => {
      if (!values.has(value)) return;
      const known = users.get(value);
      if (!known) users.set(value, [block]);
      else if (known.at(-1) !== block) known.push(block);
    };
    for (const node of block.nodes) if (block !== home || node.kind === 'phi') operands(node).forEach(note);
    if (block !== home) terminatorOperands(block.terminator).forEach(note);
  }
  return users;
}

/** Rewrites the uses of `original` outside of its own block. */
export function repairUses(graph: Graph, original: Value, { home, definitions, users }: Repaired): void {
  const repair = new Repair(graph, original, definitions);
  for (const block of users) {
    // Phis that are made on the way must not be visited.
    for (const node of [...block.nodes])
      if (node.kind === 'phi')
        node.inputs.forEach((input, i) => {
          const from = block.predecessors[i];
          if (input === original && from) node.inputs[i] = repair.atEnd(from);
        });
      else if (block !== home) mapOperands(node, (value) => (value === original ? repair.atStart(block) : value));
    if (block !== home) mapTerminatorOperands(block.terminator, (value) => (value === original ? repair.atStart(block) : value));
  }
}

class Repair {
  private readonly graph: Graph;
  private readonly original: Value;
  private readonly definitions: ReadonlyMap<Block, Value>;
  private readonly starts = new Map<Block, Value>();

  constructor(graph: Graph, original: Value, definitions: ReadonlyMap<Block, Value>) {
    this.graph = graph;
    this.original = original;
    this.definitions = definitions;
  }

  atEnd(block: Block): Value {
    return this.definitions.get(block) ?? this.atStart(block);
  }

  atStart(block: Block): Value {
    const known = this.starts.get(block);
    if (known) return known;
    const [first, ...others] = block.predecessors;
    if (!first) {
      if (block === this.graph.entry) throw new GraphError(this.graph.name, [`no definition of %${this.original.id} reaches b${block.id}`]);
      // cut off, and about to be dropped
      return this.original;
    }
    if (others.length === 0) {
      const value = this.atEnd(first);
      this.starts.set(block, value);
      return value;
    }
    const phi = createNode(this.graph, { kind: 'phi', inputs: [], place: this.original.place, ...pointerOf(this.original) });
    this.starts.set(block, phi);
    append(block, phi);
    phi.inputs = block.predecessors.map((p) => this.atEnd(p));
    return phi;
  }
}

/** The `pointer` field of a phi that carries `value`. */
export function pointerOf(value: Value): { readonly pointer?: Space } | Pick<Phi, never> {
  return 'pointer' in value && value.pointer !== undefined ? { pointer: value.pointer } : {};
}
