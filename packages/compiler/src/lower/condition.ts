/** Conditions: control flow instead of values, with what each path then knows. */
import type { BinaryExpression, Expression, PrivateIdentifier, Node as SyntaxNode } from 'acorn';
import type { CompareOp } from '../ir.ts';
import * as R from '../range.ts';
import { exactOrFail } from './arithmetic.ts';
import type { Lowering } from './lowering.ts';
import { booleanView } from './member.ts';
import { viewCondition } from './memory.ts';
import { type BigintOperand, contentHint, describe, type NumberOperand, type Operand, type RefOperand } from './operand.ts';
import type { Join } from './path.ts';
import type { Program } from './program.ts';
import { keeping } from './reference.ts';
import { exact } from './scalar.ts';

type Relation = '===' | '!==' | '<' | '<=' | '>' | '>=';
const RELATIONS: Readonly<Record<string, Relation>> = {
  '===': '===',
  '!==': '!==',
  '==': '===',
  '!=': '!==',
  '<': '<',
  '<=': '<=',
  '>': '>',
  '>=': '>=',
};
const MIRRORED: Readonly<Record<Relation, Relation>> = { '===': '===', '!==': '!==', '<': '>', '<=': '>=', '>': '<', '>=': '<=' };
const NEGATED: Readonly<Record<Relation, Relation>> = { '===': '!==', '!==': '===', '<': '>=', '<=': '>', '>': '<=', '>=': '<' };
const UNSIGNED: Readonly<Record<Relation, CompareOp>> = { '===': 'eq', '!==': 'ne', '<': 'lt', '<=': 'le', '>': 'gt', '>=': 'ge' };
const SIGNED: Readonly<Record<Relation, CompareOp>> = { '===': 'eq', '!==': 'ne', '<': 'slt', '<=': 'sle', '>': 'sgt', '>=': 'sge' };

/** Is this an expression whose value is best made by control flow? */
export function isCondition(node: Expression): boolean {
  return (node.type === 'UnaryExpression' && node.operator === '!') || (node.type === 'BinaryExpression' && node.operator in RELATIONS);
}

/** Sends the current path to `yes` where the expression is truthy, to `no` where not. */
export function condition(program: Program, node: Expression, yes: Join, no: Join): void {
  const { lowering } = program;
  if (!lowering.block) return;
  lowering.at(node);
  if (node.type === 'UnaryExpression' && node.operator === '!') return condition(program, node.argument, no, yes);
  if (node.type === 'LogicalExpression' && node.operator !== '??') {
    const middle = lowering.newJoin();
    if (node.operator === '&&') condition(program, node.left, middle, no);
    else condition(program, node.left, yes, middle);
    lowering.enter(middle);
    return condition(program, node.right, yes, no);
  }
  if (node.type === 'ConditionalExpression') {
    const [then, otherwise] = [lowering.newJoin(), lowering.newJoin()];
    condition(program, node.test, then, otherwise);
    lowering.enter(then);
    condition(program, node.consequent, yes, no);
    lowering.enter(otherwise);
    return condition(program, node.alternate, yes, no);
  }
  if (node.type === 'SequenceExpression') {
    for (const expression of node.expressions.slice(0, -1)) program.effect(expression);
    return condition(program, node.expressions.at(-1) as Expression, yes, no);
  }
  if (node.type === 'BinaryExpression' && node.operator in RELATIONS) return comparison(program, node, yes, no);
  const flag = booleanView(program, node);
  if (flag) {
    const { value, mask } = viewCondition(lowering, flag.layout, flag.ref, flag.view);
    return lowering.branch(
      'set',
      value,
      mask,
      () => lowering.jump(yes),
      () => lowering.jump(no),
    );
  }
  truth(lowering, node, program.expression(node), yes, no);
}

