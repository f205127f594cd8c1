/**
 * One WebAssembly module a chain: what it needs of the runtime, every program of the chain, and the loop over a batch. A tail call to a slot
 * that is known becomes a direct one, so a packet's whole way stays inside the module.
 */
import { Helper } from '@tailrace/bpf';
import type { BaseModule } from './base-module.ts';
import { isHelperCall, operationAt } from './code.ts';
import { HELPERS } from './helper.ts';
import {
  ANSWER_KEY,
  ANSWER_KIND,
  ANSWER_REDIRECT,
  ANSWER_TARGET,
  CONTEXT_XDP,
  FRAME_SIZE,
  PACKET_CEILING,
  PACKET_CONTEXT,
  PACKET_DATA,
  PACKET_END,
  PACKET_FLOOR,
  PACKET_META,
  REDIRECT_NONE,
  TAG_STACK,
  TRAP_BYTES,
  TRAP_PC,
  TRAP_POINTER,
  TRAP_PROGRAM,
  TRAP_REASON,
  WORKER_ANSWER,
  WORKER_PACKET,
  WORKER_STACK,
  WORKER_TAIL_CALLS,
  WORKER_TRAP,
} from './layout.ts';
import type { Entry, LinkedProgram } from './linked-program.ts';
import { type ModuleContext, RESULT } from './module-context.ts';
import { pointerTo } from './pointer.ts';
import type { Provenance } from './provenance.ts';
import { TAIL_CALL_LIMIT } from './tail-call.ts';
import { inlineProgram, translateProgram } from './translate.ts';
import { FunctionWriter, MemoryOp, ModuleWriter, Op, Type } from './wasm-writer.ts';

/** What a module is made of. */
export interface ChainParts {
  readonly runtime: BaseModule;
  /** By number; packets enter at 0. */
  readonly programs: readonly LinkedProgram[];
  readonly provenances: readonly Provenance[];
  /** Start of the worker's area. */
  readonly worker: number;
  readonly isShared: boolean;
  readonly entry: Entry;
  /** Turns of loops before a run is stopped. */
  readonly turnLimit: number;
}

/** A packet of a batch, as the loop reads it and leaves it: u32 each. */
export const Descriptor = {
  size: 48,
  floor: 0,
  meta: 4,
  data: 8,
  end: 12,
  ceiling: 16,
  /** What the chain returned. */
  verdict: 20,
  /** Where a redirect helper sent it: ANSWER_REDIRECT, ANSWER_TARGET, ANSWER_KIND and the low half of ANSWER_KEY. */
  redirect: 24,
  target: 28,
  kind: 32,
  key: 36,
  /** TC: address of what is known of the packet besides its bytes (INCOMING_*); 0: nothing. */
  incoming: 40,
} as const;

