/**
 * Calls of helpers as WebAssembly: arguments that are pointers are checked and become addresses, the runtime's function is
 * called, and what it answers becomes a pointer again. Tail calls and loops are control flow and are written here whole.
 */
import { Helper, isMapOfMaps, type MapSpec, MapType, POISON_HELPER, TailraceError } from '@tailrace/bpf';
import { type AbstractValue, ANY } from './abstract-value.ts';
import { argumentBytes, MAX_BYTES } from './argument-bytes.ts';
import type { AccessWriter } from './checked-access.ts';
import { isInFrame } from './frame-access.ts';
import { type ArgumentKind, type HelperSpec, helperFor, type MemoryArgument } from './helper.ts';
import {
  FRAME_LIMIT,
  FRAME_SIZE,
  MAP_KEY_SIZE,
  MAP_TAG,
  MAP_VALUE_SIZE,
  TAG_CONTEXT,
  TAG_KEY,
  TAG_MAP,
  TAG_STACK,
  WORKER_CONTEXT,
  WORKER_CPU,
  WORKER_EACH_KEY,
  WORKER_TAIL_CALLS,
} from './layout.ts';
import type { MapPlace } from './linked-program.ts';
import { pointerTo } from './pointer.ts';
import { functionOf } from './program-check.ts';
import { type Access, isInValue } from './provenance.ts';
import { TAIL_CALL_LIMIT } from './tail-call.ts';
import { MemoryOp, Op, Type } from './wasm-writer.ts';

/** BPF_MAX_LOOPS (kernel/bpf/verifier.c). */
const MAX_LOOPS = 8 * 1024 * 1024;
/** Slots that a table goes up to; beyond, slots are compared one by one (V8 takes tables of 65,520). */
const TABLE_LIMIT = 4096;
const E2BIG = -7n;
const EINVAL = -22n;

/** Writes the call of a helper at `pc`; r0 has its result. */
export function writeHelperCall(translator: AccessWriter, helper: number, pc: number): void {
  const { program, provenance } = translator.parts;
  const given = provenance.calls.get(pc) ?? [ANY, ANY, ANY, ANY, ANY];
  if (helper === POISON_HELPER) return translator.trap('poison', pc, () => translator.parts.writer.i64(0n), 0);
  if (helper === Helper.tail_call) return writeTailCall(translator, given, pc);
  if (helper === Helper.loop) return writeLoop(translator, given, pc);
  if (helper === Helper.for_each_map_elem) return writeEach(translator, given, pc);
  new HelperCall(translator, helperFor(helper, program.spec.type), given, pc).write();
}

class HelperCall {
  readonly #translator: AccessWriter;
  readonly #spec: HelperSpec;
  readonly #given: readonly AbstractValue[];
  readonly #pc: number;

  constructor(translator: AccessWriter, spec: HelperSpec, given: readonly AbstractValue[], pc: number) {
    this.#translator = translator;
    this.#spec = spec;
    this.#given = given;
    this.#pc = pc;
  }

