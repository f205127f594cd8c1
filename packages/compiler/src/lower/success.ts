/** Results of helpers that give 0 where they did what they were asked for. */
import type { Value } from '../ir.ts';
import type { Lowering } from './lowering.ts';
import type { Operand } from './operand.ts';

/** A helper's 0 as `true`, anything else as `false`. `onSuccess` is emitted on the path of the former. */
export function succeeded(lowering: Lowering, result: Value, onSuccess?: () => void): Operand {
  const done = lowering.newJoin();
  lowering.branch(
    'eq',
    result,
    lowering.constant(0),
    () => {
      onSuccess?.();
      lowering.jump(done, { kind: 'boolean', value: lowering.constant(1) });
    },
    () => lowering.jump(done, { kind: 'boolean', value: lowering.constant(0) }),
    'then',
  );
  return lowering.enter(done) ?? { kind: 'undefined' };
}
