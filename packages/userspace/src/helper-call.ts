/**
 * Calls of helpers as WebAssembly: arguments that are pointers are checked and become addresses, the runtime's function is
 * called, and what it answers becomes a pointer again. Tail calls and loops are control flow and are written here whole.
 */
import { ArgumentError, Helper, isMapOfMaps, type MapSpec, MapType, POISON_HELPER, UnsupportedError } from '@tailrace/bpf';
import { type AbstractValue, ANY } from './abstract-value.ts';
import type { AccessWriter } from './checked-access.ts';
import { type ArgumentKind, type HelperSpec, helperFor, type MemoryArgument } from './helper.ts';
import {
  FRAME_SIZE,
  MAP_KEY_SIZE,
  MAP_KIND,
  MAP_TAG,
  MAP_VALUE_SIZE,
  TAG_CONTEXT,
  TAG_FUNCTION,
  TAG_MAP,
  WORKER_CONTEXT,
  WORKER_CPU,
  WORKER_TAIL_CALLS,
} from './layout.ts';
import type { MapPlace } from './linked-program.ts';
import { pointerTo } from './pointer.ts';
import type { Access } from './provenance.ts';
import { TAIL_CALL_LIMIT } from './tail-call.ts';

import { MemoryOp, Op, Type } from './wasm-writer.ts';

/** Largest number of bytes that a helper may be given at once: beyond it nothing is inside of anything. */
const MAX_BYTES = 0x3fff_ffff;
/** BPF_MAX_LOOPS (kernel/bpf/verifier.c). */
const MAX_LOOPS = 8 * 1024 * 1024;
const E2BIG = -7n;
const EINVAL = -22n;

