/** What is wrong with a program before it runs: helpers, maps, fields of the context and callbacks that cannot be. */
import {
  ArgumentError,
  CALL_OPCODE,
  EncodingError,
  Helper,
  type MapSpec,
  POISON_HELPER,
  type ProgramSpec,
  UnsupportedError,
} from '@tailrace/bpf';
import type { AbstractValue } from './abstract-value.ts';
import { bytesOf, type Code, isAtomic, isHelperCall, isRegisterCall, isSignedLoad, type Operation, operationAt, storesTo } from './code.ts';
import { contextAccess } from './context.ts';
import { type FunctionGraph, framesOf, type Naming, namingsOf } from './control-flow.ts';
import { callsBack } from './effects.ts';
import { helperFor } from './helper.ts';
import { TAG_FUNCTION } from './layout.ts';
import type { Provenance } from './provenance.ts';

/** Every helper is one that this engine has for programs of this type. Throws UnsupportedError. */
export function checkHelpers({ type }: ProgramSpec, code: Code): void {
  for (const operation of code) {
    if (operation === undefined || !isHelperCall(operation) || operation.imm === POISON_HELPER) continue;
    helperFor(operation.imm, type);
  }
}

/** Addresses of values are those of arrays with one entry, as the kernel has it. Throws ArgumentError. */
export function checkValueAddresses({ name }: ProgramSpec, code: Code, maps: ReadonlyMap<string, MapSpec>): void {
  for (const [pc, operation] of code.entries()) {
    const { map, valueOffset } = operation ?? {};
    const spec = map === undefined ? undefined : maps.get(map);
    if (spec === undefined || valueOffset === undefined) continue;
    const where = `program ${name}, pc ${pc}: the address of a value in map ${spec.name}`;
    if (spec.type !== 'array' || spec.maxEntries !== 1)
      throw new ArgumentError(`${where}, a map of type ${spec.type} with ${spec.maxEntries} entries, expected an array of one`);
    if (valueOffset >= spec.valueSize) throw new ArgumentError(`${where} at byte ${valueOffset} of ${spec.valueSize}`);
  }
}

/** Every access to the context whose place is known meets a field. Throws EncodingError. */
export function checkContext(spec: ProgramSpec, code: Code, { accesses }: Provenance): void {
  for (const [pc, access] of accesses) {
    if (access.kind !== 'context') continue;
    const operation = operationAt(code, pc);
    const met = contextAccess(spec, access.offset, bytesOf(operation), storesTo(operation), pc);
    const refuse = (what: string): never => {
      throw new EncodingError('context', `program ${spec.name}, pc ${pc}: ${what} ${met.name} of the context`, { pc });
    };
    if (isAtomic(operation)) refuse('an atomic access to');
    if (isSignedLoad(operation) && met.kind !== 'scalar') refuse('a load that extends the sign of');
  }
}

/** Maps that helpers are given, where they are known, are of a kind that they take. Throws ArgumentError. */
export function checkMaps({ name, type }: ProgramSpec, code: Code, { calls }: Provenance): void {
  for (const [pc, given] of calls) {
    const { imm } = operationAt(code, pc);
    if (imm === POISON_HELPER) continue;
    const helper = helperFor(imm, type);
    for (const [place, kind] of helper.args.entries()) {
      const value = given[place];
      if (kind !== 'map' || value?.kind !== 'map' || value.name === undefined || value.maybeNull) continue;
      if (helper.maps.includes(value.spec.type)) continue;
      throw new ArgumentError(`program ${name}, pc ${pc}: bpf_${helper.name} is given map ${value.spec.name} of type ${value.spec.type}`, {
        hint: `it takes ${helper.maps.join(', ')}`,
      });
    }
  }
}

/**
 * The frames that a program takes, its entry point's own counted. Throws UnsupportedError where they are too many, or where a
 * function that is called back cannot be told.
 */
export function checkedFrames({ name }: ProgramSpec, code: Code, graphs: readonly FunctionGraph[], { calls }: Provenance): number {
  const starts = new Set(graphs.map(({ start }) => start));
  const named = graphs.map((graph): readonly [number, readonly Naming[]] => {
    const loops: Naming[] = [];
    for (const { start, end } of graph.blocks)
      for (let pc = start; pc < end; pc += operationAt(code, pc).slots) {
        const operation = operationAt(code, pc);
        if (!isHelperCall(operation) || !callsBack(operation.imm)) continue;
        const to = functionOf(calls.get(pc)?.[1]);
        if (to === undefined || !starts.has(to))
          throw new UnsupportedError(`program ${name}, pc ${pc}: the function that is called back cannot be told before it runs`, {
            hint: 'pass a function to the helper directly',
          });
        const map = calls.get(pc)?.[0];
        if (operation.imm === Helper.for_each_map_elem && (map?.kind !== 'map' || map.name === undefined || map.maybeNull))
          throw new UnsupportedError(`program ${name}, pc ${pc}: the map that is gone through cannot be told before it runs`, {
            hint: 'pass a map to bpf_for_each_map_elem directly',
          });
        loops.push({ pc, to });
      }
    return [graph.start, [...namingsOf(code, graph), ...loops]];
  });
  return framesOf(new Map(named));
}

/** The slot where the function starts that a value is the address of. */
export function functionOf(value: AbstractValue | undefined): number | undefined {
  if (value?.kind !== 'number' || value.constant === undefined || value.constant >> 32n !== BigInt(TAG_FUNCTION)) return undefined;
  return Number(BigInt.asUintN(32, value.constant));
}

/** The code with every call by register as the call of the helper that is meant. Throws UnsupportedError where that cannot be told. */
export function withoutRegisterCalls({ name }: ProgramSpec, code: Code, { calledByRegister }: Provenance): Code {
  return code.map((operation, pc): Operation | undefined => {
    if (operation === undefined || !isRegisterCall(operation)) return operation;
    const value = calledByRegister.get(pc);
    const id = value?.kind === 'number' ? value.constant : undefined;
    if (id === undefined || id > 0x7fff_ffffn)
      throw new UnsupportedError(`program ${name}, pc ${pc}: which helper is called by r${operation.dst} cannot be told before it runs`, {
        hint: 'call the helper by its id',
      });
    return { ...operation, opcode: CALL_OPCODE, dst: 0, imm: Number(id) };
  });
}
