/** Expressions: what each stands for, with the code that makes it. */
import type { BinaryExpression, Expression, ObjectExpression } from 'acorn';
import { noVerdict } from './argument.ts';
import { ARITHMETIC, type ArithmeticOperator, arithmetic, bigintNot, bitwiseNot } from './arithmetic.ts';
import { assignment, update } from './assignment.ts';
import { ALLOWED_GLOBALS, call, isDivision, quotient } from './call.ts';
import { condition, isCondition, truth } from './condition.ts';
import { memberExpression } from './member.ts';
import { bigintOf } from './memory.ts';
import { describe, type ListOperand, type Operand, UNDEFINED, type Variable } from './operand.ts';
import { find, type Program } from './program.ts';
import { keeping } from './reference.ts';
import { unsigned32 } from './scalar.ts';

/** Lowers one expression. */
export function expression(program: Program, node: Expression): Operand {
  const { lowering } = program;
  lowering.at(node);
  switch (node.type) {
    case 'Literal':
      return literal(program, node);
    case 'TemplateLiteral':
      if (node.expressions.length === 0) return { kind: 'string', value: node.quasis[0]?.value.cooked ?? '' };
      return lowering.fail(node, 'syntax', 'strings cannot be put together in a program');
    case 'Identifier':
      return identifier(program, node, node.name);
    case 'MemberExpression':
      return memberExpression(program, node);
    case 'CallExpression':
      return call(program, node);
    case 'ParenthesizedExpression':
      return expression(program, node.expression);
    case 'ObjectExpression':
      return objectLiteral(program, node);
    case 'ArrayExpression':
      return node.elements.reduce<ListOperand>(
        (list, e) => {
          if (!e || e.type === 'SpreadElement') return lowering.fail(e ?? node, 'syntax', 'array literals hold plain elements');
          const [before, item] = keeping(lowering, list, () => noVerdict(lowering, e, expression(program, e)));
          return { kind: 'list', items: [...before.items, item] };
        },
        { kind: 'list', items: [] },
      );
    case 'UnaryExpression': {
      if (node.operator === '!') return asBoolean(program, node);
      const operand = expression(program, node.argument);
      lowering.at(node);
      return unary(program, node, node.operator, operand);
    }
    case 'BinaryExpression':
      return isCondition(node) ? asBoolean(program, node) : binaryExpression(program, node);
    case 'LogicalExpression':
      return logical(program, node);
    case 'ConditionalExpression': {
      const [then, otherwise, done] = [lowering.newJoin(), lowering.newJoin(), lowering.newJoin()];
      condition(program, node.test, then, otherwise);
      for (const [join, branch] of [
        [then, node.consequent],
        [otherwise, node.alternate],
      ] as const) {
        lowering.enter(join);
        if (lowering.block) lowering.jump(done, expression(program, branch));
      }
      return lowering.enter(done) ?? UNDEFINED;
    }
    case 'SequenceExpression': {
      for (const e of node.expressions.slice(0, -1)) program.effect(e);
      return expression(program, node.expressions.at(-1) as Expression);
    }
    case 'AssignmentExpression':
      return assignment(program, node);
    case 'UpdateExpression':
      return update(program, node);
    case 'ArrowFunctionExpression':
    case 'FunctionExpression':
      return lowering.fail(node, 'syntax', 'a program cannot make functions', 'declare it with fn() and pass it through uses');
    case 'AwaitExpression':
      return lowering.fail(node, 'syntax', 'a program cannot wait');
    case 'NewExpression':
      return lowering.fail(node, 'syntax', 'a program cannot make objects with new', 'write an object literal');
    case 'ChainExpression':
      return lowering.fail(node, 'syntax', 'optional chaining gives a value or undefined', 'test it first: if (!x) return …');
    default:
      return lowering.fail(node, 'syntax', `${wordsOf(node)} is not part of the language`);
  }
}

