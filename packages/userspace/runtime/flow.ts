/**
 * The hash of a packet's flow: addresses, ports and protocol. Both directions have the same one, and it is never 0, as with
 * the kernel's; the kernel's has a secret besides, so its numbers are others.
 */
import { IPV4, IPV6 } from './ethertype';

const TCP = 6;
const UDP = 17;
const SCTP = 132;

/** Of `length` bytes at `data`; `protocol` is the EtherType in network order, `network` the network header's offset. */
export function flow_hash(data: usize, length: u32, network: u32, protocol: u32): u32 {
  const header = data + network;
  const left: u32 = network < length ? length - network : 0;
  if (protocol == IPV4 && left >= 20) {
    const next = load<u8>(header, 9);
    const isFragment = bswap<u16>(load<u16>(header, 6)) & 0x3fff;
    const size = <u32>(load<u8>(header) & 0xf) * 4;
    const ports = isFragment ? 0 : ports_at(header + size, left, size, next);
    const one = load<u32>(header, 12);
    const other = load<u32>(header, 16);
    return mixed(one, other, ports, next);
  }
  if (protocol == IPV6 && left >= 40) {
    const next = load<u8>(header, 6);
    const one = folded_address(header + 8);
    const other = folded_address(header + 24);
    return mixed(one, other, ports_at(header + 40, left, 40, next), next);
  }
  return mixed(0, 0, 0, protocol);
}

/** Source and destination port as they lie there; 0 where there are none. */
function ports_at(address: usize, left: u32, offset: u32, protocol: u32): u32 {
  if (protocol != TCP && protocol != UDP && protocol != SCTP) return 0;
  return offset >= 20 && offset + 4 <= left ? load<u32>(address) : 0;
}

function folded_address(address: usize): u32 {
  return scrambled(
    load<u32>(address) ^ scrambled(load<u32>(address, 4) ^ scrambled(load<u32>(address, 8) ^ scrambled(load<u32>(address, 12)))),
  );
}

function mixed(source: u32, destination: u32, ports: u32, protocol: u32): u32 {
  let one = source;
  let other = destination;
  let both = ports;
  if (one > other || (one == other && (both & 0xffff) > both >> 16)) {
    one = destination;
    other = source;
    both = rotl<u32>(ports, 16);
  }
  const hash = scrambled(one ^ scrambled(other ^ scrambled(both ^ scrambled(protocol + 0x9e3779b9))));
  return hash ? hash : 1;
}

/** A permutation of 32 bits in which every bit reaches every other (the finisher of MurmurHash3). */
function scrambled(value: u32): u32 {
  let mixed = value ^ (value >> 16);
  mixed *= 0x85ebca6b;
  mixed ^= mixed >> 13;
  mixed *= 0xc2b2ae35;
  return mixed ^ (mixed >> 16);
}
