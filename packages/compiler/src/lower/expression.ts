/** Expressions: what each stands for, with the code that makes it. */
import type {
  AssignmentExpression,
  BinaryExpression,
  Expression,
  MemberExpression,
  ObjectExpression,
  Pattern,
  PrivateIdentifier,
  Super,
  Node as SyntaxNode,
  UpdateExpression,
} from 'acorn';
import * as R from '../range.ts';
import { ARITHMETIC, type ArithmeticOperator, arithmetic, bigintNot, bitwiseNot } from './arithmetic.ts';
import { call, isDivision, quotient } from './call.ts';
import { condition, isCondition, truth } from './condition.ts';
import { contextMember, nearest } from './context.ts';
import { MAP_METHODS } from './map-call.ts';
import { bigintOf, element, member, present, readPlace, readView, scalarFor, writePlace } from './memory.ts';
import { describe, type Operand, type RefOperand, UNDEFINED, type Variable } from './operand.ts';
import { find, type Program } from './program.ts';
import { exact, unsigned32 } from './scalar.ts';
import { metadata } from './state.ts';

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
      return {
        kind: 'list',
        items: node.elements.map((e) =>
          e && e.type !== 'SpreadElement'
            ? expression(program, e)
            : lowering.fail(e ?? node, 'syntax', 'array literals hold plain elements'),
        ),
      };
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
      return lowering.fail(node, 'syntax', `${node.type.replace(/Expression$/, ' expression').toLowerCase()} is not part of the language`);
  }
}