function literal(program: Program, node: Expression & { type: 'Literal' }): Operand {
  const { lowering } = program;
  const { value } = node;
  switch (typeof value) {
    case 'number':
      if (!Number.isSafeInteger(value))
        lowering.fail(
          node,
          'type',
          `${node.raw ?? value} is ${Number.isInteger(value) ? 'beyond ±2^53' : 'no integer'}`,
          Number.isInteger(value) ? 'write a bigint: add an n' : undefined,
        );
      return lowering.number(value);
    case 'bigint':
      return bigintOf(lowering, value);
    case 'boolean':
      return { kind: 'boolean', value: lowering.constant(value ? 1 : 0) };
    case 'string':
      return { kind: 'string', value };
    default:
      return lowering.fail(
        node,
        'syntax',
        `${node.raw ?? 'this'} is not part of the language`,
        value === null ? 'use undefined' : undefined,
      );
  }
}

/** `this`, `class`, `tagged template`, … */
function wordsOf({ type }: Expression): string {
  return type
    .replace(/Expression$/, '')
    .replace(/(?<=[a-z])[A-Z]/g, (letter) => ` ${letter}`)
    .toLowerCase();
}

/** Globals whose calls are part of the language. */
const CALLABLE: ReadonlySet<string> = new Set(['Math', 'BigInt', 'Number']);
/** What programs have instead of some globals. */
const INSTEAD: Readonly<Record<string, string>> = { Date: 'use ctx.now()', performance: 'use ctx.now()', crypto: 'use ctx.random()' };

function identifier(program: Program, node: Expression, name: string): Operand {
  const { lowering } = program;
  const variable = find(program.scope, name);
  if (variable) return lowering.read(variable) ?? lowering.fail(node, 'name', `'${name}' is used before it has a value`);
  if (name === 'undefined') return UNDEFINED;
  if (lowering.source.node.id?.name === name) return lowering.fail(node, 'syntax', `'${name}' calls itself`, 'programs have no recursion');
  if (name === 'arguments' || name === 'this') return lowering.fail(node, 'syntax', `'${name}' is not part of the language`);
  if (Object.hasOwn(globalThis, name)) {
    const why = CALLABLE.has(name) ? 'can only be called' : 'is a global that programs do not have';
    return lowering.fail(node, 'name', `'${name}' ${why}`, INSTEAD[name] ?? ALLOWED_GLOBALS);
  }
  return lowering.fail(
    node,
    'name',
    `'${name}' comes from outside the program`,
    `a program sees only its parameters: add it to uses: { ${name} } and take it from the second parameter`,
  );
}

function objectLiteral(program: Program, node: ObjectExpression): Operand {
  const { lowering } = program;
  const fields = new Map<string, Variable>();
  for (const property of node.properties) {
    if (property.type !== 'Property' || property.kind !== 'init')
      return lowering.fail(property, 'syntax', 'object literals hold plain fields', 'write each field');
    const { key } = property;
    const name =
      key.type === 'Identifier' && !property.computed
        ? key.name
        : key.type === 'Literal'
          ? String(key.value)
          : lowering.fail(key, 'syntax', 'field names must be known');
    const variable: Variable = { name, constant: false };
    fields.set(name, variable);
    lowering.write(variable, noVerdict(lowering, property.value, expression(program, property.value)));
  }
  return { kind: 'aggregate', fields, storage: { name: '(storage)', constant: false } };
}

function unary(program: Program, node: Expression, operator: string, operand: Operand): Operand {
  const { lowering } = program;
  if (operand.kind === 'conflict') return lowering.fail(node, 'type', operand.message, operand.hint);
  if (operator === 'void') return UNDEFINED;
  if (operand.kind === 'number') {
    if (operator === '-') return arithmetic(lowering, node, '-', lowering.number(0), operand);
    if (operator === '+') return operand;
    if (operator === '~') return bitwiseNot(lowering, operand);
  }
  if (operand.kind === 'bigint') {
    if (operator === '-') return arithmetic(lowering, node, '-', bigintOf(lowering, 0n), operand);
    if (operator === '~') return bigintNot(lowering, operand);
  }
  return lowering.fail(node, 'syntax', `${operator} of ${describe(operand)} is not part of the language`);
}

