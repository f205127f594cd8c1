/** What a member of `ctx` is to the compiler. The tables of members stand beside what makes them. */
import type { Hook } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import type { Range } from '../range.ts';
import type { Operand, RefOperand } from './operand.ts';
import type { Program } from './program.ts';

/** A member of `ctx`: a property has `get`, one that can be assigned to also `place`, a method has `call`. */
export interface Member {
  /** The hooks that have it; all unless said otherwise. */
  readonly hooks?: readonly Hook[];
  /** What to write at the others. */
  readonly hint?: string;
  readonly get?: (program: Program, node: SyntaxNode) => Operand;
  /** Where assignments go, and what may be assigned; any number that the place holds unless said otherwise. */
  readonly place?: (program: Program) => RefOperand;
  readonly assignable?: Range;
  readonly call?: (program: Program, node: SyntaxNode, args: readonly Operand[]) => Operand;
}

export type Members = Readonly<Record<string, Member>>;

export const AT_XDP: readonly Hook[] = ['xdp'];
export const AT_TC: readonly Hook[] = ['tc', 'tcIngress', 'tcEgress'];
