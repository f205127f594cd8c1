/** The chain's state: the packet's length, metadata and counters in one per-CPU entry, looked up once on a path. */
import { Helper } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { range } from '../range.ts';
import { forget, rememberedValue } from './fact.ts';
import type { Lowering } from './lowering.ts';
import type { NumberOperand, RefOperand } from './operand.ts';
import type { Program } from './program.ts';
import { exact } from './scalar.ts';

/** Largest packet that any driver hands over, with fragments. */
const MAX_PACKET = 1n << 17n;

/** The address of the state. It is always there; the verifier wants the test all the same. */
export function stateAddress(lowering: Lowering, map: string): Value {
  return rememberedValue(lowering, 'state', () => {
    const slot = lowering.slot(4);
    const key = lowering.stackAddress(slot);
    lowering.store(4, 'stack', key, 0, lowering.constant(0));
    const entry = lowering.call(Helper.map_lookup_elem, [lowering.mapHandle(map), key], { readsStack: [slot], pointer: 'map' });
    const there = lowering.newJoin();
    lowering.branch(
      'ne',
      entry,
      lowering.constant(0),
      () => lowering.jump(there),
      () => lowering.return(lowering.constant(lowering.hook.lost)),
      'then',
    );
    lowering.enter(there);
    return entry;
  });
}

/** A metadata field, in place. */
export function metadata(program: Program, node: SyntaxNode, name: string): RefOperand {
  const { lowering, stage, placement } = program;
  const fields = placement?.metadata ?? {};
  const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
  if (!field || !placement?.state) {
    const declared = [...new Set([...Object.keys(stage.reads), ...Object.keys(stage.writes)])];
    return lowering.fail(
      node,
      'name',
      `metadata '${name}' is not declared`,
      declared.length > 0 ? `declared: ${declared.join(', ')}` : 'declare it: reads: { … } or writes: { … }',
    );
  }
  return {
    kind: 'ref',
    layout: field.layout,
    base: stateAddress(lowering, placement.state.map),
    offset: field.offset,
    space: 'map',
    shared: false,
    nullable: false,
  };
}

/** `ctx.length`. */
export function packetLength(program: Program): NumberOperand {
  const { lowering, placement } = program;
  const state = placement?.state;
  const value = rememberedValue(lowering, 'length', () =>
    state?.length === undefined ? measure(lowering) : lowering.load(8, 'map', stateAddress(lowering, state.map), state.length),
  );
  return { kind: 'number', range: range(0n, MAX_PACKET), exact: value };
}

function measure(lowering: Lowering): Value {
  return lowering.call(Helper.xdp_get_buff_len, [lowering.graph.context]);
}

/** After one of the packet's ends moved and made it `by` bytes longer: cheaper than asking the kernel again. */
export function lengthened(program: Program, by: Value): void {
  const { lowering, placement } = program;
  const state = placement?.state;
  if (state?.length === undefined) return forget(lowering, ['length']);
  const length = lowering.binary('add', exact(lowering, packetLength(program)), by);
  lowering.store(8, 'map', stateAddress(lowering, state.map), state.length, length);
  forget(lowering, ['length']);
  rememberedValue(lowering, 'length', () => length);
}

/** Adds to this stage's counter `name`, one of `names`. */
export function count(program: Program, names: readonly string[], name: string, by: Value): void {
  const { lowering, placement } = program;
  const state = placement?.state;
  if (state?.counters === undefined) return;
  const base = stateAddress(lowering, state.map);
  const offset = state.counters + 8 * names.indexOf(name);
  lowering.store(8, 'map', base, offset, lowering.binary('add', lowering.load(8, 'map', base, offset), by));
}
