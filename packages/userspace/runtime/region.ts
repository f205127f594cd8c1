/**
 * Regions: what a pointer may touch. The tag in a pointer's upper half names its region; an access is inside one element of
 * it, at both ends, or it is none. Programs whose accesses were proved never come here.
 */
import {
  CONTEXT_EVENT,
  CONTEXT_MESSAGE,
  CONTEXT_SIZE,
  CONTEXT_SKB,
  CONTEXT_XDP,
  HEAP,
  MAP_DESCRIPTOR_SIZE,
  MAP_KIND,
  MAP_TABLE,
  MAP_TAG,
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
  TAG_MAP,
  TAG_MAPS,
  TAG_PACKET,
  WORKER_CONTEXT,
  WORKER_PACKET,
  WORKER_REGIONS,
} from '../src/layout';

/** The address that a pointer means, or 0 where so many bytes must not be read (or written) there. */
export function region_address(worker: usize, pointer: u64, bytes: u32, write: i32): usize {
  const tag = <u32>(pointer >> 32);
  const address = <u32>pointer;
  let base: u32, length: u32;
  if (tag == TAG_PACKET) {
    base = load<u32>(worker + WORKER_PACKET + PACKET_META);
    length = load<u32>(worker + WORKER_PACKET + PACKET_END) - base;
  } else if (tag == TAG_CONTEXT) {
    // what programs may write there has a place that is known, and so have pointers
    if (write || meets_pointer_field(worker, address - (<u32>worker + WORKER_CONTEXT), bytes)) return 0;
    base = <u32>worker + WORKER_CONTEXT;
    length = CONTEXT_SIZE;
  } else {
    if (tag == 0 || tag >= 65536) return 0;
    const row: usize = (tag < <u32>TAG_MAPS ? worker + WORKER_REGIONS : REGION_TABLE) + tag * REGION_SIZE;
    base = load<u32>(row, REGION_BASE);
    length = load<u32>(row, REGION_LENGTH);
    const stride = load<u32>(row, REGION_STRIDE);
    const count = load<u32>(row, REGION_COUNT);
    if (write && count & REGION_READ_ONLY) return 0;
    if (stride) {
      const from = address - base;
      const element = from / stride;
      if (address < base || element >= (count & ~REGION_READ_ONLY)) return 0;
      base += element * stride;
    }
  }
  const from = address - base;
  return <u64>from + bytes > <u64>length ? 0 : <usize>address;
}

/**
 * What a load of four bytes (of struct sk_msg_md: eight) through any pointer gives where it meets a pointer field of the
 * context: that pointer. 0 where it meets something else.
 */
export function context_pointer(worker: usize, pointer: u64, bytes: u32): u64 {
  const kind = load<u32>(worker + WORKER_PACKET + PACKET_CONTEXT);
  if (<u32>(pointer >> 32) != TAG_CONTEXT || kind == CONTEXT_EVENT || bytes != <u32>(kind == CONTEXT_MESSAGE ? 8 : 4)) return 0;
  const offset = <u32>pointer - (<u32>worker + WORKER_CONTEXT);
  let field: usize;
  if (kind == CONTEXT_MESSAGE) {
    if (offset != 0 && offset != 8) return 0;
    field = offset == 0 ? PACKET_DATA : PACKET_END;
  } else if (kind == CONTEXT_XDP) {
    if (offset > 8 || offset & 3) return 0;
    field = offset == 0 ? PACKET_DATA : offset == 4 ? PACKET_END : PACKET_META;
  } else {
    if (offset != 76 && offset != 80 && offset != 140) return 0;
    field = offset == 76 ? PACKET_DATA : offset == 80 ? PACKET_END : PACKET_META;
  }
  return ((<u64>TAG_PACKET) << 32) | <u64>load<u32>(worker + WORKER_PACKET + field);
}

/** `data`, `data_end` and `data_meta`: 0 to 11 of struct xdp_md, 76 to 83 and 140 to 143 of struct __sk_buff, 0 to 15 of struct sk_msg_md. */
function meets_pointer_field(worker: usize, offset: u32, bytes: u32): bool {
  const kind = load<u32>(worker + WORKER_PACKET + PACKET_CONTEXT);
  if (kind == CONTEXT_EVENT) return false;
  if (kind != CONTEXT_SKB) return offset < <u32>(kind == CONTEXT_MESSAGE ? 16 : 12);
  return (offset < 84 && offset + bytes > 76) || (offset < 144 && offset + bytes > 140);
}

/**
 * The address of the descriptor that a pointer means, or 0 where it is none of a map of these kinds (a bit each, by enum
 * bpf_map_type). Programs can make such pointers up: only what the table of maps knows is one.
 */
export function map_address(pointer: u64, kinds: u32): usize {
  const address = <u32>pointer;
  if (<u32>(pointer >> 32) != TAG_MAP || address < <u32>HEAP) return 0;
  if (<u64>address + MAP_DESCRIPTOR_SIZE > (<u64>memory.size()) << 16) return 0;
  const tag = load<u32>(address, MAP_TAG);
  if (tag < <u32>TAG_MAPS || tag >= 65536 || load<u32>(MAP_TABLE + tag * 4) != address) return 0;
  return kinds & (1 << load<u32>(address, MAP_KIND)) ? address : 0;
}

/** The tag of what a lookup in a map answers: of its values, or of maps where those are its values. */
export function result_tag(map: usize): u32 {
  const kind = load<u32>(map, MAP_KIND);
  return kind == ARRAY_OF_MAPS || kind == HASH_OF_MAPS ? TAG_MAP : load<u32>(map, MAP_TAG);
}

const ARRAY_OF_MAPS = 12;
const HASH_OF_MAPS = 13;
