/**
 * The chain's state: the packet's length, metadata and counters in one per-CPU entry, looked up once on a path. At TC the
 * kernel knows the length, and metadata lie in the packet's control block.
 */
import { Helper } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import { type HookModel, SK_BUFF } from '../hook-model.ts';
import type { Value } from '../ir.ts';
import { range, UINT32 } from '../range.ts';
import { forget, rememberedValue } from './fact.ts';
import type { Lowering } from './lowering.ts';
import type { NumberOperand, RefOperand } from './operand.ts';
import type { Program } from './program.ts';
import { exact } from './scalar.ts';

/** Largest packets that any driver hands over, with fragments, and that the stack makes (GSO_MAX_SIZE). */
const MAX_PACKET = { xdp: 1n << 17n, tc: 1n << 20n } as const;
/** Of what is sent or has come in at a socket at once. */
const MAX_DATA = UINT32.hi;

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
  if (!field || (lowering.hook.kind === 'xdp' && !placement?.state)) {
    const declared = [...new Set([...Object.keys(stage.reads), ...Object.keys(stage.writes)])];
    return lowering.fail(
      node,
      'name',
      `metadata '${name}' is not declared`,
      declared.length > 0 ? `declared: ${declared.join(', ')}` : 'declare it: reads: { … } or writes: { … }',
    );
  }
  const { layout } = field;
  const { offset, ...where } = metadataPlace(program, field.offset);
  lowering.written.watch(where.base, offset, layout.size);
  return { kind: 'ref', layout, offset, ...where, shared: false, nullable: false };
}

/** Where the byte at `from` of a chain's metadata lies. */
export function metadataPlace({ lowering, placement }: Program, from: number): Pick<RefOperand, 'base' | 'offset' | 'space'> {
  const offset = metadataOffset(lowering.hook, from);
  if (lowering.hook.kind === 'tc') return { base: lowering.graph.context, offset, space: 'skb' };
  return { base: stateAddress(lowering, placement?.state?.map ?? ''), offset, space: 'map' };
}

/** The offset of the byte at `from` of a chain's metadata in what holds them: the state, or struct __sk_buff. */
export function metadataOffset(hook: HookModel, from: number): number {
  return hook.kind === 'tc' ? SK_BUFF.cb + from : from;
}

/** A word of the context that programs cannot write. */
export function contextWord(lowering: Lowering, offset: number): NumberOperand {
  return { kind: 'number', range: UINT32, exact: lowering.load(4, 'context', lowering.graph.context, offset) };
}

/** `ctx.length`. */
export function packetLength(program: Program): NumberOperand {
  const { lowering, placement } = program;
  const state = placement?.state;
  const { kind, bytes } = lowering.hook;
  const within = range(0n, kind === 'xdp' || kind === 'tc' ? MAX_PACKET[kind] : MAX_DATA);
  const told = bytes?.length;
  const value = rememberedValue(lowering, told === undefined ? 'length' : 'packet:length', () =>
    told !== undefined
      ? exact(lowering, contextWord(lowering, told))
      : state?.length === undefined
        ? measure(lowering)
        : lowering.load(8, 'map', stateAddress(lowering, state.map), state.length),
  );
  return { kind: 'number', range: within, exact: value };
}

function measure(lowering: Lowering): Value {
  return lowering.call(Helper.xdp_get_buff_len, [lowering.graph.context]);
}

/** `ctx.segments`: packets on the wire that this one stands for. */
export function segments({ lowering }: Program): NumberOperand {
  const value = rememberedValue(lowering, 'packet:segments', () => {
    const known = exact(lowering, contextWord(lowering, SK_BUFF.gsoSegments));
    // most packets have 0 there: no branch tells them apart, the sign of what is one less does
    const isZero = lowering.binary('rsh', lowering.binary('sub', known, lowering.constant(1)), lowering.constant(63));
    return lowering.binary('or', known, isZero);
  });
  return { kind: 'number', range: range(1n, 0xffffn), exact: value };
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
  // a program of sockets may be interrupted by another of its chain on the same CPU
  if (lowering.hook.socket) return lowering.atomicAdd(8, 'map', base, offset, by);
  lowering.store(8, 'map', base, offset, lowering.binary('add', lowering.load(8, 'map', base, offset), by));
}
