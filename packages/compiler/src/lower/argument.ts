/** Arguments of calls: what they must be, and the error where they are not. */
import type { CallExpression, Node as SyntaxNode } from 'acorn';
import * as R from '../range.ts';
import type { Lowering } from './lowering.ts';
import { describe, type NumberOperand, type Operand } from './operand.ts';

/** The syntax of a call's argument; the call itself where there is none. */
export function argumentNode(call: SyntaxNode, index: number): SyntaxNode {
  return (call as Partial<CallExpression>).arguments?.[index] ?? call;
}

/** Refuses verdicts but where they are returned: a redirect takes effect where it is called. */
export function noVerdict(lowering: Lowering, node: SyntaxNode, operand: Operand): Operand {
  if (operand.kind !== 'verdict') return operand;
  return lowering.fail(node, 'verdict', 'a verdict is kept instead of returned', 'return each verdict where it is decided');
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
      hintFor(operand.range, within),
    );
  }
  return operand;
}

function hintFor(given: R.Range, within: R.Range): string | undefined {
  if (within.lo !== 0n) return R.within(within, R.INT32) ? 'make it 32 bits: x | 0' : undefined;
  return given.lo < 0n ? 'make it unsigned: x >>> 0' : `mask it: & 0x${within.hi.toString(16)}`;
}
