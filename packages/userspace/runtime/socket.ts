/**
 * Helpers of programs on sockets. Maps of sockets hold their numbers; where data go, and which sockets come into a map, is
 * left with the worker, and the engine acts on it once the program ends.
 */
import {
  ADDED_KEY,
  ADDED_LIMIT,
  ADDED_LIST,
  ADDED_SIZE,
  ANSWER_FLAGS,
  ANSWER_KEY,
  ANSWER_REDIRECT,
  ANSWER_TARGET,
  MAP_KEY_SIZE,
  MAP_PROGRAMS,
  MESSAGE_BYTES,
  PACKET_DATA,
  PACKET_END,
  PACKET_FLOOR,
  PACKET_META,
  REDIRECT_SOCKET,
  SOCKET_ADDED,
  SOCKET_APPLY,
  SOCKET_CORK,
  SOCKET_KEY,
  SOCKET_NUMBER,
  SOCKET_PROGRAMS,
  WORKER_ANSWER,
  WORKER_CONTEXT,
  WORKER_PACKET,
  WORKER_SCRATCH,
  WORKER_SOCKET,
} from '../src/layout';
import { EBUSY, EINVAL, ENOSPC, EOPNOTSUPP } from './errno';
import { map_entry, map_update } from './map';
import { packet_moved } from './packet';

/** enum sk_action */
const SK_DROP: i64 = 0;
const SK_PASS: i64 = 1;
/** BPF_F_INGRESS: to what the target's owner reads. */
const INGRESS: u64 = 1;

/** bpf_sk_redirect_map and bpf_msg_redirect_map. */
export function sk_redirect_map(worker: usize, map: usize, index: u64, flags: u64): i64 {
  const key = worker + WORKER_SCRATCH;
  store<u32>(key, <u32>index);
  return sk_redirect_hash(worker, map, key, flags);
}

/** bpf_sk_redirect_hash and bpf_msg_redirect_hash. Where there is nothing under the key, an earlier choice holds. */
export function sk_redirect_hash(worker: usize, map: usize, key: usize, flags: u64): i64 {
  if (flags & ~INGRESS) return SK_DROP;
  const entry = map_entry(map, key);
  if (!entry) return SK_DROP;
  const answer = worker + WORKER_ANSWER;
  store<u32>(answer, REDIRECT_SOCKET, ANSWER_REDIRECT);
  store<u32>(answer, <u32>map, ANSWER_TARGET);
  store<u64>(answer, load<u64>(entry), ANSWER_KEY);
  store<u64>(answer, flags, ANSWER_FLAGS);
  memory.copy(worker + WORKER_SOCKET + SOCKET_KEY, key, load<u32>(map, MAP_KEY_SIZE));
  return SK_PASS;
}

/** bpf_get_netns_cookie: a process is in one namespace, here the first. */
export function get_netns_cookie(_worker: usize): u64 {
  return 1;
}

/** bpf_msg_apply_bytes. */
export function msg_apply_bytes(worker: usize, bytes: u64): i64 {
  store<u32>(worker + WORKER_SOCKET, <u32>bytes, SOCKET_APPLY);
  return 0;
}

/** bpf_msg_cork_bytes. */
export function msg_cork_bytes(worker: usize, bytes: u64): i64 {
  store<u32>(worker + WORKER_SOCKET, <u32>bytes, SOCKET_CORK);
  return 0;
}

/** bpf_msg_pull_data: `data` and `data_end` are the bytes from `start` to `end` then. All of a message is in one piece. */
export function msg_pull_data(worker: usize, start: u64, end: u64, flags: u64): i64 {
  const packet = worker + WORKER_PACKET;
  const first = <u32>start;
  const last = <u32>end;
  if (flags || last <= first || last > load<u32>(worker + WORKER_CONTEXT, MESSAGE_BYTES)) return EINVAL;
  const from = load<u32>(packet, PACKET_FLOOR);
  store<u32>(packet, from + first, PACKET_META);
  store<u32>(packet, from + first, PACKET_DATA);
  store<u32>(packet, from + last, PACKET_END);
  packet_moved(worker);
  return 0;
}

/** bpf_sock_map_update and bpf_sock_hash_update: the event's socket comes under a key. */
export function sock_map_update(worker: usize, map: usize, key: usize, flags: u64): i64 {
  const socket = worker + WORKER_SOCKET;
  if (!load<u32>(socket, SOCKET_NUMBER)) return EOPNOTSUPP;
  const wanted = load<u32>(map, MAP_PROGRAMS);
  const given = load<u32>(socket, SOCKET_PROGRAMS);
  if (wanted & given) return EBUSY;
  const count = load<u32>(socket, SOCKET_ADDED);
  if (count == <u32>ADDED_LIMIT) return ENOSPC;
  const added = socket + ADDED_LIST + count * ADDED_SIZE;
  store<u64>(added, <u64>load<u32>(socket, SOCKET_NUMBER), 8);
  const result = map_update(map, key, added + 8, flags, 0);
  if (result < 0) return result;
  store<u32>(added, <u32>map);
  memory.copy(added + ADDED_KEY, key, load<u32>(map, MAP_KEY_SIZE));
  store<u32>(socket, count + 1, SOCKET_ADDED);
  store<u32>(socket, given | wanted, SOCKET_PROGRAMS);
  return 0;
}
