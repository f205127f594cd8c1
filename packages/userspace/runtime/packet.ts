/**
 * The packet of a worker: where it starts and ends, and whatever follows from that. Everything that moves an end of it comes
 * here afterwards, so that its region and the context's length agree with it.
 */
import {
  CONTEXT_SKB,
  PACKET_CEILING,
  PACKET_CONTEXT,
  PACKET_DATA,
  PACKET_END,
  PACKET_FLOOR,
  PACKET_META,
  REGION_BASE,
  REGION_COUNT,
  REGION_LENGTH,
  REGION_SIZE,
  REGION_STRIDE,
  SKB_LEN,
  TAG_PACKET,
  WORKER_CONTEXT,
  WORKER_PACKET,
  WORKER_REGIONS,
} from '../src/layout';

/** Address of the packet's first byte. */
export function packet_data(worker: usize): usize {
  return load<u32>(worker + WORKER_PACKET, PACKET_DATA);
}

/** Address behind the packet's last byte. */
export function packet_end(worker: usize): usize {
  return load<u32>(worker + WORKER_PACKET, PACKET_END);
}

/** The packet's bytes, metadata not counted. */
export function packet_length(worker: usize): u32 {
  return <u32>(packet_end(worker) - packet_data(worker));
}

/** Whether so many bytes from `offset` on are inside the packet. */
export function packet_holds(worker: usize, offset: u32, bytes: u32): bool {
  return <u64>offset + <u64>bytes <= <u64>packet_length(worker);
}

/** Brings the packet's region, and the length in an skb's context, in step with its ends. */
export function packet_moved(worker: usize): void {
  const packet = worker + WORKER_PACKET;
  const meta = load<u32>(packet, PACKET_META);
  const end = load<u32>(packet, PACKET_END);
  const region = worker + WORKER_REGIONS + TAG_PACKET * REGION_SIZE;
  store<u32>(region, meta, REGION_BASE);
  store<u32>(region, end - meta, REGION_LENGTH);
  store<u32>(region, 0, REGION_STRIDE);
  store<u32>(region, 1, REGION_COUNT);
  if (load<u32>(packet, PACKET_CONTEXT) == CONTEXT_SKB) store<u32>(worker + WORKER_CONTEXT, end - load<u32>(packet, PACKET_DATA), SKB_LEN);
}

/**
 * Sees to so many free bytes in front of the packet and behind it; shifts it in its room where one side has too few, as the
 * kernel takes new memory for an skb. Metadata go with it. False where the room is too small for that.
 */
export function packet_make_room(worker: usize, front: u32, back: u32): bool {
  const packet = worker + WORKER_PACKET;
  const floor = load<u32>(packet, PACKET_FLOOR);
  const ceiling = load<u32>(packet, PACKET_CEILING);
  const meta = load<u32>(packet, PACKET_META);
  const end = load<u32>(packet, PACKET_END);
  const isFront = <u64>floor + front <= <u64>meta;
  if (isFront && <u64>end + back <= <u64>ceiling) return true;
  const used = end - meta;
  if (<u64>used + front + back > <u64>(ceiling - floor)) return false;
  // as far from the side that is short of room as what it asks for
  const start = isFront ? ceiling - back - used : floor + front;
  memory.copy(start, meta, used);
  store<u32>(packet, start, PACKET_META);
  store<u32>(packet, start + (load<u32>(packet, PACKET_DATA) - meta), PACKET_DATA);
  store<u32>(packet, start + used, PACKET_END);
  return true;
}

/** Moves the packet's start to another address, with the metadata in front of it. */
export function packet_start_at(worker: usize, data: usize): void {
  const packet = worker + WORKER_PACKET;
  const meta = load<u32>(packet, PACKET_META);
  const bytes = load<u32>(packet, PACKET_DATA) - meta;
  if (bytes) memory.copy(data - bytes, meta, bytes);
  store<u32>(packet, <u32>data - bytes, PACKET_META);
  store<u32>(packet, <u32>data, PACKET_DATA);
  packet_moved(worker);
}
