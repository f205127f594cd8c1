/** `hashOf` and `equal` over any schema, computed on the fields in registers. */
import type { Layout } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { UINT32 } from '../range.ts';
import { isDense, loadBytes } from './access.ts';
import { argumentNode } from './argument.ts';
import type { Lowering } from './lowering.ts';
import { member, present, readPlace, sameLayout } from './memory.ts';
import type { IntrinsicOperand, NumberOperand, Operand, RefOperand } from './operand.ts';
import type { Join } from './path.ts';
import { known } from './scalar.ts';
import { onStack, stackRef } from './store.ts';

export function intrinsicCall(lowering: Lowering, node: SyntaxNode, { intrinsic }: IntrinsicOperand, args: readonly Operand[]): Operand {
  const { layout } = intrinsic.schema;
  const isHash = intrinsic.name === 'hashOf';
  const places = args.map((arg, i) => place(lowering, argumentNode(node, i), layout, arg, isHash));
  const [left, right] = places;
  if (isHash) return left ? hash(lowering, left) : lowering.fail(node, 'type', 'the hash needs a key');
  if (!left || !right) return lowering.fail(node, 'type', 'two values are compared');
  return equal(lowering, left, right);
}

/** The operand in memory: a reference as it is, unless its bytes count and are not all its value's; anything else on the stack. */
function place(lowering: Lowering, node: SyntaxNode, layout: Layout, operand: Operand, bytesCount: boolean): RefOperand {
  const isOther = operand.kind === 'ref' && bytesCount && operand.space === 'packet' && !isDense(layout);
  if (operand.kind === 'ref' && sameLayout(operand.layout, layout) && !isOther) return present(lowering, node, operand);
  const { address } = onStack(lowering, node, layout, operand);
  return stackRef(layout, address);
}

/** 32-bit little-endian words of a place, the last padded with zeros. */
function words(lowering: Lowering, ref: RefOperand): Value[] {
  const out: Value[] = [];
  const { size } = ref.layout;
  for (let at = 0; at < size; at += 4) {
    const left = size - at;
    if (left >= 4) out.push(loadBytes(lowering, 4, ref, at));
    else {
      let word: Value | undefined;
      for (let i = 0; i < left; ) {
        const part = left - i >= 2 ? 2 : 1;
        const loaded = loadBytes(lowering, part, ref, at + i);
        const placed = i === 0 ? loaded : lowering.binary('lsh', loaded, lowering.constant(8 * i));
        word = word ? lowering.binary('or', word, placed) : placed;
        i += part;
      }
      if (word) out.push(word);
    }
  }
  return out;
}

/** As `hashBytes` of @tailrace/stage, bit for bit. */
function hash(lowering: Lowering, ref: RefOperand): NumberOperand {
  const constant = (value: number): Value => lowering.constant(value | 0);
  let h: Value = constant(0x9e3779b9 ^ ref.layout.size);
  for (const word of words(lowering, ref)) {
    h = lowering.binary('mul', lowering.binary('xor', h, word, 32), constant(0x85ebca6b), 32);
    h = lowering.binary('xor', h, lowering.binary('rsh', h, constant(15), 32), 32);
  }
  h = lowering.binary('mul', h, constant(0xc2b2ae35), 32);
  h = lowering.binary('xor', h, lowering.binary('rsh', h, constant(16), 32), 32);
  return known(lowering, h, UINT32);
}

/** Compares field by field, so that padding does not count. */
function equal(lowering: Lowering, left: RefOperand, right: RefOperand): Operand {
  const [done, differs] = [lowering.newJoin(), lowering.newJoin()];
  compare(lowering, left, right, differs);
  lowering.jump(done, { kind: 'boolean', value: lowering.constant(1) });
  lowering.enter(differs);
  lowering.jump(done, { kind: 'boolean', value: lowering.constant(0) });
  return lowering.enter(done) ?? { kind: 'undefined' };
}

function compare(lowering: Lowering, left: RefOperand, right: RefOperand, differs: Join): void {
  const { layout } = left;
  switch (layout.kind) {
    case 'struct':
      for (const field of Object.values(layout.fields))
        compare(lowering, member(left, field.layout, field.offset), member(right, field.layout, field.offset), differs);
      return;
    case 'array':
      for (let i = 0; i < layout.length; i++)
        compare(lowering, member(left, layout.item, i * layout.item.size), member(right, layout.item, i * layout.item.size), differs);
      return;
    case 'bool': {
      const [a, b] = [readPlace(lowering, left), readPlace(lowering, right)];
      const same = lowering.newJoin();
      if (a.kind !== 'boolean' || b.kind !== 'boolean') return;
      lowering.branch(
        'eq',
        a.value,
        b.value,
        () => lowering.jump(same),
        () => lowering.jump(differs),
      );
      lowering.enter(same);
      return;
    }
    default:
      for (const [size, at] of layout.size === 6
        ? ([
            [4, 0],
            [2, 4],
          ] as const)
        : ([[layout.size as 1 | 2 | 4 | 8, 0]] as const)) {
        const same = lowering.newJoin();
        lowering.branch(
          'eq',
          loadBytes(lowering, size, left, at),
          loadBytes(lowering, size, right, at),
          () => lowering.jump(same),
          () => lowering.jump(differs),
        );
        lowering.enter(same);
      }
  }
}
