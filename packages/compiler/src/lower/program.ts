/** What the parts of the lowering know of each other: the entry points of the recursion, and the program's own data. */
import type { AnyStage, FnDecl } from '@tailrace/stage';
import type { Expression, Function as ParsedFunction, Node as SyntaxNode, VariableDeclaration } from 'acorn';
import type { Placement } from '../placement.ts';
import type { Lowering } from './lowering.ts';
import type { NamesOperand, Operand, Variable } from './operand.ts';
import type { Join } from './path.ts';

/** Where `return` leads: out of the program, or to the call of a fn. */
export type Frame = { readonly kind: 'program' } | { readonly kind: 'fn'; readonly done: Join };

/** Names of one block, and the scope around it. */
export interface Scope {
  readonly names: Map<string, Variable>;
  readonly parent: Scope | undefined;
}

export interface LoopTargets {
  readonly label: string | undefined;
  readonly done: Join;
  /** Undefined in a `switch` and in a labelled block. */
  readonly next: Join | undefined;
  /** A labelled block: a `break` without a label passes it by. */
  readonly onlyByLabel?: boolean;
}

export interface Program {
  readonly lowering: Lowering;
  readonly stage: AnyStage;
  readonly placement: Placement | undefined;
  scope: Scope;
  frame: Frame;
  loops: LoopTargets[];
  /** Fns whose bodies are being lowered, from the outside in. */
  readonly active: Set<FnDecl>;

  expression(node: Expression): Operand;
  /** An expression whose value is not used, in any of the ways minifiers write statements. */
  effect(node: Expression): void;
  statements(body: readonly SyntaxNode[]): void;
  /** Runs a body with its parameters bound, in a scope of its own; the value is what it returns. */
  inline(body: ParsedFunction, args: readonly Operand[], at: SyntaxNode): Operand;
  /** What a bag's members are. */
  bag(uses: Readonly<Record<string, unknown>>, path: string): NamesOperand;
  /** Makes a variable in the current scope, or that of the function for `var`. */
  declare(name: string, operand: Operand, kind: VariableDeclaration['kind']): Variable;
}

/** The scope of a function as a whole, where `var` declares. */
export function functionScope(scope: Scope): Scope {
  let outer = scope;
  while (outer.parent) outer = outer.parent;
  return outer;
}

/** Finds a name from the inside out. */
export function find(scope: Scope | undefined, name: string): Variable | undefined {
  for (let s = scope; s; s = s.parent) {
    const found = s.names.get(name);
    if (found) return found;
  }
  return undefined;
}