/** `tcp.syn` and its like: a condition is made of the field's bits. */
export function booleanView(program: Program, node: Expression): ReturnType<Program['booleanView']> {
  if (node.type !== 'MemberExpression' || node.computed || node.property.type !== 'Identifier' || node.object.type === 'Super')
    return undefined;
  const name = node.property.name;
  if (node.object.type !== 'Identifier') return undefined;
  const variable = find(program.scope, node.object.name);
  const ref = variable && program.lowering.read(variable);
  if (ref?.kind !== 'ref' || ref.layout.kind !== 'struct') return undefined;
  const view = Object.hasOwn(ref.layout.views, name) ? ref.layout.views[name] : undefined;
  return view?.bool ? { layout: ref.layout, ref: present(program.lowering, node.object, ref), view } : undefined;
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

function identifier(program: Program, node: Expression, name: string): Operand {
  const { lowering } = program;
  const variable = find(program.scope, name);
  if (variable) return lowering.read(variable) ?? lowering.fail(node, 'name', `'${name}' is used before it has a value`);
  if (name === 'undefined') return UNDEFINED;
  if (name === 'arguments' || name === 'this') return lowering.fail(node, 'syntax', `'${name}' is not part of the language`);
  return lowering.fail(
    node,
    'name',
    `'${name}' comes from outside the program`,
    `a program sees only its parameters: add it to uses: { ${name} } and take it from the second parameter`,
  );
}

function memberExpression(program: Program, node: MemberExpression): Operand {
  const { lowering } = program;
  if (node.optional)
    return lowering.fail(node, 'syntax', 'optional chaining gives a value or undefined', 'test it first: if (!x) return …');
  const object = expression(program, objectOf(program, node.object));
  if (node.computed) {
    const index = expression(program, node.property as Expression);
    lowering.at(node);
    return computedMember(program, node, object, index);
  }
  lowering.at(node);
  return namedMember(program, node, object, propertyName(program, node));
}

function objectOf(program: Program, object: Expression | Super): Expression {
  return object.type === 'Super' ? program.lowering.fail(object, 'syntax', 'there is no class around a program') : object;
}

function propertyName(program: Program, node: MemberExpression): string {
  const property: Expression | PrivateIdentifier = node.property;
  return property.type === 'Identifier'
    ? property.name
    : program.lowering.fail(property, 'syntax', 'private names are not part of the language');
}

function computedMember(program: Program, node: MemberExpression, object: Operand, index: Operand): Operand {
  const { lowering } = program;
  if (object.kind === 'ref') return readPlace(lowering, element(lowering, node.property, present(lowering, node.object, object), index));
  if (object.kind === 'list') {
    if (index.kind !== 'number' || !R.isConstant(index.range))
      return lowering.fail(
        node.property,
        'range',
        'a constant array is indexed by constants only',
        'put it into an arrayMap to look up by value',
      );
    return (
      object.items[Number(index.range.lo)] ??
      lowering.fail(node.property, 'range', `the index is ${index.range.lo}; the array has ${object.items.length} elements`)
    );
  }
  if (index.kind === 'string') return namedMember(program, node, object, index.value);
  return lowering.fail(node, 'syntax', 'property names must be known', 'write x.name');
}

function namedMember(program: Program, node: MemberExpression, object: Operand, name: string): Operand {
  return readMember(program, node.property, node.object, object, name);
}

/** A member as an object pattern takes it. */
export function memberOf(program: Program, node: SyntaxNode, object: Operand, name: string): Operand {
  return readMember(program, node, node, object, name);
}

/** `property` and `of` are the places that messages point at. */
function readMember(program: Program, property: SyntaxNode, of: SyntaxNode, object: Operand, name: string): Operand {
  const { lowering } = program;
  switch (object.kind) {
    case 'context':
      return contextMember(program, property, name);
    case 'meta':
      return readPlace(lowering, metadata(program, property, name));
    case 'names':
      return (
        object.members.get(name) ??
        lowering.fail(property, 'name', `${object.what} has no '${name}'`, nearest(name, [...object.members.keys()]))
      );
    case 'list':
      if (name === 'length') return lowering.number(object.items.length);
      break;
    case 'map':
      if (MAP_METHODS.has(name)) return { kind: 'method', of: object, name };
      return lowering.fail(property, 'name', `map '${object.map.name}' has no method '${name}'`, nearest(name, [...MAP_METHODS]));
    case 'aggregate': {
      const field = object.fields.get(name);
      return (
        (field && lowering.read(field)) ??
        lowering.fail(property, 'name', `the object has no field '${name}'`, nearest(name, [...object.fields.keys()]))
      );
    }
    case 'ref': {
      const ref = present(lowering, of, object);
      if (ref.layout.kind === 'struct') {
        const view = Object.hasOwn(ref.layout.views, name) ? ref.layout.views[name] : undefined;
        if (view) return readView(lowering, ref.layout, ref, view);
      }
      if (ref.layout.kind === 'array' && name === 'length') return lowering.number(ref.layout.length);
      return readPlace(lowering, namedPlace(program, property, ref, name));
    }
    case 'undefined':
      return lowering.fail(of, 'undefined', `'${lowering.source.textOf(of)}' is undefined here`);
    case 'conflict':
      return lowering.fail(of, 'type', object.message, object.hint);
    default:
  }
  return lowering.fail(property, 'name', `${describe(object)} has no '${name}'`);
}

/** The place of a field, or of a scalar's `.value`. */
function namedPlace(program: Program, property: SyntaxNode, ref: RefOperand, name: string): RefOperand {
  const { lowering } = program;
  const { layout } = ref;
  if (layout.kind === 'struct') {
    const field = Object.hasOwn(layout.fields, name) ? layout.fields[name] : undefined;
    if (field) return member(ref, field.layout, field.offset);
    if (Object.hasOwn(layout.views, name))
      lowering.fail(property, 'memory', `'${name}' is a view and cannot be written`, `write the field '${layout.views[name]?.field}'`);
    return lowering.fail(
      property,
      'name',
      `no field '${name}'`,
      nearest(name, [...Object.keys(layout.fields), ...Object.keys(layout.views)]),
    );
  }
  if ((layout.kind === 'int' || layout.kind === 'bool') && name === 'value') return ref;
  return lowering.fail(
    property,
    'name',
    `${describe(ref)} has no '${name}'`,
    layout.kind === 'int' || layout.kind === 'bool' ? "its content is '.value'" : undefined,
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
    lowering.write(variable, expression(program, property.value));
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
    const result = quotient(program, node, left);
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

// --- assignment ----------------------------------------------------------------------------------

function assignment(program: Program, node: AssignmentExpression): Operand {
  const { lowering } = program;
  if (node.operator === '=') {
    if (node.left.type === 'Identifier') {
      const value = expression(program, node.right);
      return assignVariable(program, node.left, node.left.name, value);
    }
    const target = place(program, node.left);
    const value = expression(program, node.right);
    lowering.at(node);
    return target(value);
  }
  if (['&&=', '||=', '??='].includes(node.operator))
    return lowering.fail(node, 'syntax', `${node.operator} is not part of the language`, 'write an if');
  return compound(program, node, node.left, node.operator.slice(0, -1) as ArithmeticOperator, () => expression(program, node.right));
}

function update(program: Program, node: UpdateExpression): Operand {
  const operator = node.operator === '++' ? '+' : '-';
  let before: Operand | undefined;
  const after = compound(program, node, node.argument, operator, (current) => {
    before = current;
    return current?.kind === 'bigint' ? bigintOf(program.lowering, 1n) : program.lowering.number(1);
  });
  return node.prefix || after.kind === 'conflict' ? after : (before ?? after);
}

function assignVariable(program: Program, node: Expression | Pattern, name: string, value: Operand): Operand {
  const { lowering } = program;
  const variable = find(program.scope, name);
  if (!variable) return lowering.fail(node, 'name', `'${name}' comes from outside the program`, 'declare it with let');
  if (variable.constant) return lowering.fail(node, 'name', `'${name}' is a constant`, 'declare it with let');
  if (value.kind === 'verdict')
    return lowering.fail(node, 'verdict', 'a verdict is kept in a variable', 'return each verdict where it is decided');
  lowering.write(variable, value);
  return value;
}

/** What assigning to a member does. */
function place(program: Program, target: Pattern | Expression): (value: Operand) => Operand {
  const { lowering } = program;
  if (target.type !== 'MemberExpression') return lowering.fail(target, 'syntax', 'only variables, fields and elements can be assigned to');
  const object = expression(program, objectOf(program, target.object));
  if (object.kind === 'aggregate' && !target.computed) {
    const name = propertyName(program, target);
    const field =
      object.fields.get(name) ??
      lowering.fail(target.property, 'name', `the object has no field '${name}'`, nearest(name, [...object.fields.keys()]));
    return (value) => {
      lowering.write(field, value);
      return value;
    };
  }
  const ref = memoryPlace(program, target, object);
  return (value) => {
    // the value may have moved the packet
    writePlace(lowering, target, present(lowering, target.object, ref), value);
    return value;
  };
}

/** The place in memory that a member expression names. */
function memoryPlace(program: Program, target: MemberExpression, object: Operand): RefOperand {
  const { lowering } = program;
  if (object.kind === 'meta') {
    const name = propertyName(program, target);
    const ref = metadata(program, target.property, name);
    if (!Object.hasOwn(program.stage.writes, name))
      lowering.fail(target.property, 'memory', `metadata '${name}' is only read by this stage`, `declare it: writes: { ${name}: … }`);
    return ref;
  }
  if (object.kind === 'conflict') lowering.fail(target.object, 'type', object.message, object.hint);
  if (object.kind !== 'ref') return lowering.fail(target, 'memory', `${describe(object)} cannot be assigned to`);
  const ref = present(lowering, target.object, object);
  if (target.computed) return element(lowering, target.property, ref, expression(program, target.property as Expression));
  return namedPlace(program, target.property, ref, propertyName(program, target));
}

/** `x op= y`: read, compute, write; atomically where other CPUs add to the same memory. */
function compound(
  program: Program,
  node: AssignmentExpression | UpdateExpression,
  target: Pattern | Expression,
  operator: ArithmeticOperator,
  right: (current: Operand | undefined) => Operand,
): Operand {
  const { lowering } = program;
  if (target.type === 'Identifier') {
    const current = expression(program, target);
    const value = arithmetic(lowering, node, operator, current, right(current));
    return assignVariable(program, target, target.name, value);
  }
  if (target.type !== 'MemberExpression') return lowering.fail(target, 'syntax', 'only variables, fields and elements can be assigned to');
  const object = expression(program, objectOf(program, target.object));
  if (object.kind === 'aggregate' && !target.computed) {
    const current = namedMember(program, target, object, propertyName(program, target));
    const value = arithmetic(lowering, node, operator, current, right(current));
    lowering.write(object.fields.get(propertyName(program, target)) as Variable, value);
    return value;
  }
  const ref = memoryPlace(program, target, object);
  const { layout } = ref;
  if (layout.kind !== 'int') return lowering.fail(target, 'type', `${describe(ref)} is no number`);
  if (ref.shared && ref.space === 'map')
    return atomic(
      program,
      node,
      target,
      ref,
      operator,
      right(layout.bigint ? { kind: 'bigint', range: R.UINT64, value: lowering.graph.context } : undefined),
    );
  const current = readPlace(lowering, ref);
  const value = arithmetic(lowering, node, operator, current, right(current));
  lowering.at(node);
  writePlace(lowering, node, present(lowering, target.object, ref), value);
  return value;
}

function atomic(
  program: Program,
  node: Expression,
  target: Expression,
  ref: RefOperand,
  operator: ArithmeticOperator,
  right: Operand,
): Operand {
  const { lowering } = program;
  const { layout } = ref;
  if (layout.kind !== 'int') return lowering.fail(target, 'type', 'only numbers are added to');
  const why =
    operator !== '+' && operator !== '-'
      ? `${operator}= is not atomic`
      : layout.size < 4 || layout.size === 6
        ? `${layout.size * 8} bits cannot be added to atomically`
        : layout.bigEndian
          ? 'big-endian fields cannot be added to atomically'
          : undefined;
  if (why)
    return lowering.fail(
      node,
      'memory',
      `other CPUs write this map too, and ${why}`,
      'use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign',
    );
  const scalar = scalarFor(lowering, node, layout, right);
  const by = scalar.kind === 'bigint' ? scalar.value : exact(lowering, scalar);
  const added = operator === '-' ? lowering.unary('neg', by) : by;
  lowering.atomicAdd(layout.size as 4 | 8, ref.space, ref.base, ref.offset, added);
  return {
    kind: 'conflict',
    message: 'the result of an atomic addition is not known',
    hint: 'write the addition as a statement of its own',
  };
}