/** Branches on an operand's truth. */
export function truth(lowering: Lowering, node: SyntaxNode, operand: Operand, yes: Join, no: Join): void {
  switch (operand.kind) {
    case 'boolean':
      if (operand.value.kind === 'const') return lowering.jump(operand.value.value === 0n ? no : yes);
      return lowering.branch(
        'ne',
        operand.value,
        lowering.constant(0),
        () => lowering.jump(yes),
        () => lowering.jump(no),
      );
    case 'number':
      return compareNumbers(lowering, node, '!==', operand, lowering.number(0), yes, no);
    case 'bigint':
      return compareBigints(lowering, node, '!==', operand, { kind: 'bigint', range: R.exactly(0n), value: lowering.constant(0) }, yes, no);
    case 'ref':
      return presence(lowering, operand, yes, no);
    case 'undefined':
      return lowering.jump(no);
    case 'conflict':
      return lowering.fail(node, 'type', operand.message, operand.hint);
    case 'aggregate':
    case 'names':
    case 'list':
    case 'map':
      return lowering.jump(yes);
    default:
      return lowering.fail(
        node,
        'type',
        `${describe(operand)} as a condition`,
        operand.kind === 'verdict' ? 'return the verdict' : undefined,
      );
  }
}

function presence(lowering: Lowering, ref: RefOperand, yes: Join, no: Join): void {
  if (!ref.nullable) return lowering.jump(yes);
  lowering.branch(
    'ne',
    ref.base,
    lowering.constant(0),
    () => {
      lowering.assumePresent(ref);
      lowering.jump(yes);
    },
    () => {
      lowering.assumeAbsent(ref);
      lowering.jump(no);
    },
  );
}

function comparison(program: Program, node: BinaryExpression, yes: Join, no: Join): void {
  const { lowering } = program;
  const relation = RELATIONS[node.operator] as Relation;
  const first = program.expression(node.left as Exclude<typeof node.left, PrivateIdentifier>);
  const [left, right] = keeping(lowering, first, () => program.expression(node.right));
  lowering.at(node);
  if (left.kind === 'conflict') lowering.fail(node.left, 'type', left.message, left.hint);
  if (right.kind === 'conflict') lowering.fail(node.right, 'type', right.message, right.hint);
  if (left.kind === 'number' && right.kind === 'number') return compareNumbers(lowering, node, relation, left, right, yes, no);
  if (left.kind === 'bigint' && right.kind === 'bigint') return compareBigints(lowering, node, relation, left, right, yes, no);
  const equality = relation === '===' || relation === '!==';
  const [same, different] = relation === '===' ? [yes, no] : [no, yes];
  if (equality && (left.kind === 'undefined' || right.kind === 'undefined')) {
    const other = left.kind === 'undefined' ? right : left;
    if (other.kind === 'undefined') return lowering.jump(same);
    if (other.kind === 'ref') return presence(lowering, other, different, same);
    return lowering.jump(different);
  }
  if (equality && left.kind === 'boolean' && right.kind === 'boolean') {
    return lowering.branch(
      'eq',
      left.value,
      right.value,
      () => lowering.jump(same),
      () => lowering.jump(different),
    );
  }
  if (equality && left.kind === 'string' && right.kind === 'string') return lowering.jump(left.value === right.value ? same : different);
  const mixed = [left.kind, right.kind].sort().join();
  if (mixed === 'bigint,number')
    lowering.fail(node, 'type', 'a number and a bigint are compared', 'write 1n for 1, or BigInt(x), or Number(x)');
  lowering.fail(
    node,
    'type',
    `${describe(left)} and ${describe(right)} are compared`,
    contentHint(left) ??
      contentHint(right) ??
      (left.kind === 'ref' || right.kind === 'ref' ? 'compare their fields, or use equal(schema)' : undefined),
  );
}

