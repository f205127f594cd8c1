/** An skb as it comes in: everything beside its bytes, whose place the packet's state has already. */
import {
  ANSWER_SIZE,
  CONTEXT_SIZE,
  CONTEXT_SKB,
  INCOMING_CB,
  INCOMING_GSO_SEGMENTS,
  INCOMING_GSO_SIZE,
  INCOMING_INDEX,
  INCOMING_INGRESS_INDEX,
  INCOMING_MARK,
  INCOMING_PRIORITY,
  INCOMING_QUEUE,
  PACKET_CONTEXT,
  PACKET_ENCAPSULATED,
  PACKET_HASHED,
  PACKET_NETWORK,
  PACKET_OF_SOCKET,
  PACKET_SUM,
  PACKET_SUM_LEVEL,
  PACKET_SUM_STATE,
  SKB_CB,
  SKB_GSO_SEGMENTS,
  SKB_GSO_SIZE,
  SKB_INDEX,
  SKB_INGRESS_INDEX,
  SKB_LEN,
  SKB_MARK,
  SKB_PACKET_TYPE,
  SKB_PRIORITY,
  SKB_PROTOCOL,
  SKB_QUEUE,
  SKB_WIRE_LENGTH,
  SUM_NONE,
  TUNNEL_NONE,
  WORKER_ANSWER,
  WORKER_CONTEXT,
  WORKER_PACKET,
  WORKER_TUNNEL_KEY,
  WORKER_TUNNEL_KEY_SET,
} from '../src/layout';
import { IEEE_802_2, IEEE_802_3 } from './ethertype';
import { packet_data, packet_length } from './packet';

/** ETH_HLEN: where the network header starts. */
const ETHERNET: u32 = 14;
const LOOPBACK: u32 = 1;
/** Packet types as the kernel numbers them: for us, for all, for some, for others. */
const FOR_US: u32 = 0;
const FOR_ALL: u32 = 1;
const FOR_SOME: u32 = 2;
const FOR_OTHERS: u32 = 3;

/** Clears what an earlier packet left and fills in the context. `incoming` is the address of INCOMING_*; 0: nothing is known. */
export function skb_enter(worker: usize, incoming: usize): void {
  const packet = worker + WORKER_PACKET;
  const context = worker + WORKER_CONTEXT;
  clear(context, CONTEXT_SIZE);
  clear(worker + WORKER_ANSWER, ANSWER_SIZE);
  clear(worker + WORKER_TUNNEL_KEY, WORKER_TUNNEL_KEY_SET - WORKER_TUNNEL_KEY);
  store<u32>(worker + WORKER_TUNNEL_KEY_SET, TUNNEL_NONE);
  store<u32>(packet, CONTEXT_SKB, PACKET_CONTEXT);
  store<u32>(packet, ETHERNET, PACKET_NETWORK);
  store<u32>(packet, 0, PACKET_ENCAPSULATED);
  store<u32>(packet, SUM_NONE, PACKET_SUM_STATE);
  store<u32>(packet, 0, PACKET_SUM);
  store<u32>(packet, 0, PACKET_SUM_LEVEL);
  store<u32>(packet, 0, PACKET_HASHED);
  store<u32>(packet, 0, PACKET_OF_SOCKET);
  const data = packet_data(worker);
  const length = packet_length(worker);
  store<u32>(context, length, SKB_LEN);
  store<u32>(context, length, SKB_WIRE_LENGTH);
  store<u32>(context, packet_type(data), SKB_PACKET_TYPE);
  store<u32>(context, protocol(data, length), SKB_PROTOCOL);
  store<u32>(context, LOOPBACK, SKB_INDEX);
  if (incoming) describe(context, incoming);
}

function describe(context: usize, incoming: usize): void {
  const index = load<u32>(incoming, INCOMING_INDEX);
  store<u32>(context, load<u32>(incoming, INCOMING_MARK), SKB_MARK);
  store<u32>(context, load<u32>(incoming, INCOMING_PRIORITY), SKB_PRIORITY);
  store<u32>(context, load<u32>(incoming, INCOMING_QUEUE), SKB_QUEUE);
  if (index) store<u32>(context, index, SKB_INDEX);
  store<u32>(context, load<u32>(incoming, INCOMING_INGRESS_INDEX), SKB_INGRESS_INDEX);
  store<u32>(context, load<u32>(incoming, INCOMING_GSO_SEGMENTS), SKB_GSO_SEGMENTS);
  store<u32>(context, load<u32>(incoming, INCOMING_GSO_SIZE), SKB_GSO_SIZE);
  for (let at: usize = 0; at < 20; at += 4) store<u32>(context + at, load<u32>(incoming + at, INCOMING_CB), SKB_CB);
}

/** Zeros, a multiple of 16 bytes: shorter than what a call of memory.fill takes. */
function clear(from: usize, bytes: usize): void {
  for (let at = from; at < from + bytes; at += 16) {
    store<u64>(at, 0);
    store<u64>(at, 0, 8);
  }
}

/** As the loopback device takes it, whose address is all zeros. */
function packet_type(data: usize): u32 {
  const first = load<u32>(data);
  const rest = <u32>load<u16>(data, 4);
  if (first == 0xffffffff && rest == 0xffff) return FOR_ALL;
  if (first & 1) return FOR_SOME;
  return first | rest ? FOR_OTHERS : FOR_US;
}

/** skb->protocol: the EtherType, or what stands for frames that have a length in its place (eth_type_trans). */
function protocol(data: usize, length: u32): u32 {
  const type = load<u16>(data, 12);
  if (bswap<u16>(type) >= 0x600) return type;
  return length >= 16 && load<u16>(data, 14) == 0xffff ? IEEE_802_3 : IEEE_802_2;
}
