/** Calls: methods of ctx and maps, fns of the bag, intrinsics, and the few globals that a program may use. */
import type { CallExpression, Expression, Node as SyntaxNode } from 'acorn';
import * as R from '../range.ts';
import { readSource } from '../source.ts';
import { argumentNode, noVerdict, numberArgument } from './argument.ts';
import { exactOrFail, imul, truncatedQuotient, WRAPPED_HINT } from './arithmetic.ts';
import { contextCall } from './context.ts';
import { intrinsicCall } from './intrinsic.ts';
import { mapCall } from './map-call.ts';
import { describe, type FnOperand, type NumberOperand, type Operand } from './operand.ts';
import { find, type Program } from './program.ts';
import { keeping } from './reference.ts';
import { bigint, exact, known } from './scalar.ts';

const MATH = ['trunc', 'min', 'max', 'imul', 'clz32'] as const;
/** The globals of the language, as a hint. */
export const ALLOWED_GLOBALS = `allowed: ${MATH.map((m) => `Math.${m}`).join(', ')}, BigInt, BigInt.asUintN, BigInt.asIntN, Number`;

export function call(program: Program, node: CallExpression): Operand {
  const { lowering } = program;
  const { callee } = node;
  for (const argument of node.arguments)
    if (argument.type === 'SpreadElement') lowering.fail(argument, 'syntax', 'arguments cannot be spread');
  const syntax = node.arguments as Expression[];
  const global = globalName(program, callee);
  if (global) return globalCall(program, node, global, syntax);
  if (callee.type === 'Super') return lowering.fail(callee, 'syntax', 'there is no class around a program');
  const target = program.expression(callee);
  const args = argumentsOf(program, syntax);
  lowering.at(node);
  switch (target.kind) {
    case 'fn':
      return fnCall(program, node, target, args);
    case 'intrinsic':
      return intrinsicCall(lowering, node, target, args);
    case 'method': {
      if (target.of?.kind === 'context') return contextCall(program, node, target.name, args);
      if (target.of?.kind === 'map') return mapCall(lowering, node, target.of, target.name, args);
      break;
    }
    default:
  }
  return lowering.fail(callee, 'type', `${describe(target)} cannot be called`);
}

/** The arguments in their order; looking for a header in one may move the pointers of those before. */
function argumentsOf(program: Program, [first, ...rest]: readonly Expression[]): readonly Operand[] {
  if (!first) return [];
  const operand = noVerdict(program.lowering, first, program.expression(first));
  const [kept, others] = keeping(program.lowering, operand, () => argumentsOf(program, rest));
  return [kept, ...others];
}

/** `Math.imul`, `BigInt`, … where the name is not the program's own. */
function globalName(program: Program, callee: CallExpression['callee']): string | undefined {
  if (callee.type === 'Identifier')
    return (callee.name === 'BigInt' || callee.name === 'Number') && !find(program.scope, callee.name) ? callee.name : undefined;
  if (callee.type !== 'MemberExpression' || callee.computed || callee.object.type !== 'Identifier' || callee.property.type !== 'Identifier')
    return undefined;
  const { name } = callee.object;
  return (name === 'Math' || name === 'BigInt') && !find(program.scope, name) ? `${name}.${callee.property.name}` : undefined;
}

function globalCall(program: Program, node: CallExpression, name: string, args: readonly Expression[]): Operand {
  const { lowering } = program;
  if (name === 'Math.trunc' || name === 'Math.floor') {
    const [argument] = args;
    if (argument)
      return name === 'Math.trunc' || isDivision(argument)
        ? quotient(program, argument)
        : lowering.fail(node, 'name', 'Math.floor is not allowed', 'numbers are integers here');
  }
  const operands = args.map((a) => program.expression(a));
  lowering.at(node);
  const number = (i: number): NumberOperand => numberArgument(lowering, argumentNode(node, i), operands[i], R.SAFE);
  switch (name) {
    case 'Math.imul':
      return imul(lowering, number(0), number(1));
    case 'Math.min':
    case 'Math.max':
      return [number(0), ...operands.slice(1).map((_, i) => number(i + 1))].reduce((a, b) => extreme(program, name === 'Math.min', a, b));
    case 'Math.clz32':
      return leadingZeros(program, number(0));
    case 'BigInt':
      return toBigint(program, node, operands[0]);
    case 'Number':
      return toNumber(program, node, operands[0]);
    case 'BigInt.asUintN':
    case 'BigInt.asIntN':
      return wrapped(program, node, name, operands);
    default:
      return lowering.fail(node, 'name', `${name} is not allowed in a program`, ALLOWED_GLOBALS);
  }
}

export function isDivision(node: Expression): boolean {
  return node.type === 'BinaryExpression' && node.operator === '/';
}

/** An integer division under Math.trunc, `| 0` or `>>> 0`; any other expression is an integer already. */
export function quotient(program: Program, argument: Expression): NumberOperand {
  const { lowering } = program;
  if (argument.type === 'BinaryExpression' && argument.operator === '/') {
    const left = program.expression(argument.left as Expression);
    const right = program.expression(argument.right);
    lowering.at(argument);
    return truncatedQuotient(
      lowering,
      argument,
      numberArgument(lowering, argument.left, left, R.SAFE),
      numberArgument(lowering, argument.right, right, R.SAFE),
    );
  }
  return numberArgument(lowering, argument, program.expression(argument), R.SAFE);
}