function compareNumbers(
  lowering: Lowering,
  node: SyntaxNode,
  relation: Relation,
  left: NumberOperand,
  right: NumberOperand,
  yes: Join,
  no: Join,
): void {
  if (R.isConstant(left.range) && !R.isConstant(right.range))
    return compareNumbers(lowering, node, MIRRORED[relation], right, left, yes, no);
  const decided = decide(relation, left.range, right.range);
  if (decided !== undefined) {
    if (isBitwise(left) && right.range.lo > R.INT32.hi) {
      lowering.fail(
        node,
        'range',
        `this is ${decided ? 'always' : 'never'} so: bitwise results are signed 32 bits in JavaScript`,
        'write (x & y) >>> 0',
      );
    }
    return lowering.jump(decided ? yes : no);
  }
  const signed = left.range.lo < 0n || right.range.lo < 0n;
  lowering.branch(
    (signed ? SIGNED : UNSIGNED)[relation],
    exact(lowering, left),
    exact(lowering, right),
    () => {
      assume(lowering, relation, left, right);
      lowering.jump(yes);
    },
    () => {
      assume(lowering, NEGATED[relation], left, right);
      lowering.jump(no);
    },
  );
}

/** Out of an operator that gives signed 32 bits. */
const isBitwise = (operand: NumberOperand): boolean => operand.low !== undefined && !operand.exact && !R.isConstant(operand.range);

/** What a path knows of both sides once the relation holds. */
function assume(lowering: Lowering, relation: Relation, left: NumberOperand, right: NumberOperand): void {
  lowering.assumeRange(left, implied(relation, left.range, right.range));
  lowering.assumeRange(right, implied(MIRRORED[relation], right.range, left.range));
}

function assumeBigints(lowering: Lowering, relation: Relation, left: BigintOperand, right: BigintOperand): void {
  lowering.assumeBigint(left, implied(relation, left.range, right.range));
  lowering.assumeBigint(right, implied(MIRRORED[relation], right.range, left.range));
}

function implied(relation: Relation, left: R.Range, right: R.Range): R.Range {
  switch (relation) {
    case '===':
      return right;
    case '!==':
      if (!R.isConstant(right)) return left;
      return R.range(left.lo === right.lo ? left.lo + 1n : left.lo, left.hi === right.lo ? left.hi - 1n : left.hi);
    case '<':
      return R.range(left.lo, R.min(left.hi, right.hi - 1n));
    case '<=':
      return R.range(left.lo, R.min(left.hi, right.hi));
    case '>':
      return R.range(R.max(left.lo, right.lo + 1n), left.hi);
    case '>=':
      return R.range(R.max(left.lo, right.lo), left.hi);
  }
}

function decide(relation: Relation, a: R.Range, b: R.Range): boolean | undefined {
  switch (relation) {
    case '===':
      return R.disjoint(a, b) ? false : R.isConstant(a) && R.isConstant(b) ? true : undefined;
    case '!==':
      return R.disjoint(a, b) ? true : R.isConstant(a) && R.isConstant(b) ? false : undefined;
    case '<':
      return a.hi < b.lo ? true : a.lo >= b.hi ? false : undefined;
    case '<=':
      return a.hi <= b.lo ? true : a.lo > b.hi ? false : undefined;
    case '>':
      return decide('<', b, a);
    case '>=':
      return decide('<=', b, a);
  }
}

function compareBigints(
  lowering: Lowering,
  node: SyntaxNode,
  relation: Relation,
  left: BigintOperand,
  right: BigintOperand,
  yes: Join,
  no: Join,
): void {
  const decided = decide(relation, left.range, right.range);
  if (decided !== undefined) return lowering.jump(decided ? yes : no);
  exactOrFail(lowering, node, left);
  exactOrFail(lowering, node, right);
  const signed = left.range.lo < 0n || right.range.lo < 0n;
  if (signed && (!R.within(left.range, R.INT64) || !R.within(right.range, R.INT64))) {
    lowering.fail(
      node,
      'range',
      'a bigint that may be negative is compared with one that may be above 2^63',
      'write BigInt.asUintN(64, x) on both sides',
    );
  }
  lowering.branch(
    (signed ? SIGNED : UNSIGNED)[relation],
    left.value,
    right.value,
    () => {
      assumeBigints(lowering, relation, left, right);
      lowering.jump(yes);
    },
    () => {
      assumeBigints(lowering, NEGATED[relation], left, right);
      lowering.jump(no);
    },
  );
}
