/**
 * Records of ring buffers inside a program. The kernel gives a record its place, the value is written there, and the
 * record is handed over: nothing passes over the stack. Between the two calls are stores and what they store only, since
 * the verifier wants every way out of them to give the record back.
 */
import { Helper } from '@tailrace/bpf';
import type { Layout } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { argumentNode } from './argument.ts';
import type { Lowering } from './lowering.ts';
import { type Operand, UNDEFINED } from './operand.ts';
import { writePlace } from './store.ts';

/** Wakes the reader where it has read all there was, and only then. */
const ADAPTIVE = 0;

/** `output(value)`: false where the ring is full. */
export function ringCall(
  lowering: Lowering,
  node: SyntaxNode,
  { handle, layout }: { readonly handle: Value; readonly layout: Layout },
  [value]: readonly Operand[],
): Operand {
  if (!value) return lowering.fail(node, 'type', 'output() needs a value');
  const size = lowering.constant(layout.size);
  const record = lowering.call(Helper.ringbuf_reserve, [handle, size, lowering.constant(0)], { pointer: 'ring' });
  const done = lowering.newJoin();
  const result = (value: 0 | 1): Operand => ({ kind: 'boolean', value: lowering.constant(value) });
  lowering.branch(
    'eq',
    record,
    lowering.constant(0),
    () => lowering.jump(done, result(0)),
    () => {
      const place = { kind: 'ref', layout, base: record, offset: 0, space: 'ring', shared: false, nullable: false } as const;
      writePlace(lowering, argumentNode(node, 0), place, value);
      lowering.call(Helper.ringbuf_submit, [record, lowering.constant(ADAPTIVE)]);
      lowering.jump(done, result(1));
    },
    'else',
  );
  return lowering.enter(done) ?? UNDEFINED;
}