  write(): void {
    const { writer, registers, context, tiles } = this.#translator.parts;
    const map = this.#map;
    tiles?.gather(this.#pc);
    if (this.#spec.name === 'map_lookup_elem' && map && this.#isFlat(map)) this.#arrayLookup(map);
    else {
      if (this.#spec.takesWorker || this.#spec.result === 'record') writer.i32(context.worker);
      for (const [place, kind] of this.#spec.args.entries()) this.#argument(place, kind);
      for (const constant of this.#spec.trailing) {
        if (constant === 'cpu') writer.i32(0).memory(MemoryOp.i32Load, context.worker + WORKER_CPU);
        else writer.i32(constant);
      }
      writer.call(context.module.functionNamed(this.#function(map)));
      this.#result(map);
    }
    writer.set(registers[0] as number);
  }

  /** The map that the first argument is, where that is known. */
  get #map(): MapPlace | undefined {
    return this.#spec.args[0] === 'map' ? knownMap(this.#translator, this.#given[0] ?? ANY) : undefined;
  }

  #mapSpec(): MapSpec | undefined {
    const first = this.#given[0];
    return this.#spec.args[0] === 'map' && first?.kind === 'map' && !first.maybeNull ? first.spec : undefined;
  }

  #isFlat({ spec }: MapPlace): boolean {
    return spec.type === 'array' || spec.type === 'perCpuArray';
  }

  /** Of arrays the address is computed in place. */
  #arrayLookup(map: MapPlace): void {
    const { writer, context } = this.#translator.parts;
    const index = this.#translator.address;
    const offset = this.#translator.addressOf(2, 0, 4, this.#pc, this.#argumentAccess(1, 4, false), false);
    writer.memory(MemoryOp.i32Load, offset).tee(index).i32(map.spec.maxEntries).op(Op.i32LtU).if(Type.i64);
    writer.get(index).i32(map.stride).op(Op.i32Mul).i32(map.values).op(Op.i32Add);
    if (map.spec.type === 'perCpuArray' && map.stride !== map.valueStride) {
      writer
        .i32(0)
        .memory(MemoryOp.i32Load, context.worker + WORKER_CPU)
        .i32(map.valueStride)
        .op(Op.i32Mul, Op.i32Add);
    }
    writer.op(Op.extendU).i64(pointerTo(map.tag, 0)).op(Op.i64Or).else().i64(0n).end();
  }

  /** The runtime's function; lookups go straight to the one for the kind of map and size of key. */
  #function(map: MapPlace | undefined): string {
    const { name, export: runtime = name, result } = this.#spec;
    if (result === 'record') return 'record_reserve';
    if (name !== 'map_lookup_elem' || map === undefined) return runtime;
    const { type, keySize } = map.spec;
    const prefix =
      type === 'hash' || type === 'perCpuHash' ? 'hash_lookup' : type === 'lruHash' || type === 'lruPerCpuHash' ? 'lru_lookup' : undefined;
    if (prefix === undefined || map.isShared) return runtime;
    return `${prefix}${keySize === 4 || keySize === 8 || keySize === 16 ? keySize : '_any'}`;
  }

  #argument(place: number, kind: ArgumentKind): void {
    const translator = this.#translator;
    const { writer, context } = translator.parts;
    const register = place + 1;
    const given = this.#given[place] ?? ANY;
    switch (kind) {
      case 'scalar':
      case 'text':
        translator.register(register);
        return;
      case 'context':
        requireContext(translator, given, register, this.#pc);
        return;
      case 'map':
        return this.#mapArgument(given, register);
      case 'key':
        return this.#mapBytes(place, kind, MAP_KEY_SIZE);
      case 'value':
      case 'outValue':
        return this.#mapBytes(place, kind, MAP_VALUE_SIZE);
      case 'lock':
        return this.#lockArgument(place);
      case 'record': {
        const { address } = translator;
        writer.i32(context.worker);
        translator.register(register).call(context.module.functionNamed('record_close'));
        writer.tee(address).op(Op.i32Eqz).if();
        translator.trap('record', this.#pc, () => translator.register(register), 0);
        writer.end().get(address);
        return;
      }
      case 'function':
        throw new TailraceError('compile', `pc ${this.#pc}: bpf_${this.#spec.name} was let through`);
      default:
        return this.#memory(place, kind);
    }
  }

  #mapArgument(given: AbstractValue, register: number): void {
    const translator = this.#translator;
    const { writer, context } = translator.parts;
    const place = knownMap(translator, given);
    if (place) return void writer.i32(place.address);
    // a map, and of a kind that the helper takes
    const kinds = this.#spec.maps.reduce((mask, type) => mask | (1 << MapType[type]), 0);
    translator.register(register).i32(kinds).call(context.module.functionNamed('map_address'));
    writer.tee(translator.address).op(Op.i32Eqz).if();
    translator.trap('map', this.#pc, () => translator.register(register), 0);
    writer.end().get(translator.address);
  }

  #lockArgument(place: number): void {
    const translator = this.#translator;
    const { writer } = translator.parts;
    this.#checked(place, 4, true);
    writer.tee(translator.address).i32(3).op(Op.i32And).if();
    translator.trap('alignment', this.#pc, () => translator.register(place + 1), 4);
    writer.end().get(translator.address);
  }

  /** An argument of as many bytes as the map's keys or values have. */
  #mapBytes(place: number, kind: 'key' | 'value' | 'outValue', field: number): void {
    const isWrite = kind === 'outValue';
    const bytes = argumentBytes(kind, this.#given);
    if (bytes !== undefined) return this.#checked(place, bytes, isWrite);
    const map = this.#spec.args.indexOf('map') + 1;
    this.#checkedDynamic(place, () => this.#translator.register(map).op(Op.wrap).memory(MemoryOp.i32Load, field), isWrite);
  }

  #memory(place: number, kind: MemoryArgument): void {
    const translator = this.#translator;
    const { writer } = translator.parts;
    const { size } = kind;
    const isWrite = kind.memory === 'write';
    if (typeof size === 'number') return this.#checked(place, size, isWrite);
    const known = argumentBytes(kind, this.#given);
    if (known !== undefined) return this.#checked(place, known, isWrite);
    const sizeRegister = size.argument + 1;
    const bytes = (): void => void translator.register(sizeRegister).op(Op.wrap);
    // no bytes at all may be nowhere
    translator.register(sizeRegister).op(Op.i64Eqz).if(Type.i32).i32(0).else();
    translator.register(sizeRegister).i64(BigInt(MAX_BYTES)).op(Op.i64GtU).if();
    translator.trap(isWrite ? 'write' : 'read', this.#pc, () => translator.register(place + 1), bytes);
    writer.end();
    this.#checkedDynamic(place, bytes, isWrite);
    writer.end();
  }

  /** The address of an argument of so many bytes on the stack. */
  #checked(place: number, bytes: number, isWrite: boolean): void {
    const { writer } = this.#translator.parts;
    const offset = this.#translator.addressOf(place + 1, 0, bytes, this.#pc, this.#argumentAccess(place, bytes, isWrite), isWrite);
    if (offset !== 0) writer.i32(offset).op(Op.i32Add);
  }

  #checkedDynamic(place: number, bytes: () => void, isWrite: boolean): void {
    const translator = this.#translator;
    const { writer, context } = translator.parts;
    const { address } = translator;
    writer.i32(context.worker);
    translator.register(place + 1);
    bytes();
    writer
      .i32(isWrite ? 1 : 0)
      .call(context.module.functionNamed('region_address'))
      .tee(address)
      .op(Op.i32Eqz)
      .if();
    translator.trap(isWrite ? 'write' : 'read', this.#pc, () => translator.register(place + 1), bytes);
    writer.end().get(address);
  }

  /** Whether an argument is surely inside: of stack frames and map values that can be told from the pointer alone. */
  #argumentAccess(place: number, bytes: number, isWrite: boolean): Access {
    const value = this.#given[place] ?? ANY;
    const isProved =
      (value.kind === 'frame' && isInFrame(value, 0, bytes)) ||
      // whether a record is still open is told where it is used
      (value.kind === 'value' && value.spec.type !== 'ringBuffer' && isInValue(value, 0, bytes, isWrite));
    return isProved ? { kind: 'proved' } : { kind: 'checked' };
  }

  /** What the runtime answered, as a register has it. */
  #result(map: MapPlace | undefined): void {
    const translator = this.#translator;
    const { writer } = translator.parts;
    const { address } = translator;
    switch (this.#spec.result) {
      case 'scalar':
      case 'record':
        return;
      case 'void':
        writer.i64(0n);
        return;
      case 'value': {
        writer.tee(address).op(Op.i32Eqz).if(Type.i64).i64(0n).else().get(address).op(Op.extendU);
        const spec = map?.spec ?? this.#mapSpec();
        if (spec && isMapOfMaps(spec.type)) writer.i64(pointerTo(TAG_MAP, 0));
        else if (map) writer.i64(pointerTo(map.tag, 0));
        else if (spec) {
          translator.register(1).op(Op.wrap).memory(MemoryOp.i64Load32U, MAP_TAG).i64(32n).op(Op.i64Shl);
        } else {
          // what kind of map it is shows only now
          translator.register(1).op(Op.wrap).call(translator.parts.context.module.functionNamed('result_tag'));
          writer.op(Op.extendU).i64(32n).op(Op.i64Shl);
        }
        writer.op(Op.i64Or).end();
        return;
      }
      case 'held':
        writer.op(Op.i32Eqz).if();
        translator.trap('lock', this.#pc, () => translator.register(1), 4);
        writer.end().i64(0n);
    }
  }
}

/** The map that a value surely is, where the program names it. */
function knownMap({ parts }: AccessWriter, value: AbstractValue): MapPlace | undefined {
  return value.kind === 'map' && value.name !== undefined && !value.maybeNull ? parts.program.maps.get(value.name) : undefined;
}

function requireContext(translator: AccessWriter, given: AbstractValue, register: number, pc: number): void {
  if (given.kind === 'context' && given.offset === 0) return;
  const { writer, context } = translator.parts;
  translator
    .register(register)
    .i64(pointerTo(TAG_CONTEXT, context.worker + WORKER_CONTEXT))
    .op(Op.i64Ne)
    .if();
  translator.trap('context', pc, () => translator.register(register), 0);
  writer.end();
}

// --- tail calls

/** Goes to the program in a slot and does not come back; where the slot is empty or the limit is reached, it goes on behind. */
function writeTailCall(translator: AccessWriter, given: readonly AbstractValue[], pc: number): void {
  const { writer, program } = translator.parts;
  const [context = ANY, array = ANY, slot = ANY] = given;
  requireContext(translator, context, 1, pc);
  const place = knownMap(translator, array);
  if (place !== undefined && place.spec.type === 'programArray') return writeJump(translator, place, slot, pc);
  // no array is known here: whichever of the program's it is
  const arrays = [...program.maps.values()].filter(({ spec }) => spec.type === 'programArray');
  for (const known of arrays) {
    translator.register(2).i64(pointerTo(TAG_MAP, known.address)).op(Op.i64Eq).if();
    writeJump(translator, known, slot, pc);
    writer.else();
  }
  translator.trap('map', pc, () => translator.register(2), 0);
  for (const _ of arrays) writer.end();
}

function writeJump(translator: AccessWriter, { slots }: MapPlace, slot: AbstractValue, pc: number): void {
  const { writer, context } = translator.parts;
  const go = (target: number): void => {
    if (context.countsTailCalls) {
      const counter = context.worker + WORKER_TAIL_CALLS;
      writer.i32(0).memory(MemoryOp.i32Load, counter).tee(translator.address).i32(TAIL_CALL_LIMIT).op(Op.i32LtU).if();
      writer.i32(0).get(translator.address).i32(1).op(Op.i32Add).memory(MemoryOp.i32Store, counter);
    }
    if (context.startsDeep) requireFrames(translator, context.frames[target] as number, pc);
    translator.register(10);
    translator.leaveBy(context.entries[target] as number);
    if (context.countsTailCalls) writer.end();
  };
  if (slot.kind === 'number' && slot.constant !== undefined) {
    const target = slots.get(Number(BigInt.asUintN(32, slot.constant)));
    if (target !== undefined) go(target);
    return;
  }
  // a block for each program, and a table from slots to blocks; the outermost block is behind all of them
  const targets = [...new Set(slots.values())];
  const last = Math.max(-1, ...slots.keys());
  if (last < 0) return;
  if (last >= TABLE_LIMIT) {
    for (const [known, target] of slots) {
      translator.register(3).op(Op.wrap).i32(known).op(Op.i32Eq).if();
      go(target);
      writer.end();
    }
    return;
  }
  const miss = targets.length;
  writer.block();
  for (const _ of targets) writer.block();
  translator.register(3).op(Op.wrap);
  writer.brTable(
    Array.from({ length: last + 2 }, (_, i) => {
      const target = slots.get(i);
      return target === undefined ? miss : targets.indexOf(target);
    }),
  );
  for (const [index, target] of targets.entries()) {
    writer.end();
    go(target);
    writer.br(targets.length - 1 - index);
  }
  writer.end();
}

/** Frames of the program that is gone to have to fit behind that of the function which makes the tail call. */
function requireFrames(translator: AccessWriter, frames: number, pc: number): void {
  const { writer } = translator.parts;
  translator
    .register(10)
    .i64(pointerTo(TAG_STACK + FRAME_LIMIT - frames + 1, 0))
    .op(Op.i64GeU)
    .if();
  translator.trap('depth', pc, () => writer.i64(0n), 0);
  writer.end();
}

// --- loops

/** bpf_loop: calls a function of the program until it says stop; r0 has how often it was called. */
function writeLoop(translator: AccessWriter, given: readonly AbstractValue[], pc: number): void {
  const { writer, registers, program, functions } = translator.parts;
  const target = functions.get(functionOf(given[1]) ?? -1);
  if (target === undefined) throw new TailraceError('compile', `program ${program.spec.name}, pc ${pc}: a callback was let through`);
  const count = writer.local(Type.i64);
  const r0 = registers[0] as number;
  translator.register(1).i64(BigInt(MAX_LOOPS)).op(Op.i64GtU).if().i64(E2BIG).set(r0).else();
  translator.register(4).i64(0n).op(Op.i64Ne).if().i64(EINVAL).set(r0).else();
  writer.i64(0n).set(count).block().loop();
  writer.get(count);
  translator.register(1).op(Op.i64GeU).brIf(1);
  translator.turn(pc);
  writer.get(count);
  translator.register(3).i64(0n).i64(0n).i64(0n);
  translator
    .register(10)
    .i64((1n << 32n) + BigInt(FRAME_SIZE))
    .op(Op.i64Add)
    .call(target);
  writer.get(count).i64(1n).op(Op.i64Add).set(count);
  writer.op(Op.i64Eqz).brIf(0).end().end();
  writer.get(count).set(r0).end().end();
}

/** bpf_for_each_map_elem: calls a function of the program with each entry until it says stop; r0 has how often it was called. */
function writeEach(translator: AccessWriter, given: readonly AbstractValue[], pc: number): void {
  const { writer, registers, context, program, functions } = translator.parts;
  const target = functions.get(functionOf(given[1]) ?? -1);
  const map = knownMap(translator, given[0] ?? ANY);
  if (target === undefined || map === undefined)
    throw new TailraceError('compile', `program ${program.spec.name}, pc ${pc}: a callback was let through`);
  const [count, cursor] = [writer.local(Type.i64), writer.local(Type.i32)];
  const r0 = registers[0] as number;
  const runtime = (name: string): number => context.module.functionNamed(name);
  const place = (): void => void writer.i32(context.worker).i32(map.address);
  place();
  translator.register(4).call(runtime('each_begin')).tee(r0).op(Op.i64Eqz).if();
  writer.i64(0n).set(count).i32(0).set(cursor).block().loop();
  place();
  writer.get(cursor).call(runtime('each_next')).tee(cursor).op(Op.i32Eqz).brIf(1);
  translator.turn(pc);
  writer.get(count).i64(1n).op(Op.i64Add).set(count);
  writer.i64(pointerTo(TAG_MAP, map.address)).i64(pointerTo(TAG_KEY, context.worker + WORKER_EACH_KEY));
  place();
  writer.get(cursor).call(runtime('each_value')).op(Op.extendU).i64(pointerTo(map.tag, 0)).op(Op.i64Or);
  translator.register(3).i64(0n);
  translator
    .register(10)
    .i64((1n << 32n) + BigInt(FRAME_SIZE))
    .op(Op.i64Add)
    .call(target);
  writer.op(Op.i64Eqz).brIf(0).end().end();
  writer.i32(context.worker).call(runtime('each_end')).get(count).set(r0).end();
}
