/** Assignments: to variables, to fields of object literals, and to memory, atomically where other CPUs add to it too. */
import type { AssignmentExpression, Expression, MemberExpression, Pattern, UpdateExpression } from 'acorn';
import * as R from '../range.ts';
import { noVerdict } from './argument.ts';
import { type ArithmeticOperator, arithmetic } from './arithmetic.ts';
import { assignableMember, nearest } from './context.ts';
import { namedMember, namedPlace, objectOf, propertyName } from './member.ts';
import { bigintOf, element, present, readPlace } from './memory.ts';
import { describe, type Operand, type RefOperand, type Variable } from './operand.ts';
import { find, type Program } from './program.ts';
import { keeping } from './reference.ts';
import { exact } from './scalar.ts';
import { metadata } from './state.ts';
import { scalarFor, writePlace } from './store.ts';

/** `x = y` and `x op= y`; the value is that of the right side. */
export function assignment(program: Program, node: AssignmentExpression): Operand {
  const { lowering } = program;
  if (node.operator === '=') {
    if (node.left.type === 'Identifier') {
      const value = noVerdict(lowering, node.right, program.expression(node.right));
      return assignVariable(program, node.left, node.left.name, value);
    }
    return assignPlace(program, node.left, node.right, () => {
      const value = noVerdict(lowering, node.right, program.expression(node.right));
      lowering.at(node);
      return value;
    });
  }
  if (['&&=', '||=', '??='].includes(node.operator))
    return lowering.fail(node, 'syntax', `${node.operator} is not part of the language`, 'write an if');
  return compound(program, node, node.left, node.operator.slice(0, -1) as ArithmeticOperator, () => program.expression(node.right));
}

/** `x++` and its like. */
export function update(program: Program, node: UpdateExpression): Operand {
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
  lowering.write(variable, value);
  return value;
}

/** Assigns to a member, whose place is taken before the value. */
function assignPlace(program: Program, target: Pattern | Expression, from: Expression, make: () => Operand): Operand {
  const { lowering } = program;
  if (target.type !== 'MemberExpression') return lowering.fail(target, 'syntax', 'only variables, fields and elements can be assigned to');
  const object = program.expression(objectOf(program, target.object));
  if (object.kind === 'aggregate' && !target.computed) {
    const name = propertyName(program, target);
    const field =
      object.fields.get(name) ??
      lowering.fail(target.property, 'name', `the object has no field '${name}'`, nearest(name, [...object.fields.keys()]));
    const value = make();
    lowering.write(field, value);
    return value;
  }
  const [ref, value] = keeping(lowering, memoryPlace(program, target, object), make);
  inRange(program, target, object, from, value);
  // the value may have moved the packet
  writePlace(lowering, from, present(lowering, target.object, ref), value);
  return value;
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
  if (object.kind === 'context') {
    const name = propertyName(program, target);
    const member = assignableMember(program, target.property, name);
    return member ? member.place(program) : lowering.fail(target, 'memory', `ctx.${name} cannot be assigned to`);
  }
  if (object.kind === 'conflict') lowering.fail(target.object, 'type', object.message, object.hint);
  if (object.kind === 'undefined')
    lowering.fail(target.object, 'undefined', `'${lowering.source.textOf(target.object)}' is undefined here`);
  if (object.kind !== 'ref') return lowering.fail(target, 'memory', `${describe(object)} cannot be assigned to`);
  const ref = present(lowering, target.object, object);
  if (target.computed) {
    const [there, index] = keeping(lowering, ref, () => program.expression(target.property as Expression));
    return element(lowering, target.property, there, index);
  }
  return namedPlace(program, target.property, ref, propertyName(program, target));
}

/** Refuses what a member of ctx does not hold. */
function inRange(program: Program, target: MemberExpression, object: Operand, from: Expression, value: Operand): void {
  if (object.kind !== 'context') return;
  const name = propertyName(program, target);
  const within = assignableMember(program, target.property, name)?.assignable;
  if (!within || value.kind !== 'number' || R.within(value.range, within)) return;
  program.lowering.fail(
    from,
    'range',
    `ctx.${name} takes ${within.lo}..${within.hi}; the value ${R.mayBe(value.range)}`,
    'mask it: & 0x7fff',
  );
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
    const current = program.expression(target);
    const value = arithmetic(lowering, node, operator, current, right(current));
    return assignVariable(program, target, target.name, value);
  }
  if (target.type !== 'MemberExpression') return lowering.fail(target, 'syntax', 'only variables, fields and elements can be assigned to');
  const object = program.expression(objectOf(program, target.object));
  if (object.kind === 'aggregate' && !target.computed) {
    const current = namedMember(program, target, object, propertyName(program, target));
    const value = arithmetic(lowering, node, operator, current, right(current));
    lowering.write(object.fields.get(propertyName(program, target)) as Variable, value);
    return value;
  }
  const ref = memoryPlace(program, target, object);
  const { layout } = ref;
  if (layout.kind !== 'int') return lowering.fail(target, 'type', `${layout.kind === 'bool' ? 'a boolean' : describe(ref)} is no number`);
  if (ref.shared && ref.space === 'map')
    return atomic(
      program,
      node,
      target,
      ref,
      operator,
      right(layout.bigint ? { kind: 'bigint', range: R.UINT64, value: lowering.graph.context } : undefined),
    );
  const current =
    object.kind === 'context' ? namedMember(program, target, object, propertyName(program, target)) : readPlace(lowering, ref);
  const [there, operand] = keeping(lowering, ref, () => right(current));
  const value = arithmetic(lowering, node, operator, current, operand);
  lowering.at(node);
  inRange(program, target, object, node, value);
  writePlace(lowering, node, present(lowering, target.object, there), value);
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
          : layout.align < layout.size || ref.offset % layout.size !== 0
            ? 'fields off their alignment cannot be added to atomically'
            : undefined;
  if (why)
    return lowering.fail(
      node,
      'memory',
      `other CPUs write this map too, and ${why}`,
      'use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign',
    );
  lowering.at(node);
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
