/** Methods of maps inside a program: lookup, update, delete. */
import { Helper, isPerCpu, UpdateFlag } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { isConstant, UINT32 } from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import type { Lowering } from './lowering.ts';
import type { MapOperand, Operand, RefOperand } from './operand.ts';
import { onStack } from './store.ts';

export const MAP_METHODS: ReadonlySet<string> = new Set(['lookup', 'update', 'delete']);

export function mapCall(lowering: Lowering, node: SyntaxNode, target: MapOperand, name: string, args: readonly Operand[]): Operand {
  const { map, reference } = target;
  const isArray = map.type === 'array' || map.type === 'perCpuArray';
  if (map.type === 'devmap' || map.type === 'programArray' || (isArray && name !== 'lookup')) {
    return lowering.fail(
      node,
      'name',
      `${map.type} '${map.name}' has no ${name}()`,
      map.type === 'devmap' ? 'pass it to ctx.redirect(devmap, key)' : isArray ? 'assign to the reference that lookup() gives' : undefined,
    );
  }
  const [key, value, flag] = args;
  if (!key) return lowering.fail(node, 'type', `${name}() needs a key`);
  const layout = map.value.layout;
  const ref = (base: Value, nullable: boolean): RefOperand => ({
    kind: 'ref',
    layout,
    base,
    offset: 0,
    space: 'map',
    shared: !isPerCpu(map.type),
    nullable,
  });
  if (isArray) {
    const index = numberArgument(lowering, argumentNode(node, 0), key, UINT32);
    // the one entry of an array has an address that is known when the program is loaded
    if (map.type === 'array' && map.maxEntries === 1 && isConstant(index.range) && index.range.lo === 0n)
      return ref(lowering.mapValueAddress(reference), false);
  }
  const keyBytes = onStack(lowering, argumentNode(node, 0), (map.key ?? map.value).layout, key);
  const handle = lowering.mapHandle(reference);
  switch (name) {
    case 'lookup':
      return ref(lowering.call(Helper.map_lookup_elem, [handle, keyBytes.address], { readsStack: [keyBytes.slot], pointer: 'map' }), true);
    case 'update': {
      if (!value) return lowering.fail(node, 'type', 'update() needs a value');
      const flagName = flag === undefined ? 'any' : flag.kind === 'string' ? flag.value : '';
      if (!Object.hasOwn(UpdateFlag, flagName))
        return lowering.fail(argumentNode(node, 2), 'type', "the flag must be 'any', 'noexist' or 'exist'");
      const bytes = onStack(lowering, argumentNode(node, 1), layout, value);
      const flags = lowering.constant(UpdateFlag[flagName as keyof typeof UpdateFlag]);
      return succeeded(
        lowering,
        lowering.call(Helper.map_update_elem, [handle, keyBytes.address, bytes.address, flags], {
          readsStack: [keyBytes.slot, bytes.slot],
        }),
      );
    }
    default:
      return succeeded(lowering, lowering.call(Helper.map_delete_elem, [handle, keyBytes.address], { readsStack: [keyBytes.slot] }));
  }
}

/** A helper's 0 as `true`. */
function succeeded(lowering: Lowering, result: Value): Operand {
  const done = lowering.newJoin();
  lowering.branch(
    'eq',
    result,
    lowering.constant(0),
    () => lowering.jump(done, { kind: 'boolean', value: lowering.constant(1) }),
    () => lowering.jump(done, { kind: 'boolean', value: lowering.constant(0) }),
  );
  return lowering.enter(done) ?? { kind: 'undefined' };
}