function extreme({ lowering }: Program, smallest: boolean, a: NumberOperand, b: NumberOperand): NumberOperand {
  const pick = smallest ? R.min : R.max;
  const range = R.range(pick(a.range.lo, b.range.lo), pick(a.range.hi, b.range.hi));
  const [x, y] = [exact(lowering, a), exact(lowering, b)];
  const done = lowering.newJoin();
  lowering.branch(
    smallest ? 'slt' : 'sgt',
    x,
    y,
    () => lowering.jump(done, known(lowering, x, a.range)),
    () => lowering.jump(done, known(lowering, y, b.range)),
  );
  const merged = lowering.enter(done);
  return merged?.kind === 'number' ? { ...merged, range } : a;
}

/** Five halving steps; eBPF has no such instruction. */
function leadingZeros({ lowering }: Program, operand: NumberOperand): NumberOperand {
  let value = lowering.unary('zext32', exact(lowering, operand));
  let count: NumberOperand = lowering.number(0);
  const zero = lowering.newJoin();
  const rest = lowering.newJoin();
  lowering.branch(
    'eq',
    value,
    lowering.constant(0),
    () => lowering.jump(zero),
    () => lowering.jump(rest),
  );
  lowering.enter(rest);
  for (const step of [16, 8, 4, 2, 1]) {
    const done = lowering.newJoin();
    const [before, zeros] = [value, count];
    lowering.branch(
      'lt',
      before,
      lowering.constant(1n << BigInt(32 - step)),
      () => {
        lowering.environment.values.set(SHIFTED, known(lowering, lowering.binary('lsh', before, lowering.constant(step)), R.UINT32));
        lowering.jump(done, known(lowering, lowering.binary('add', exact(lowering, zeros), lowering.constant(step)), R.range(0n, 31n)));
      },
      () => {
        lowering.environment.values.set(SHIFTED, known(lowering, before, R.UINT32));
        lowering.jump(done, zeros);
      },
    );
    count = lowering.enter(done) as NumberOperand;
    value = exact(lowering, lowering.environment.values.get(SHIFTED) as NumberOperand);
  }
  const all = lowering.newJoin();
  lowering.jump(all, { ...count, range: R.range(0n, 31n) });
  lowering.enter(zero);
  lowering.jump(all, lowering.number(32));
  return lowering.enter(all) as NumberOperand;
}
const SHIFTED = { name: '(shifted)', constant: false };

function toBigint({ lowering }: Program, node: SyntaxNode, operand: Operand | undefined): Operand {
  if (operand?.kind === 'bigint') return operand;
  if (operand?.kind === 'boolean') return bigint(lowering, operand.value, R.range(0n, 1n));
  const number = numberArgument(lowering, argumentNode(node, 0), operand, R.SAFE);
  return bigint(lowering, exact(lowering, number), number.range);
}

function toNumber({ lowering }: Program, node: SyntaxNode, operand: Operand | undefined): Operand {
  if (operand?.kind === 'number') return operand;
  if (operand?.kind === 'boolean') return known(lowering, operand.value, R.range(0n, 1n));
  if (operand?.kind !== 'bigint') return lowering.fail(node, 'type', `Number() of ${operand ? describe(operand) : 'nothing'}`);
  exactOrFail(lowering, node, operand);
  if (!R.within(operand.range, R.SAFE))
    lowering.fail(node, 'range', 'the bigint may be beyond ±2^53, where numbers are not exact', 'mask it: Number(x & 0xffffffffn)');
  return known(lowering, operand.value, operand.range);
}

function wrapped({ lowering }: Program, node: SyntaxNode, name: string, [bits, value]: readonly Operand[]): Operand {
  if (bits?.kind !== 'number' || !R.isConstant(bits.range) || value?.kind !== 'bigint')
    return lowering.fail(node, 'type', `${name} takes a constant number of bits and a bigint`, WRAPPED_HINT);
  const width = bits.range.lo;
  const signed = name === 'BigInt.asIntN';
  const all = signed ? R.range(-(1n << (width - 1n)), (1n << (width - 1n)) - 1n) : R.range(0n, (1n << width) - 1n);
  if (R.within(value.range, all)) return value;
  if (width === 64n) return bigint(lowering, value.value, all);
  const ops = signed ? ({ 8: 'sext8', 16: 'sext16', 32: 'sext32' } as const) : ({ 8: 'zext8', 16: 'zext16', 32: 'zext32' } as const);
  const op = ops[Number(width) as 8 | 16 | 32];
  if (!op) return lowering.fail(node, 'type', `${name} of ${width} bits, expected 8, 16, 32 or 64`);
  return bigint(lowering, lowering.unary(op, value.value), all);
}

function fnCall(program: Program, node: CallExpression, target: FnOperand, args: readonly Operand[]): Operand {
  const { lowering } = program;
  const { fn, name, uses } = target;
  if (args.length !== fn.args.length)
    lowering.fail(
      node,
      'type',
      `fn '${name}' takes ${fn.args.length === 1 ? '1 argument' : `${fn.args.length} arguments`}, got ${args.length}`,
    );
  if (program.active.has(fn)) lowering.fail(node, 'syntax', `fn '${name}' calls itself`, 'programs have no recursion');
  const outer = lowering.source;
  program.active.add(fn);
  const source = readSource(fn.body, outer.stage);
  lowering.source = source;
  try {
    return program.inline(source.node, uses ? [...args, uses] : args, node);
  } finally {
    lowering.source = outer;
    program.active.delete(fn);
    lowering.at(node);
  }
}
