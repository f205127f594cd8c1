/** Which flow a packet belongs to, as a number: what spreads packets over workers, so that one flow stays with one of them. */

const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const VLAN = 0x8100;
const [TCP, UDP] = [6, 17];
/** Fowler, Noll, Vo: FNV-1a of 32 bits. */
const PRIME = 0x0100_0193;
const BASIS = 0x811c_9dc5;

/** A hash of addresses, protocol and ports; of the Ethernet addresses where there are none. Pieces of packets go by addresses alone. */
export function flowHash(packet: Uint8Array): number {
  let at = 12;
  while (word(packet, at) === VLAN && at < 20) at += 4;
  const type = word(packet, at);
  const network = at + 2;
  if (type === IPV4 && packet.length >= network + 20) {
    const isPiece = (word(packet, network + 6) & 0x3fff) !== 0;
    const transport = network + ((packet[network] as number) & 15) * 4;
    return upper(packet, bytesHash(packet, network + 12, 8, BASIS), packet[network + 9] as number, isPiece ? packet.length : transport);
  }
  if (type === IPV6 && packet.length >= network + 40)
    return upper(packet, bytesHash(packet, network + 8, 32, BASIS), packet[network + 6] as number, network + 40);
  return bytesHash(packet, 0, 12, BASIS);
}

function upper(packet: Uint8Array, hash: number, protocol: number, transport: number): number {
  const withProtocol = mix(hash, protocol);
  const hasPorts = (protocol === TCP || protocol === UDP) && packet.length >= transport + 4;
  return hasPorts ? bytesHash(packet, transport, 4, withProtocol) : withProtocol;
}

function bytesHash(packet: Uint8Array, from: number, count: number, seed: number): number {
  let hash = seed;
  for (let at = from; at < from + count; at++) hash = mix(hash, packet[at] ?? 0);
  return hash;
}

function mix(hash: number, byte: number): number {
  return Math.imul(hash ^ byte, PRIME) >>> 0;
}

function word(packet: Uint8Array, at: number): number {
  return ((packet[at] ?? 0) << 8) | (packet[at + 1] ?? 0);
}
