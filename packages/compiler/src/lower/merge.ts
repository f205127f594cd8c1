/** One operand out of several where paths meet: a phi where machine values differ, a conflict where they cannot be one. */
import { append, createNode, type Phi, type Value } from '../ir.ts';
import { range, union } from '../range.ts';
import type { Join, Lowering } from './lowering.ts';
import { type ConflictOperand, describe, type NumberOperand, type Operand, type RefOperand, type UndefinedOperand, UNDEFINED } from './operand.ts';
import { exact } from './scalar.ts';

export function mergeOperands(lowering: Lowering, join: Join, operands: readonly Operand[]): Operand {
  const [first] = operands as [Operand];
  if (all(operands, 'number')) return mergeNumbers(lowering, join, operands);
  if (all(operands, 'bigint')) {
    const hull = operands.map((o) => o.range).reduce(union);
    return { kind: 'bigint', range: hull, value: phi(lowering, join, operands.map((o) => o.value)) };
  }
  if (all(operands, 'boolean')) return { kind: 'boolean', value: phi(lowering, join, operands.map((o) => o.value)) };
  if (all(operands, 'undefined')) return UNDEFINED;
  if (operands.every((o) => o.kind === 'ref' || o.kind === 'undefined')) return mergeRefs(lowering, join, operands as (RefOperand | UndefinedOperand)[]);
  if (all(operands, 'string') && operands.every((o) => o.value === operands[0]?.value)) return first;
  const kinds = [...new Set(operands.map(describe))];
  return conflict(
    kinds.length > 1 ? `it is ${kinds.join(' on one path and ')} on another` : `it is a different ${describe(first).replace(/^an? /, '')} on each path`,
    first.kind === 'aggregate' ? 'choose the fields, not the object' : first.kind === 'verdict' ? 'return each verdict where it is decided' : undefined,
  );
}

const conflict = (message: string, hint?: string): ConflictOperand => ({ kind: 'conflict', message, ...(hint ? { hint } : {}) });

function all<K extends Operand['kind']>(operands: readonly Operand[], kind: K): operands is Extract<Operand, { kind: K }>[] {
  return operands.every((o) => o.kind === kind);
}

function mergeNumbers(lowering: Lowering, join: Join, operands: readonly NumberOperand[]): NumberOperand {
  const hull = operands.map((o) => o.range).reduce(union);
  const [first] = operands as [NumberOperand];
  if (operands.every((o) => o.exact === first.exact && o.low === first.low)) return { ...first, range: hull };
  const values = operands.map((o, i) => lowering.within(join.incoming[i]?.from ?? join.block, () => exact(lowering, o)));
  return { kind: 'number', range: hull, exact: phi(lowering, join, values) };
}

function mergeRefs(lowering: Lowering, join: Join, operands: readonly (RefOperand | UndefinedOperand)[]): Operand {
  const refs = operands.filter((o) => o.kind === 'ref');
  const [first] = refs as [RefOperand];
  const nullable = refs.some((r) => r.nullable) || refs.length < operands.length;
  for (const r of refs) {
    if (r.layout !== first.layout) return conflict('it refers to different layouts on different paths');
    if (r.space !== first.space || r.shared !== first.shared) return conflict('it refers to different kinds of memory on different paths');
    if (r.offset !== first.offset && r.nullable) return conflict('it refers to different places on different paths', 'test each reference for undefined before they meet');
  }
  const bases = operands.map((o, i) => lowering.within(join.incoming[i]?.from ?? join.block, () => {
    if (o.kind === 'undefined') return lowering.constant(0);
    return o.offset === first.offset ? o.base : lowering.advance(o.base, lowering.constant(o.offset - first.offset), o.space);
  }));
  const base = bases.every((b) => b === bases[0]) ? first.base : phi(lowering, join, bases, first);
  const { epoch: _epoch, position: _position, ...rest } = first;
  const samePosition = refs.every((r) => r.position === first.position) ? first.position : undefined;
  return {
    ...rest, base, nullable,
    ...(first.space === 'packet' ? { epoch: refs.every((r) => r.epoch === first.epoch) ? (first.epoch ?? lowering.environment.epoch) : { call: 'one of the paths' } } : {}),
    ...(samePosition ? { position: samePosition } : {}),
  };
}

function phi(lowering: Lowering, join: Join, values: readonly Value[], ref?: RefOperand): Value {
  if (values.every((v) => v === values[0]) && values[0]) return values[0];
  const byBlock = new Map(join.incoming.map((incoming, i) => [incoming.from, values[i] as Value]));
  const inputs = join.block.predecessors.map((p) => byBlock.get(p) as Value);
  const node: Phi = createNode(lowering.graph, { kind: 'phi', inputs, ...(ref ? { pointer: ref.space } : {}) });
  return append(join.block, node);
}

/** The range of a boolean as a number. */
export const BIT = range(0n, 1n);
