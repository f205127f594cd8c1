/**
 * Calls of helpers as the interpreter makes them: the same table and the same functions of the runtime, arguments checked one
 * by one.
 */
import { Helper, MapType, POISON_HELPER, TailraceError } from '@tailrace/bpf';
import { type ArgumentKind, type HelperSpec, helperFor } from './helper.ts';
import {
  MAP_KEY_SIZE,
  MAP_KIND,
  MAP_TAG,
  MAP_VALUE_SIZE,
  TAG_CONTEXT,
  TAG_KEY,
  TAG_MAP,
  WORKER_CONTEXT,
  WORKER_CPU,
  WORKER_EACH_KEY,
} from './layout.ts';
import type { LinkedProgram } from './linked-program.ts';
import { addressOf, pointerTo } from './pointer.ts';
import { isInside } from './region.ts';
import type { TrapReason } from './trap.ts';
import type { WorkerContext } from './worker-context.ts';

/** Largest number of bytes that a helper may be given at once. */
const MAX_BYTES = 0x3fff_ffffn;
/** BPF_MAX_LOOPS (kernel/bpf/verifier.c). */
const MAX_LOOPS = 8n * 1024n * 1024n;

/** One call. */
export interface HelperCallRequest {
  readonly program: LinkedProgram;
  readonly helper: number;
  /** r1 to r5. */
  readonly given: readonly bigint[];
  readonly trap: (reason: TrapReason, pointer: bigint, bytes: number) => never;
  /** Calls a function of the program, by the slot where it starts. */
  readonly callback: (start: number, given: readonly bigint[]) => bigint;
}

type RuntimeFunction = (...args: readonly (number | bigint)[]) => number | bigint | undefined;

/** Makes calls for one worker. */
export class HelperCaller {
  readonly #context: WorkerContext;

  constructor(context: WorkerContext) {
    this.#context = context;
  }

  /** Calls a helper; gives r0. */
  call(request: HelperCallRequest): bigint {
    const { helper, program, given } = request;
    if (helper === Helper.loop) return this.#loop(request);
    if (helper === Helper.for_each_map_elem) return this.#each(request);
    if (helper === POISON_HELPER) request.trap('poison', 0n, 0);
    const spec = helperFor(helper, program.spec.type);
    const { worker } = this.#context;
    const args: (number | bigint)[] = spec.takesWorker || spec.result === 'record' ? [worker] : [];
    for (const [place, kind] of spec.args.entries()) {
      const argument = this.#argument(request, spec, place, kind);
      if (argument !== undefined) args.push(argument);
    }
    for (const constant of spec.trailing) args.push(constant === 'cpu' ? this.#field(worker + WORKER_CPU) : constant);
    const name = spec.result === 'record' ? 'record_reserve' : (spec.export ?? spec.name);
    const runtime = this.#context.memory.runtime as unknown as Readonly<Record<string, RuntimeFunction>>;
    const result = (runtime[name] as RuntimeFunction)(...args);
    switch (spec.result) {
      case 'void':
        return 0n;
      case 'value':
        return this.#valuePointer(addressOf(given[0] ?? 0n), Number(result) >>> 0);
      case 'held':
        return result === 1 ? 0n : request.trap('lock', given[0] ?? 0n, 4);
      default:
        return BigInt.asUintN(64, BigInt(result ?? 0));
    }
  }

  #field(address: number): number {
    return this.#context.memory.view.getUint32(address, true);
  }

  #valuePointer(map: number, address: number): bigint {
    if (address === 0) return 0n;
    const kind = this.#field(map + MAP_KIND);
    const isMap = kind === MapType.arrayOfMaps || kind === MapType.hashOfMaps;
    return pointerTo(isMap ? TAG_MAP : this.#field(map + MAP_TAG), address);
  }

  #argument({ program, given, trap }: HelperCallRequest, spec: HelperSpec, place: number, kind: ArgumentKind): number | bigint | undefined {
    const value = given[place] ?? 0n;
    const { memory, worker } = this.#context;
    const checked = (bytes: number, isWrite: boolean): number => {
      if (!isInside(memory.view, worker, value, bytes, isWrite)) trap(isWrite ? 'write' : 'read', value, bytes);
      return addressOf(value);
    };
    switch (kind) {
      case 'scalar':
      case 'text':
        return value;
      case 'context':
        if (value !== pointerTo(TAG_CONTEXT, worker + WORKER_CONTEXT)) trap('context', value, 0);
        return undefined;
      case 'map': {
        const kinds = spec.maps.reduce((mask, type) => mask | (1 << MapType[type]), 0);
        const address = memory.runtime.map_address(value, kinds) >>> 0;
        if (address === 0) trap('map', value, 0);
        return address;
      }
      case 'key':
        return checked(this.#field(addressOf(given[spec.args.indexOf('map')] ?? 0n) + MAP_KEY_SIZE), false);
      case 'value':
      case 'outValue':
        return checked(this.#field(addressOf(given[0] ?? 0n) + MAP_VALUE_SIZE), kind === 'outValue');
      case 'lock': {
        const address = checked(4, true);
        if (address % 4 !== 0) trap('alignment', value, 4);
        return address;
      }
      case 'record': {
        const address = memory.runtime.record_close(worker, value) >>> 0;
        if (address === 0) trap('record', value, 0);
        return address;
      }
      case 'function':
        throw new TailraceError('compile', `program ${program.spec.name}: bpf_${spec.name} was let through`);
      default: {
        const isWrite = kind.memory === 'write';
        if (typeof kind.size === 'number') return checked(kind.size, isWrite);
        const size = given[kind.size.argument] ?? 0n;
        if (size === 0n) return 0;
        if (size > MAX_BYTES) trap(isWrite ? 'write' : 'read', value, Number(BigInt.asUintN(32, size)));
        return checked(Number(size), isWrite);
      }
    }
  }

  /** bpf_loop: how often the function was called, at most as often as was asked for. */
  #loop({ given, callback }: HelperCallRequest): bigint {
    const [times = 0n, fn = 0n, context = 0n, flags = 0n] = given;
    if (times > MAX_LOOPS) return BigInt.asUintN(64, -7n);
    if (flags !== 0n) return BigInt.asUintN(64, -22n);
    for (let turn = 0n; turn < times; turn++) if (callback(addressOf(fn), [turn, context]) !== 0n) return turn + 1n;
    return times;
  }

  /** bpf_for_each_map_elem: how often the function was called. */
  #each({ given, callback }: HelperCallRequest): bigint {
    const [mapPointer = 0n, fn = 0n, context = 0n, flags = 0n] = given;
    const { memory, worker } = this.#context;
    const { runtime } = memory;
    const map = addressOf(mapPointer);
    const begun = runtime.each_begin(worker, map, flags);
    if (begun !== 0n) return BigInt.asUintN(64, begun);
    let count = 0n;
    for (let cursor = runtime.each_next(worker, map, 0); cursor !== 0; cursor = runtime.each_next(worker, map, cursor)) {
      count++;
      const value = this.#valuePointer(map, runtime.each_value(worker, map, cursor) >>> 0);
      if (callback(addressOf(fn), [mapPointer, pointerTo(TAG_KEY, worker + WORKER_EACH_KEY), value, context]) !== 0n) break;
    }
    runtime.each_end(worker);
    return count;
  }
}
