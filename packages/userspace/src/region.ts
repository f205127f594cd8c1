/** Regions, as the interpreter checks them: the same rules as `runtime/region.ts`, written a second time. */
import {
  CONTEXT_MESSAGE,
  CONTEXT_SIZE,
  CONTEXT_SKB,
  CONTEXT_XDP,
  PACKET_CONTEXT,
  PACKET_DATA,
  PACKET_END,
  PACKET_META,
  REGION_BASE,
  REGION_COUNT,
  REGION_LENGTH,
  REGION_READ_ONLY,
  REGION_SIZE,
  REGION_STRIDE,
  REGION_TABLE,
  TAG_CONTEXT,
  TAG_MAPS,
  TAG_PACKET,
  WORKER_CONTEXT,
  WORKER_PACKET,
  WORKER_REGIONS,
} from './layout.ts';
import { addressOf, pointerTo, tagOf } from './pointer.ts';

/** By what the context is: how many bytes its pointer fields have, and where they are: `data`, `data_end`, `data_meta`. */
const POINTER_FIELDS: Readonly<Record<number, { readonly bytes: number; readonly at: readonly number[] }>> = {
  [CONTEXT_SKB]: { bytes: 4, at: [76, 80, 140] },
  [CONTEXT_XDP]: { bytes: 4, at: [0, 4, 8] },
  [CONTEXT_MESSAGE]: { bytes: 8, at: [0, 8] },
};
const NO_POINTERS = { bytes: 0, at: [] };
const FIELD_STATE = [PACKET_DATA, PACKET_END, PACKET_META] as const;

/** The pointer that a load of `bytes` gives where it meets a pointer field of the context; undefined where it does not. */
export function contextPointer(view: DataView, worker: number, pointer: bigint, bytes: number): bigint | undefined {
  if (tagOf(pointer) !== TAG_CONTEXT) return undefined;
  const fields = pointerFields(view, worker);
  if (bytes !== fields.bytes) return undefined;
  const state = FIELD_STATE[fields.at.indexOf(addressOf(pointer) - (worker + WORKER_CONTEXT))];
  if (state === undefined) return undefined;
  return pointerTo(TAG_PACKET, view.getUint32(worker + WORKER_PACKET + state, true));
}

/** Whether so many bytes may be read or written where a pointer points to. */
export function isInside(view: DataView, worker: number, pointer: bigint, bytes: number, isWrite: boolean): boolean {
  const address = addressOf(pointer);
  const element = elementAt(view, worker, tagOf(pointer), address, isWrite);
  if (element === undefined) return false;
  const [base, length] = element;
  if (address < base || address + bytes > base + length) return false;
  if (tagOf(pointer) !== TAG_CONTEXT) return true;
  const from = address - base;
  const fields = pointerFields(view, worker);
  return !isWrite && !fields.at.some((field) => from < field + fields.bytes && from + bytes > field);
}

/** First byte and length of the element that an address lies in. */
function elementAt(view: DataView, worker: number, tag: number, address: number, isWrite: boolean): readonly [number, number] | undefined {
  if (tag === TAG_CONTEXT) return [worker + WORKER_CONTEXT, CONTEXT_SIZE];
  if (tag === TAG_PACKET) {
    const meta = view.getUint32(worker + WORKER_PACKET + PACKET_META, true);
    return [meta, view.getUint32(worker + WORKER_PACKET + PACKET_END, true) - meta];
  }
  if (tag === 0 || tag >= 65_536) return undefined;
  const row = (tag < TAG_MAPS ? worker + WORKER_REGIONS : REGION_TABLE) + tag * REGION_SIZE;
  const field = (offset: number): number => view.getUint32(row + offset, true);
  const [base, length, stride, count] = [field(REGION_BASE), field(REGION_LENGTH), field(REGION_STRIDE), field(REGION_COUNT)];
  if (isWrite && (count & REGION_READ_ONLY) !== 0) return undefined;
  if (stride === 0) return [base, length];
  const element = Math.floor((address - base) / stride);
  if (address < base || element >= (count & ~REGION_READ_ONLY)) return undefined;
  return [base + element * stride, length];
}

function pointerFields(view: DataView, worker: number): { readonly bytes: number; readonly at: readonly number[] } {
  return POINTER_FIELDS[view.getUint32(worker + WORKER_PACKET + PACKET_CONTEXT, true)] ?? NO_POINTERS;
}
