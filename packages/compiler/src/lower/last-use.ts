/** Where a program names its variables for the last time: behind that, outside of loops, nothing needs to be kept for them. */
import type { Node as SyntaxNode } from 'acorn';
import type { Source } from '../source.ts';
import type { Variable } from './operand.ts';

/** Names behind dots and in front of colons are no variables. */
type Loose = SyntaxNode & { readonly name?: string; readonly computed?: boolean; readonly shorthand?: boolean };

export class LastUses {
  readonly #bySource = new WeakMap<SyntaxNode, ReadonlyMap<string, number>>();
  readonly #declared = new WeakMap<Variable, Source>();

  /** A variable of the source that is lowered now. */
  declared(variable: Variable, source: Source): void {
    this.#declared.set(variable, source);
  }

  /** Is a variable named no more from a place on? `repeats` where what stands before the place may come again. */
  isOver(variable: Variable, source: Source, place: SyntaxNode, repeats: boolean): boolean {
    const own = this.#declared.get(variable);
    if (repeats || own?.node !== source.node) return false;
    return (this.#ends(source.node).get(variable.name) ?? Number.POSITIVE_INFINITY) <= place.start;
  }

  /** By name, wherever it is declared: the end of the last identifier. */
  #ends(root: SyntaxNode): ReadonlyMap<string, number> {
    const known = this.#bySource.get(root);
    if (known) return known;
    const ends = new Map<string, number>();
    const visit = (value: unknown): void => {
      if (Array.isArray(value)) for (const item of value) visit(item);
      else if (typeof value === 'object' && value !== null && 'type' in value) {
        const { type, name, end, computed, shorthand } = value as Loose;
        if (type === 'Identifier' && name !== undefined) ends.set(name, Math.max(end, ends.get(name) ?? 0));
        const named = computed ? '' : type === 'MemberExpression' ? 'property' : type === 'Property' && !shorthand ? 'key' : '';
        for (const [part, child] of Object.entries(value)) if (typeof child === 'object' && part !== named) visit(child);
      }
    };
    visit(root);
    this.#bySource.set(root, ends);
    return ends;
  }
}
