/** One operand out of several where paths meet: a phi where machine values differ, a conflict where they cannot be one. */
import { append, createNode, type Phi, type Value } from '../ir.ts';
import { exactly, isConstant, union } from '../range.ts';
import type { Emitter } from './emitter.ts';
import {
  type ConflictOperand,
  describe,
  type Epoch,
  type NumberOperand,
  type Operand,
  type RefOperand,
  UNDEFINED,
  type UndefinedOperand,
} from './operand.ts';
import type { Join } from './path.ts';
import { exact } from './scalar.ts';

export function mergeOperands(emitter: Emitter, join: Join, operands: readonly Operand[], epoch: Epoch): Operand {
  const [first] = operands as [Operand];
  if (all(operands, 'number')) return mergeNumbers(emitter, join, operands);
  if (all(operands, 'bigint')) {
    const hull = operands.map((o) => o.range).reduce(union);
    return {
      kind: 'bigint',
      range: hull,
      value: phi(
        emitter,
        join,
        operands.map((o) => o.value),
      ),
    };
  }
  if (all(operands, 'boolean'))
    return {
      kind: 'boolean',
      value: phi(
        emitter,
        join,
        operands.map((o) => o.value),
      ),
    };
  if (all(operands, 'undefined')) return UNDEFINED;
  if (operands.every((o) => o.kind === 'ref' || o.kind === 'undefined'))
    return mergeRefs(emitter, join, operands as (RefOperand | UndefinedOperand)[], epoch);
  if (all(operands, 'string') && operands.every((o) => o.value === operands[0]?.value)) return first;
  const kinds = [...new Set(operands.map(describe))];
  return conflict(
    kinds.length > 1
      ? `it is ${kinds.join(' on one path and ')} on another`
      : `it is a different ${describe(first).replace(/^an? /, '')} on each path`,
    hintFor(operands),
  );
}

function hintFor(operands: readonly Operand[]): string | undefined {
  const [first] = operands;
  if (first?.kind === 'aggregate') return 'choose the fields, not the object';
  if (operands.some((o) => o.kind === 'verdict')) return 'return each verdict where it is decided';
  return operands.some((o) => o.kind === 'undefined') ? 'give it a value on every path' : undefined;
}

const conflict = (message: string, hint?: string): ConflictOperand => ({ kind: 'conflict', message, ...(hint ? { hint } : {}) });

function all<K extends Operand['kind']>(operands: readonly Operand[], kind: K): operands is Extract<Operand, { kind: K }>[] {
  return operands.every((o) => o.kind === kind);
}

function mergeNumbers(emitter: Emitter, join: Join, operands: readonly NumberOperand[]): NumberOperand {
  const hull = operands.map((o) => o.range).reduce(union);
  const [first] = operands as [NumberOperand];
  if (operands.every((o) => o.exact === first.exact && o.low === first.low)) return { ...first, range: hull };
  const values = operands.map((o, i) => emitter.within(join.incoming[i]?.from ?? join.block, () => exact(emitter, o)));
  return { kind: 'number', range: hull, exact: phi(emitter, join, values) };
}

function mergeRefs(emitter: Emitter, join: Join, operands: readonly (RefOperand | UndefinedOperand)[], epoch: Epoch): Operand {
  const refs = operands.filter((o) => o.kind === 'ref');
  const [first] = refs as [RefOperand];
  const nullable = refs.some((r) => r.nullable) || refs.length < operands.length;
  for (const r of refs) {
    if (r.layout !== first.layout) return conflict('it refers to different layouts on different paths');
    if (r.map !== first.map) return conflict('it refers to different kinds of maps on different paths');
    if (r.space !== first.space || r.shared !== first.shared) return conflict('it refers to different kinds of memory on different paths');
    if (r.offset !== first.offset && r.nullable)
      return conflict('it refers to different places on different paths', 'test each reference for undefined before they meet');
  }
  if (first.space === 'skb' && refs.some((r) => r.offset !== first.offset))
    return conflict('it refers to different metadata on different paths', 'read the fields where they are chosen');
  const bases = operands.map((o, i) =>
    emitter.within(join.incoming[i]?.from ?? join.block, () => {
      if (o.kind === 'undefined') return emitter.constant(0);
      return o.offset === first.offset ? o.base : emitter.advance(o.base, emitter.constant(o.offset - first.offset), o.space);
    }),
  );
  const base = bases.every((b) => b === bases[0]) ? first.base : phi(emitter, join, bases, first);
  const { epoch: _epoch, position: _position, ...rest } = first;
  const position = mergePositions(emitter, join, operands);
  return {
    ...rest,
    base,
    nullable,
    ...(first.space === 'packet'
      ? { epoch: refs.every((r) => r.epoch === first.epoch) ? (first.epoch ?? epoch) : { call: 'one of the paths' } }
      : {}),
    ...(position ? { position } : {}),
  };
}

/** Where in the packet the reference is; on paths without one it does not matter. */
function mergePositions(emitter: Emitter, join: Join, operands: readonly (RefOperand | UndefinedOperand)[]): NumberOperand | undefined {
  const known = operands.flatMap((o) => (o.kind === 'ref' && o.position ? [o.position] : []));
  const [first] = known;
  if (!first || known.length < operands.filter((o) => o.kind === 'ref').length) return undefined;
  if (isConstant(first.range) && known.every((p) => isConstant(p.range) && p.range.lo === first.range.lo))
    return { kind: 'number', range: first.range };
  const nowhere: NumberOperand = { kind: 'number', range: exactly(first.range.lo) };
  return mergeNumbers(
    emitter,
    join,
    operands.map((o) => (o.kind === 'ref' && o.position ? o.position : nowhere)),
  );
}

function phi(emitter: Emitter, join: Join, values: readonly Value[], ref?: RefOperand): Value {
  if (values.every((v) => v === values[0]) && values[0]) return values[0];
  const byBlock = new Map(join.incoming.map((incoming, i) => [incoming.from, values[i] as Value]));
  const inputs = join.block.predecessors.map((p) => byBlock.get(p) as Value);
  // variables that hold one pointer on every path go on holding one
  const same = join.block.nodes.find((n) => n.kind === 'phi' && n.inputs.length > 0 && n.inputs.every((input, i) => input === inputs[i]));
  if (same?.kind === 'phi' && same.pointer === ref?.space) return same;
  const node: Phi = createNode(emitter.graph, { kind: 'phi', inputs, ...(ref ? { pointer: ref.space } : {}) });
  return append(join.block, node);
}
