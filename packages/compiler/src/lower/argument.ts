/** Arguments of calls: what they must be, and the error where they are not. */
import type { CallExpression, Node as SyntaxNode } from 'acorn';
import * as R from '../range.ts';
import type { Lowering } from './lowering.ts';
import { describe, type NumberOperand, type Operand } from './operand.ts';

/** The syntax of a call's argument; the call itself where there is none. */
export function argumentNode(call: SyntaxNode, index: number): SyntaxNode {
  return (call as Partial<CallExpression>).arguments?.[index] ?? call;
}

/** A number argument within a range. */
export function numberArgument(lowering: Lowering, node: SyntaxNode, operand: Operand | undefined, within: R.Range): NumberOperand {
  if (operand?.kind !== 'number')
    return lowering.fail(node, 'type', `${operand ? describe(operand) : 'nothing'} where a number is expected`);
  if (!R.within(operand.range, within)) {
    lowering.fail(
      node,
      'range',
      `the argument ${R.mayBe(operand.range)}, expected ${within.lo}..${within.hi}`,
      within.lo === 0n ? 'make it unsigned: x >>> 0' : undefined,
    );
  }
  return operand;
}
