/** Replacing values: passes collect what stands for what, then rewrite every operand once. */
import { type Graph, mapOperands, mapTerminatorOperands, remove, type Value } from '../ir.ts';

/** A set of replacements; chains are followed to their end. */
export class Substitution {
  private readonly replacements = new Map<Value, Value>();

  get size(): number {
    return this.replacements.size;
  }

  /** From now on `by` stands for `value`. The node itself stays where it is. */
  replace(value: Value, by: Value): void {
    if (this.resolve(by) !== value) this.replacements.set(value, by);
  }

  /** What stands for a value at last. */
  resolve = (value: Value): Value => {
    let at = value;
    for (let next = this.replacements.get(at); next; next = this.replacements.get(at)) at = next;
    if (at !== value) this.replacements.set(value, at);
    return at;
  };

  /** Rewrites all operands and takes the replaced nodes out of their blocks. */
  apply(graph: Graph): void {
    if (this.replacements.size === 0) return;
    for (const block of graph.blocks) {
      for (const node of block.nodes) mapOperands(node, this.resolve);
      mapTerminatorOperands(block.terminator, this.resolve);
    }
    for (const value of this.replacements.keys()) remove(value);
  }
}