function binaryExpression(program: Program, node: BinaryExpression): Operand {
  const { lowering } = program;
  const operator = node.operator as ArithmeticOperator;
  const left = node.left as Expression;
  if (!ARITHMETIC.includes(operator)) return lowering.fail(node, 'syntax', `operator ${node.operator} is not part of the language`);
  // (a / b) | 0 and (a / b) >>> 0 are integer divisions
  const zero = node.right.type === 'Literal' && node.right.value === 0;
  if (zero && isDivision(left) && (operator === '|' || operator === '>>>')) {
    const result = quotient(program, left);
    return operator === '>>>' ? unsigned32(lowering, result) : arithmetic(lowering, node, '|', result, lowering.number(0));
  }
  const a = expression(program, left);
  const b = expression(program, node.right);
  lowering.at(node);
  return arithmetic(lowering, node, operator, a, b);
}

/** A condition as a value. */
function asBoolean(program: Program, node: Expression): Operand {
  const { lowering } = program;
  const [yes, no, done] = [lowering.newJoin(), lowering.newJoin(), lowering.newJoin()];
  condition(program, node, yes, no);
  for (const [join, bit] of [
    [yes, 1],
    [no, 0],
  ] as const) {
    lowering.enter(join);
    if (lowering.block) lowering.jump(done, { kind: 'boolean', value: lowering.constant(bit) });
  }
  return lowering.enter(done) ?? UNDEFINED;
}

/** `a && b`, `a || b`, `a ?? b` as values: one of the two operands. */
function logical(program: Program, node: Expression & { type: 'LogicalExpression' }): Operand {
  const { lowering } = program;
  if (node.operator !== '??' && isBoolean(node.left)) return logicalOfConditions(program, node);
  const left = expression(program, node.left);
  lowering.at(node);
  if (left.kind === 'conflict') return lowering.fail(node.left, 'type', left.message, left.hint);
  const done = lowering.newJoin();
  const rest = (): void => {
    if (lowering.block) lowering.jump(done, expression(program, node.right));
  };
  if (node.operator === '??') {
    if (left.kind !== 'ref' && left.kind !== 'undefined') return left;
    if (left.kind === 'ref' && !left.nullable) return left;
    if (left.kind === 'undefined') rest();
    else
      lowering.branch(
        'ne',
        left.base,
        lowering.constant(0),
        () => lowering.jump(done, lowering.assumePresent(left)),
        () => {
          lowering.assumeAbsent(left);
          rest();
        },
      );
    return lowering.enter(done) ?? UNDEFINED;
  }
  const [yes, no] = [lowering.newJoin(), lowering.newJoin()];
  truth(lowering, node.left, left, yes, no);
  const [keep, go] = node.operator === '&&' ? [no, yes] : [yes, no];
  lowering.enter(keep);
  if (lowering.block) lowering.jump(done, kept(program, left, node.operator === '||'));
  lowering.enter(go);
  rest();
  return lowering.enter(done) ?? UNDEFINED;
}

/** Is the value true or false, whatever its parts are? */
function isBoolean(node: Expression): boolean {
  return (
    isCondition(node) || (node.type === 'LogicalExpression' && node.operator !== '??' && isBoolean(node.left) && isBoolean(node.right))
  );
}

/** Where the left side is a condition, the right side knows what it says. */
function logicalOfConditions(program: Program, node: Expression & { type: 'LogicalExpression' }): Operand {
  const { lowering } = program;
  const [yes, no, done] = [lowering.newJoin(), lowering.newJoin(), lowering.newJoin()];
  condition(program, node.left, yes, no);
  const [keep, go] = node.operator === '&&' ? [no, yes] : [yes, no];
  lowering.enter(keep);
  if (lowering.block) lowering.jump(done, { kind: 'boolean', value: lowering.constant(node.operator === '&&' ? 0 : 1) });
  lowering.enter(go);
  if (lowering.block) lowering.jump(done, expression(program, node.right));
  return lowering.enter(done) ?? UNDEFINED;
}

/** The left operand on the path where it is the result. */
function kept(program: Program, left: Operand, truthy: boolean): Operand {
  const { lowering } = program;
  if (left.kind === 'ref') return truthy ? { ...left, nullable: false } : UNDEFINED;
  if (!truthy && left.kind === 'number') return lowering.number(0);
  if (!truthy && left.kind === 'bigint') return bigintOf(lowering, 0n);
  if (left.kind === 'boolean') return { kind: 'boolean', value: lowering.constant(truthy ? 1 : 0) };
  return left;
}