/** The bytes of a chain's module. It exports `repeat(times: i32): i64` and `batch(descriptors: i32, count: i32)`. */
export function chainModule(parts: ChainParts): Uint8Array<ArrayBuffer> {
  const steps = chainModuleSteps(parts);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** As `chainModule`, a program at a time: others may have their turn in between. */
export function* chainModuleSteps(parts: ChainParts): Generator<void, Uint8Array<ArrayBuffer>, void> {
  const { programs, provenances, worker } = parts;
  const module = new ModuleWriter(parts.runtime);
  const turns = module.global(Type.i32, 0n);
  const trap = module.add(trapFunction(worker));
  const entries = programs.map(() => module.reserve());
  const context: ModuleContext = {
    ...parts,
    module,
    turns,
    trap,
    entries,
    frames: programs.map(({ frames }) => frames),
    countsTailCalls: mayExceed(programs, provenances),
    startsDeep: programs.some(tailCallsDeep),
    contextStores: new Map(),
  };
  for (const [index, program] of programs.entries()) {
    translateProgram(context, program, provenances[index] as Provenance);
    yield;
  }
  module.export('repeat', module.add(repeatFunction(context, parts)));
  yield;
  module.export('batch', module.add(batchFunction(context, parts)));
  yield;
  return module.bytes();
}

/**
 * Whether a run may make more tail calls than the limit: by a cycle, a long chain, a slot that is not known before, or out of
 * subprograms, which come back and may be called again.
 */
export function mayExceed(programs: readonly LinkedProgram[], provenances: readonly Provenance[]): boolean {
  if (programs.some(tailCallsDeep)) return true;
  const onward = programs.map(({ code, maps }, index): readonly number[] | undefined => {
    const targets = new Set<number>();
    for (const [pc, operation] of code.entries()) {
      if (operation === undefined || !isHelperCall(operation) || operation.imm !== Helper.tail_call) continue;
      const provenance = provenances[index];
      const given = provenance?.calls.get(pc);
      // never reached, unless the analyser gave up
      if (given === undefined && provenance?.isComplete) continue;
      const [, array, slot] = given ?? [];
      if (array?.kind !== 'map' || array.name === undefined || array.maybeNull || slot?.kind !== 'number' || slot.constant === undefined)
        return undefined;
      const target = maps.get(array.name)?.slots.get(Number(BigInt.asUintN(32, slot.constant)));
      if (target !== undefined) targets.add(target);
    }
    return [...targets];
  });
  const depths = new Map<number, number>();
  const depthOf = (index: number, path: ReadonlySet<number>): number => {
    const known = depths.get(index);
    if (known !== undefined) return known;
    const targets = onward[index];
    if (targets === undefined || path.has(index) || path.size > TAIL_CALL_LIMIT) return Number.POSITIVE_INFINITY;
    const deeper = new Set(path).add(index);
    const depth = targets.reduce((deepest, target) => Math.max(deepest, 1 + depthOf(target, deeper)), 0);
    depths.set(index, depth);
    return depth;
  };
  return depthOf(0, new Set()) > TAIL_CALL_LIMIT;
}

function trapFunction(worker: number): FunctionWriter {
  const at = worker + WORKER_TRAP;
  return new FunctionWriter([Type.i64, Type.i32, Type.i32, Type.i32, Type.i32], [])
    .i32(0)
    .get(0)
    .memory(MemoryOp.i64Store, at + TRAP_POINTER)
    .i32(0)
    .get(1)
    .memory(MemoryOp.i32Store, at + TRAP_BYTES)
    .i32(0)
    .get(3)
    .memory(MemoryOp.i32Store, at + TRAP_PROGRAM)
    .i32(0)
    .get(4)
    .memory(MemoryOp.i32Store, at + TRAP_PC)
    .i32(0)
    .get(2)
    .memory(MemoryOp.i32Store, at + TRAP_REASON)
    .op(Op.unreachable);
}

/** The end of the first frame. */
function firstFrame(worker: number): bigint {
  return pointerTo(TAG_STACK, worker + WORKER_STACK + FRAME_SIZE);
}

function begin(writer: FunctionWriter, { worker, turns, countsTailCalls }: ModuleContext, turnLimit: number): void {
  writer.i32(turnLimit).setGlobal(turns);
  if (countsTailCalls)
    writer
      .i32(0)
      .i32(0)
      .memory(MemoryOp.i32Store, worker + WORKER_TAIL_CALLS);
}

/** What the loops do to packets, found once a chain. */
interface Loop {
  readonly context: ModuleContext;
  readonly parts: ChainParts;
  readonly writer: FunctionWriter;
  /** Locals: the end of the first frame (i64), what the chain returned (i64), the packet's ends (i32). */
  readonly frame: number;
  readonly result: number;
  readonly ends: { readonly data: number; readonly end: number };
}

function newLoop(context: ModuleContext, parts: ChainParts, writer: FunctionWriter): Loop {
  const [frame, result] = [writer.local(Type.i64), writer.local(Type.i64)];
  const ends = { data: writer.local(Type.i32), end: writer.local(Type.i32) };
  writer.i64(firstFrame(context.worker)).set(frame);
  return { context, parts, writer, frame, result, ends };
}

/** Writes one turn: the first program's code stands in place, the others are called. */
function writeTurn({ context, parts, writer, frame, result, ends }: Loop): void {
  const { programs, provenances, turnLimit } = parts;
  const root = programs[0] as LinkedProgram;
  begin(writer, context, turnLimit);
  writer.block();
  // what comes back from a tail call out of a subprogram may have moved the packet
  const inlined = { frame, result, depth: writer.depth, ends: movesPacket(root) || tailCallsDeep(root) ? undefined : ends };
  inlineProgram(context, root, provenances[0] as Provenance, writer, inlined);
  writer.end();
  const settle = (name: string): void => void writer.i32(context.worker).call(context.module.functionNamed(name));
  if (programs.some((program) => calls(program, (helper) => helper === Helper.ringbuf_reserve))) settle('record_close_all');
  if (programs.some((program) => calls(program, (helper) => helper === Helper.spin_lock))) settle('spin_release');
}

/** Runs the packet that is in the worker's area again and again, as it is left each time: (how often). Gives what came last. */
function repeatFunction(context: ModuleContext, parts: ChainParts): FunctionWriter {
  const packet = context.worker + WORKER_PACKET;
  const writer = new FunctionWriter([Type.i32], RESULT);
  const loop = newLoop(context, parts, writer);
  const left = 0;
  writer.loop();
  writer
    .i32(0)
    .memory(MemoryOp.i32Load, packet + PACKET_DATA)
    .set(loop.ends.data);
  writer
    .i32(0)
    .memory(MemoryOp.i32Load, packet + PACKET_END)
    .set(loop.ends.end);
  writeTurn(loop);
  writer.get(left).i32(1).op(Op.i32Sub).tee(left).brIf(0).end();
  return writer.get(loop.result);
}

/**
 * Runs packets one after the other: (address of the first descriptor, how many). At XDP the context is the same for all of them,
 * at TC each has one of its own. What is not needed is not done: where nothing
 * can move the packet, it need not be told where it ended.
 */
function batchFunction(context: ModuleContext, parts: ChainParts): FunctionWriter {
  const packet = context.worker + WORKER_PACKET;
  const answer = context.worker + WORKER_ANSWER;
  const writer = new FunctionWriter([Type.i32, Type.i32], []);
  const [descriptor, left] = [0, 1];
  const moves = parts.programs.some(movesPacket);
  const redirects = parts.programs.some(redirectsPacket);
  const isXdp = parts.programs[0]?.spec.type === 'xdp';
  const store = (address: number, value: () => void): void => {
    writer.i32(0);
    value();
    writer.memory(MemoryOp.i32Store, address);
  };
  const read = (field: number): FunctionWriter => writer.get(descriptor).memory(MemoryOp.i32Load, field);
  const back = (field: number, from: number): void => {
    writer.get(descriptor).i32(0).memory(MemoryOp.i32Load, from).memory(MemoryOp.i32Store, field);
  };
  writer.get(left).op(Op.i32Eqz).if().op(Op.return).end();
  const loop = newLoop(context, parts, writer);
  if (isXdp) store(packet + PACKET_CONTEXT, () => writer.i32(CONTEXT_XDP));
  writer.loop();
  store(packet + PACKET_DATA, () => read(Descriptor.data).tee(loop.ends.data));
  store(packet + PACKET_END, () => read(Descriptor.end).tee(loop.ends.end));
  store(packet + PACKET_META, () => read(Descriptor.meta));
  if (moves) {
    store(packet + PACKET_FLOOR, () => read(Descriptor.floor));
    store(packet + PACKET_CEILING, () => read(Descriptor.ceiling));
  }
  if (!isXdp)
    writer
      .i32(context.worker)
      .get(descriptor)
      .memory(MemoryOp.i32Load, Descriptor.incoming)
      .call(context.module.functionNamed('skb_enter'));
  else if (redirects) store(answer + ANSWER_REDIRECT, () => writer.i32(REDIRECT_NONE));
  writeTurn(loop);
  writer.get(descriptor).get(loop.result).memory(MemoryOp.i64Store32, Descriptor.verdict);
  if (moves) {
    back(Descriptor.meta, packet + PACKET_META);
    back(Descriptor.data, packet + PACKET_DATA);
    back(Descriptor.end, packet + PACKET_END);
  }
  if (redirects) {
    back(Descriptor.redirect, answer + ANSWER_REDIRECT);
    back(Descriptor.target, answer + ANSWER_TARGET);
    back(Descriptor.kind, answer + ANSWER_KIND);
    back(Descriptor.key, answer + ANSWER_KEY);
  }
  writer.get(descriptor).i32(Descriptor.size).op(Op.i32Add).set(descriptor);
  writer.get(left).i32(1).op(Op.i32Sub).tee(left).brIf(0).end();
  return writer;
}

/** Whether a program calls what moves the packet. */
export function movesPacket(program: Pick<LinkedProgram, 'code'>): boolean {
  return calls(program, (helper) => HELPERS.get(helper)?.movesPacket ?? true);
}

/** Whether a program makes tail calls out of subprograms: these come back to who called the subprogram. */
function tailCallsDeep({ code, graphs }: Pick<LinkedProgram, 'code' | 'graphs'>): boolean {
  return graphs.slice(1).some(({ blocks }) =>
    blocks.some(({ start, end }) => {
      for (let pc = start; pc < end; pc += operationAt(code, pc).slots) {
        const operation = operationAt(code, pc);
        if (isHelperCall(operation) && operation.imm === Helper.tail_call) return true;
      }
      return false;
    }),
  );
}

/** Whether a program calls what chooses where packets go. */
export function redirectsPacket(program: Pick<LinkedProgram, 'code'>): boolean {
  return calls(program, (helper) => REDIRECTS.has(helper));
}

const REDIRECTS: ReadonlySet<number> = new Set([Helper.redirect, Helper.redirect_map, Helper.redirect_peer, Helper.redirect_neigh]);

function calls({ code }: Pick<LinkedProgram, 'code'>, matches: (helper: number) => boolean): boolean {
  return code.some((operation) => operation !== undefined && isHelperCall(operation) && matches(operation.imm));
}