/** Writes the call of a helper at `pc`; r0 has its result. */
export function writeHelperCall(translator: AccessWriter, helper: number, pc: number): void {
  const { program, provenance } = translator.parts;
  const given = provenance.calls.get(pc) ?? [ANY, ANY, ANY, ANY, ANY];
  if (helper === POISON_HELPER) return translator.trap('poison', pc, () => translator.parts.writer.i64(0n), 0);
  if (helper === Helper.tail_call) return writeTailCall(translator, given, pc);
  if (helper === Helper.loop) return writeLoop(translator, given, pc);
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
    const { writer, registers, context } = this.#translator.parts;
    const map = this.#map;
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
    const first = this.#given[0];
    return this.#spec.args[0] === 'map' && first?.kind === 'map' && first.name !== undefined
      ? this.#translator.parts.program.maps.get(first.name)
      : undefined;
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
    const offset = this.#translator.addressOf(2, 0, 4, this.#pc, this.#argumentAccess(1, 4), false);
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
        return this.#mapBytes(place, MAP_KEY_SIZE, (spec) => spec.keySize, false);
      case 'value':
        return this.#mapBytes(place, MAP_VALUE_SIZE, (spec) => spec.valueSize, false);
      case 'outValue':
        return this.#mapBytes(place, MAP_VALUE_SIZE, (spec) => spec.valueSize, true);
      case 'lock':
        writer.get(this.#checked(place, 4, true));
        return;
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
        throw new UnsupportedError(`helper ${this.#spec.name} with a callback cannot be run in userspace`, {
          hint: 'run it in the kernel',
        });
      default:
        return this.#memory(place, kind);
    }
  }

  #mapArgument(given: AbstractValue, register: number): void {
    const translator = this.#translator;
    const { writer, program } = translator.parts;
    const { maps, name } = this.#spec;
    const place = given.kind === 'map' && given.name !== undefined ? program.maps.get(given.name) : undefined;
    if (place) {
      if (!maps.includes(place.spec.type))
        throw new ArgumentError(
          `program ${program.spec.name}, pc ${this.#pc}: bpf_${name} is given map ${place.spec.name} of type ${place.spec.type}`,
          {
            hint: `it takes ${maps.join(', ')}`,
          },
        );
      writer.i32(place.address);
      return;
    }
    // a map, and of a kind that the helper takes
    const kinds = maps.reduce((mask, type) => mask | (1 << MapType[type]), 0);
    const refuse = (): void => translator.trap('map', this.#pc, () => translator.register(register), 0);
    translator.register(register).i64(32n).op(Op.i64ShrU).i64(BigInt(TAG_MAP)).op(Op.i64Ne).if();
    refuse();
    writer.end();
    writer.i32(1);
    translator.register(register).op(Op.wrap).memory(MemoryOp.i32Load, MAP_KIND).op(Op.i32Shl).i32(kinds).op(Op.i32And, Op.i32Eqz).if();
    refuse();
    writer.end();
    translator.register(register).op(Op.wrap);
  }

  /** An argument of as many bytes as the map's keys or values have. */
  #mapBytes(place: number, field: number, sizeOf: (spec: MapSpec) => number, isWrite: boolean): void {
    const { writer } = this.#translator.parts;
    const spec = this.#mapSpec();
    if (spec) return void writer.get(this.#checked(place, sizeOf(spec), isWrite));
    this.#checkedDynamic(place, () => this.#translator.register(1).op(Op.wrap).memory(MemoryOp.i32Load, field), isWrite);
  }

  #memory(place: number, { memory, size }: MemoryArgument): void {
    const translator = this.#translator;
    const { writer } = translator.parts;
    const isWrite = memory === 'write';
    if (typeof size === 'number') return void writer.get(this.#checked(place, size, isWrite));
    const sizeRegister = size.argument + 1;
    const known = this.#given[size.argument] ?? ANY;
    if (known.kind === 'number' && known.constant !== undefined && known.constant > 0n && known.max <= MAX_BYTES)
      return void writer.get(this.#checked(place, known.max, isWrite));
    const bytes = (): void => void translator.register(sizeRegister).op(Op.wrap);
    // no bytes at all may be nowhere
    translator.register(sizeRegister).op(Op.i64Eqz).if(Type.i32).i32(0).else();
    translator.register(sizeRegister).i64(BigInt(MAX_BYTES)).op(Op.i64GtU).if();
    translator.trap(isWrite ? 'write' : 'read', this.#pc, () => translator.register(place + 1), bytes);
    writer.end();
    this.#checkedDynamic(place, bytes, isWrite);
    writer.end();
  }

  /** A local with the address of an argument of so many bytes. */
  #checked(place: number, bytes: number, isWrite: boolean): number {
    const { writer } = this.#translator.parts;
    const local = writer.local(Type.i32);
    const offset = this.#translator.addressOf(place + 1, 0, bytes, this.#pc, this.#argumentAccess(place, bytes), isWrite);
    if (offset !== 0) writer.i32(offset).op(Op.i32Add);
    writer.set(local);
    return local;
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
  #argumentAccess(place: number, bytes: number): Access {
    const value = this.#given[place] ?? ANY;
    const isProved =
      (value.kind === 'frame' && value.offset !== undefined && value.offset >= -FRAME_SIZE && value.offset + bytes <= 0) ||
      (value.kind === 'value' &&
        !value.maybeNull &&
        value.offset >= 0 &&
        value.offset + value.spread + bytes <= value.bytes &&
        value.spec.type !== 'ringBuffer');
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
  const place = array.kind === 'map' && array.name !== undefined ? program.maps.get(array.name) : undefined;
  if (place !== undefined && place.spec.type === 'programArray') return writeJump(translator, place, slot);
  // no array is known here: whichever of the program's it is
  const arrays = [...program.maps.values()].filter(({ spec }) => spec.type === 'programArray');
  for (const known of arrays) {
    translator.register(2).i64(pointerTo(TAG_MAP, known.address)).op(Op.i64Eq).if();
    writeJump(translator, known, slot);
    writer.else();
  }
  translator.trap('map', pc, () => translator.register(2), 0);
  for (const _ of arrays) writer.end();
}

function writeJump(translator: AccessWriter, { slots }: MapPlace, slot: AbstractValue): void {
  const { writer, context } = translator.parts;
  const go = (target: number): void => {
    if (context.countsTailCalls) {
      const counter = context.worker + WORKER_TAIL_CALLS;
      writer.i32(0).memory(MemoryOp.i32Load, counter).tee(translator.address).i32(TAIL_CALL_LIMIT).op(Op.i32LtU).if();
      writer.i32(0).get(translator.address).i32(1).op(Op.i32Add).memory(MemoryOp.i32Store, counter);
    }
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

// --- loops

/** bpf_loop: calls a function of the program until it says stop; r0 has how often it was called. */
function writeLoop(translator: AccessWriter, given: readonly AbstractValue[], pc: number): void {
  const { writer, registers, program, functions } = translator.parts;
  const callback = given[1];
  const start =
    callback?.kind === 'number' && callback.constant !== undefined && callback.constant >> 32n === BigInt(TAG_FUNCTION)
      ? Number(callback.constant & 0xffff_ffffn)
      : undefined;
  const target = start === undefined ? undefined : functions.get(start);
  if (target === undefined)
    throw new UnsupportedError(`program ${program.spec.name}, pc ${pc}: the function that is called back cannot be told before it runs`, {
      hint: 'pass a function to bpf_loop directly',
    });
  const count = writer.local(Type.i64);
  const r0 = registers[0] as number;
  translator.register(1).i64(BigInt(MAX_LOOPS)).op(Op.i64GtU).if().i64(E2BIG).set(r0).else();
  translator.register(4).i64(0n).op(Op.i64Ne).if().i64(EINVAL).set(r0).else();
  writer.i64(0n).set(count).block().loop();
  writer.get(count);
  translator.register(1).op(Op.i64GeU).brIf(1);
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
