/** Methods of maps inside a program: lookup, update, delete here, those of kinds without keys in queue-call.ts and ring-call.ts. */
import { Helper, isMapOfMaps, isPerCpu, UpdateFlag } from '@tailrace/bpf';
import { nothing } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { isConstant, UINT32 } from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import type { Lowering } from './lowering.ts';
import { kindOf } from './map-kind.ts';
import type { MapOperand, Operand, RefOperand } from './operand.ts';
import { filterCall, queueCall } from './queue-call.ts';
import { ringCall } from './ring-call.ts';
import { addSocket } from './socket-member.ts';
import { onStack } from './store.ts';
import { succeeded } from './success.ts';

export function mapCall(lowering: Lowering, node: SyntaxNode, target: MapOperand, name: string, args: readonly Operand[]): Operand {
  const { map } = target;
  const { methods, hint } = kindOf(map.type);
  if (!methods.includes(name)) return lowering.fail(node, 'name', `${map.type} '${map.name}' has no ${name}()`, hint);
  switch (map.type) {
    case 'queue':
    case 'stack':
      return queueCall(lowering, node, { handle: handleOf(lowering, target), layout: map.value.layout }, name, args);
    case 'bloomFilter':
      return filterCall(lowering, node, { handle: handleOf(lowering, target), layout: map.value.layout }, name, args);
    case 'ringBuffer':
      return ringCall(lowering, node, { handle: handleOf(lowering, target), layout: map.value.layout }, args);
    case 'sockmap':
    case 'sockhash':
      return addSocket(lowering, node, target, args[0]);
    default:
      return keyedCall(lowering, node, target, name, args);
  }
}

function keyedCall(lowering: Lowering, node: SyntaxNode, target: MapOperand, name: string, args: readonly Operand[]): Operand {
  const { map } = target;
  const [key, value, flag] = args;
  if (!key) return lowering.fail(node, 'type', `${name}() needs a key`);
  if (map.type === 'array' || map.type === 'perCpuArray' || map.type === 'arrayOfMaps') {
    const index = numberArgument(lowering, argumentNode(node, 0), key, UINT32);
    // the one entry of an array has an address that is known when the program is loaded
    if (map.type === 'array' && !target.handle && map.maxEntries === 1 && isConstant(index.range) && index.range.lo === 0n)
      return found(target, lowering.mapValueAddress(target.reference), false);
  }
  const keyBytes = onStack(lowering, argumentNode(node, 0), (map.key ?? map.value).layout, key);
  const handle = handleOf(lowering, target);
  switch (name) {
    case 'lookup':
      return found(
        target,
        lowering.call(Helper.map_lookup_elem, [handle, keyBytes.address], { readsStack: [keyBytes.slot], pointer: 'map' }),
        true,
      );
    case 'update': {
      if (!value) return lowering.fail(node, 'type', 'update() needs a value');
      const flagName = flag === undefined ? 'any' : flag.kind === 'string' ? flag.value : '';
      if (!Object.hasOwn(UpdateFlag, flagName))
        return lowering.fail(argumentNode(node, 2), 'type', "the flag must be 'any', 'noexist' or 'exist'");
      const bytes = onStack(lowering, argumentNode(node, 1), map.value.layout, value);
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

/** What a lookup gives: a value in place, or an inner map, which has no bytes of its own. */
function found({ map }: MapOperand, base: Value, nullable: boolean): RefOperand {
  const inner = isMapOfMaps(map.type) ? map.inner : undefined;
  return {
    kind: 'ref',
    layout: inner ? nothing.layout : map.value.layout,
    base,
    offset: 0,
    space: 'map',
    shared: !isPerCpu(map.type),
    nullable,
    ...(inner ? { map: inner } : {}),
  };
}

function handleOf(lowering: Lowering, { handle, reference }: MapOperand): Value {
  return handle ?? lowering.mapHandle(reference);
}
