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
/** Hooks of interfaces, where packets are frames. */
export const AT_FRAMES: readonly Hook[] = [...AT_XDP, ...AT_TC];
export const AT_DATA: readonly Hook[] = ['skSkb', 'skMsg'];
export const AT_SOCKETS: readonly Hook[] = [...AT_DATA, 'sockOps'];

/** Members that only some hooks have, unless they say otherwise themselves. */
export function only(hooks: readonly Hook[], members: Members): Members {
  return Object.fromEntries(Object.entries(members).map(([name, member]) => [name, { hooks, ...member }]));
}
