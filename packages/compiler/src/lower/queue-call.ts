/** Methods of maps without keys inside a program: queues and stacks, bloom filters. */
import { Helper, UpdateFlag } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { argumentNode } from './argument.ts';
import type { Lowering } from './lowering.ts';
import { type Operand, UNDEFINED } from './operand.ts';
import { onStack, stackRef } from './store.ts';
import { succeeded } from './success.ts';

/** One of `push`, `pop`, `peek` of a map whose values have a layout. */
export function queueCall(
  lowering: Lowering,
  node: SyntaxNode,
  { handle, layout }: { readonly handle: Value; readonly layout: Parameters<typeof onStack>[2] },
  name: string,
  args: readonly Operand[],
): Operand {
  if (name === 'push') {
    const [value, flag] = args;
    if (!value) return lowering.fail(node, 'type', 'push() needs a value');
    const flagName = flag === undefined ? 'any' : flag.kind === 'string' ? flag.value : '';
    if (flagName !== 'any' && flagName !== 'exist')
      return lowering.fail(
        argumentNode(node, 1),
        'type',
        "the flag must be 'any' or 'exist'",
        "'exist' takes the oldest value out where it is full",
      );
    const bytes = onStack(lowering, argumentNode(node, 0), layout, value);
    const flags = lowering.constant(UpdateFlag[flagName]);
    return succeeded(lowering, lowering.call(Helper.map_push_elem, [handle, bytes.address, flags], { readsStack: [bytes.slot] }));
  }
  const slot = lowering.slot(layout.size);
  const address = lowering.stackAddress(slot);
  const helper = name === 'pop' ? Helper.map_pop_elem : Helper.map_peek_elem;
  const result = lowering.call(helper, [handle, address], { writesStack: [slot] });
  const done = lowering.newJoin();
  lowering.branch(
    'eq',
    result,
    lowering.constant(0),
    () => lowering.jump(done, stackRef(layout, address)),
    () => lowering.jump(done, UNDEFINED),
  );
  return lowering.enter(done) ?? UNDEFINED;
}

/** One of `add`, `has` of a bloom filter. */
export function filterCall(
  lowering: Lowering,
  node: SyntaxNode,
  { handle, layout }: { readonly handle: Value; readonly layout: Parameters<typeof onStack>[2] },
  name: string,
  [value]: readonly Operand[],
): Operand {
  if (!value) return lowering.fail(node, 'type', `${name}() needs a value`);
  const bytes = onStack(lowering, argumentNode(node, 0), layout, value);
  if (name === 'has')
    return succeeded(lowering, lowering.call(Helper.map_peek_elem, [handle, bytes.address], { readsStack: [bytes.slot] }));
  // It has room for whatever comes, and takes no flag.
  lowering.call(Helper.map_push_elem, [handle, bytes.address, lowering.constant(UpdateFlag.any)], { readsStack: [bytes.slot] });
  return UNDEFINED;
}
