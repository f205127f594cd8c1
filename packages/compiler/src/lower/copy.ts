/** `ctx.copy`: bytes of a socket's data into a map's value, at a place and in a number that are known when it runs. */
import { Helper } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { isConstant, UINT32 } from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import type { Lowering } from './lowering.ts';
import { present } from './memory.ts';
import { describe, type NumberOperand, type Operand, type RefOperand } from './operand.ts';
import { exact } from './scalar.ts';
import { succeeded } from './success.ts';

export function copyBytes(lowering: Lowering, node: SyntaxNode, args: readonly Operand[]): Operand {
  const offset = numberArgument(lowering, argumentNode(node, 0), args[0], UINT32);
  const length = numberArgument(lowering, argumentNode(node, 1), args[1], UINT32);
  if (length.range.lo < 1n)
    lowering.fail(argumentNode(node, 1), 'range', 'the number of bytes may be 0', 'test it first: if (length === 0) return …');
  const into = bytesIn(lowering, argumentNode(node, 2), args[2]);
  const to = args[3] === undefined ? lowering.number(0) : numberArgument(lowering, argumentNode(node, 3), args[3], UINT32);
  const most = Number(length.range.hi);
  const room = isConstant(length.range) ? most : 2 ** (32 - Math.clz32(most - 1));
  if (Number(to.range.hi) + room > into.length)
    lowering.fail(
      node,
      'range',
      `up to ${room} bytes from item ${to.range.hi} on, of ${into.length}`,
      'mask the place and the length, or make the array larger',
    );
  const start = lowering.advance(into.ref.base, lowering.constant(into.ref.offset), 'map');
  const place = isConstant(to.range) ? exact(lowering, to) : below(lowering, exact(lowering, to), into.length - room + 1);
  const target = lowering.advance(start, place, 'map');
  const copied = [lowering.graph.context, exact(lowering, offset), target, counted(lowering, length, room)];
  return succeeded(lowering, lowering.call(Helper.skb_load_bytes, copied));
}

function bytesIn(lowering: Lowering, node: SyntaxNode, operand: Operand | undefined): { ref: RefOperand; length: number } {
  const isBytes =
    operand?.kind === 'ref' && operand.layout.kind === 'array' && operand.layout.item.kind === 'int' && operand.layout.item.size === 1;
  if (!isBytes || operand.space !== 'map')
    return lowering.fail(
      node,
      'type',
      `${operand ? describe(operand) : 'nothing'} where an array of bytes in a map's value is expected`,
      'declare it with array(u8, n) and look the value up',
    );
  const ref = present(lowering, node, operand);
  return { ref, length: ref.layout.size };
}

/** What the verifier takes for a place below a bound: it follows a comparison and a mask, and nothing else that led to the value. */
function below(lowering: Lowering, place: Value, bound: number): Value {
  const join = lowering.newJoin();
  lowering.branch(
    'lt',
    place,
    lowering.constant(bound),
    () => lowering.jump(join),
    () => lowering.return(lowering.constant(lowering.hook.lost)),
    'then',
  );
  lowering.enter(join);
  return place;
}

/** What it takes for a length that is not 0 and within a power of two. */
function counted(lowering: Lowering, length: NumberOperand, room: number): Value {
  if (isConstant(length.range)) return exact(lowering, length);
  const less = lowering.binary('sub', exact(lowering, length), lowering.constant(1));
  return lowering.binary('add', lowering.binary('and', less, lowering.constant(room - 1)), lowering.constant(1));
}
