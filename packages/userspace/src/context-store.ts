/**
 * Stores into the context by pointers whose place is not known before: a function for each size, which compares the place with
 * that of each field that programs of the type may write.
 */
import type { ProgramType } from '@tailrace/bpf';
import { contextFieldAt } from './context.ts';
import { CONTEXT_SIZE, TAG_CONTEXT, WORKER_CONTEXT } from './layout.ts';
import type { ModuleContext } from './module-context.ts';
import { pointerTo } from './pointer.ts';
import { FunctionWriter, MemoryOp, Op, Type } from './wasm-writer.ts';

const STORES: Readonly<Record<number, number>> = {
  1: MemoryOp.i64Store8,
  2: MemoryOp.i64Store16,
  4: MemoryOp.i64Store32,
  8: MemoryOp.i64Store,
};

/**
 * The number of the function (pointer i64, value i64) that stores so many bytes and answers 1, or 0 where no field takes them;
 * undefined where programs of the type have no such field at all.
 */
export function contextStore(context: ModuleContext, type: ProgramType, bytes: number): number | undefined {
  const key = `${type} ${bytes}`;
  const known = context.contextStores.get(key);
  if (known !== undefined) return known;
  const places = Array.from({ length: CONTEXT_SIZE }, (_, offset) => ({ offset, field: contextFieldAt(type, offset, bytes, true) }));
  const writer = new FunctionWriter([Type.i64, Type.i64], [Type.i32]);
  const start = context.worker + WORKER_CONTEXT;
  let isEmpty = true;
  for (const { offset, field } of places) {
    if (field === undefined || context.entry === 'memory') continue;
    isEmpty = false;
    writer
      .get(0)
      .i64(pointerTo(TAG_CONTEXT, start + offset))
      .op(Op.i64Eq)
      .if();
    writer.i32(0).get(1);
    // where the kernel's own field is shorter, the rest is not kept
    if (field.holds < field.size) writer.i64((1n << BigInt(8 * field.holds)) - 1n).op(Op.i64And);
    writer
      .memory(STORES[bytes] as number, start + offset)
      .i32(1)
      .op(Op.return)
      .end();
  }
  if (isEmpty) return undefined;
  const fn = context.module.add(writer.i32(0));
  context.contextStores.set(key, fn);
  return fn;
}
