/** Helpers that choose where a packet goes. They leave their choice with the worker; the engine acts on it once the program ends. */
import {
  ANSWER_CLONE_LIMIT,
  ANSWER_CLONE_TARGETS,
  ANSWER_CLONES,
  ANSWER_FLAGS,
  ANSWER_KEY,
  ANSWER_KIND,
  ANSWER_NEXT_HOP,
  ANSWER_NEXT_HOP_SIZE,
  ANSWER_REDIRECT,
  ANSWER_TARGET,
  CONTEXT_XDP,
  KIND_NEIGHBOUR,
  KIND_PEER,
  KIND_REDIRECT,
  MAP_KIND,
  NETWORK_LINKS,
  PACKET_CONTEXT,
  REDIRECT_INTERFACE,
  REDIRECT_MAP,
  REDIRECT_NONE,
  SHARED,
  WORKER_ANSWER,
  WORKER_CPU,
  WORKER_PACKET,
} from '../src/layout';
import { EINVAL } from './errno';
import { map_lookup } from './map';
import { link_at } from './network';

const XDP_ABORTED: i64 = 0;
const XDP_REDIRECT: i64 = 4;
const TC_ACT_SHOT: i64 = 2;
const TC_ACT_REDIRECT: i64 = 7;
const INGRESS: u64 = 1;
const BROADCAST: u64 = 8;
const EXCLUDE_INGRESS: u64 = 16;
/** XDP_ABORTED to XDP_TX: what a lookup that finds nothing answers. */
const ACTIONS: u64 = 3;
/** sizeof(struct bpf_redir_neigh). */
const NEXT_HOP_BYTES: u32 = 20;
const DEVMAP = 14;
const DEVMAP_HASH = 25;

/** bpf_redirect, at XDP and at TC. */
export function redirect(worker: usize, ifindex: u64, flags: u64): i64 {
  if (load<u32>(worker + WORKER_PACKET, PACKET_CONTEXT) == CONTEXT_XDP) {
    if (flags) return XDP_ABORTED;
    choose(worker, REDIRECT_INTERFACE, <u32>ifindex, KIND_REDIRECT, flags);
    return XDP_REDIRECT;
  }
  if (flags & ~INGRESS) return TC_ACT_SHOT;
  choose(worker, REDIRECT_INTERFACE, <u32>ifindex, KIND_REDIRECT, flags);
  return TC_ACT_REDIRECT;
}

/** bpf_redirect_peer. */
export function redirect_peer(worker: usize, ifindex: u64, flags: u64): i64 {
  if (flags) return TC_ACT_SHOT;
  choose(worker, REDIRECT_INTERFACE, <u32>ifindex, KIND_PEER, flags);
  return TC_ACT_REDIRECT;
}

/** bpf_redirect_neigh. */
export function redirect_neigh(worker: usize, ifindex: u64, nextHop: usize, size: u64, flags: u64): i64 {
  const bytes = <u32>size;
  if (flags || (bytes && bytes < NEXT_HOP_BYTES)) return TC_ACT_SHOT;
  choose(worker, REDIRECT_INTERFACE, <u32>ifindex, KIND_NEIGHBOUR, flags);
  if (bytes) {
    store<u32>(worker + WORKER_ANSWER, NEXT_HOP_BYTES, ANSWER_NEXT_HOP_SIZE);
    memory.copy(worker + WORKER_ANSWER + ANSWER_NEXT_HOP, nextHop, NEXT_HOP_BYTES);
  }
  return TC_ACT_REDIRECT;
}

/** bpf_redirect_map: device, CPU and AF_XDP maps. Where the key has nothing, the low bits of `flags` are the answer. */
export function redirect_map(worker: usize, map: usize, key: u64, flags: u64): i64 {
  const kind = load<u32>(map, MAP_KIND);
  const known = kind == DEVMAP || kind == DEVMAP_HASH ? ACTIONS | BROADCAST | EXCLUDE_INGRESS : ACTIONS;
  if (flags & ~known) return XDP_ABORTED;
  const answer = worker + WORKER_ANSWER;
  choose(worker, REDIRECT_MAP, <u32>map, KIND_REDIRECT, flags & BROADCAST ? flags : 0);
  // the lookup's key is the low half of the answer's
  store<u64>(answer, <u64>(<u32>key), ANSWER_KEY);
  if (flags & BROADCAST || map_lookup(map, answer + ANSWER_KEY, load<u32>(worker + WORKER_CPU))) return XDP_REDIRECT;
  choose(worker, REDIRECT_NONE, 0, KIND_REDIRECT, 0);
  return <i64>(flags & ACTIONS);
}

/** bpf_clone_redirect. Where the engine's links are known, one that is none of them is refused. */
export function clone_redirect(worker: usize, ifindex: u64, flags: u64): i64 {
  const index = <u32>ifindex;
  if (flags & ~INGRESS || index == 0) return EINVAL;
  if (load<u32>(SHARED + NETWORK_LINKS) && !link_at(index)) return EINVAL;
  const answer = worker + WORKER_ANSWER;
  const copies = load<u32>(answer, ANSWER_CLONES);
  if (copies < <u32>ANSWER_CLONE_LIMIT) {
    store<u32>(answer + ANSWER_CLONE_TARGETS + copies * 8, index);
    store<u32>(answer + ANSWER_CLONE_TARGETS + copies * 8, <u32>flags, 4);
  }
  store<u32>(answer, copies + 1, ANSWER_CLONES);
  return 0;
}

function choose(worker: usize, what: u32, target: u32, kind: u32, flags: u64): void {
  const answer = worker + WORKER_ANSWER;
  store<u32>(answer, what, ANSWER_REDIRECT);
  store<u32>(answer, target, ANSWER_TARGET);
  store<u64>(answer, 0, ANSWER_KEY);
  store<u64>(answer, flags, ANSWER_FLAGS);
  store<u32>(answer, kind, ANSWER_KIND);
  store<u32>(answer, 0, ANSWER_NEXT_HOP_SIZE);
}
