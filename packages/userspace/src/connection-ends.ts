/** The ends of a connection as programs see them in their context. */
import { isIPv6 } from 'node:net';

/** What is known of a connection: a `net.Socket` has it. Addresses as text, those of IPv6 with a zone or not. */
export interface ConnectionEnds {
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
}

const AF_INET = 2;
const AF_INET6 = 10;
/** Offsets from that of the family on: struct __sk_buff, sk_msg_md and bpf_sock_ops have the same order. */
const REMOTE_IP4 = 4;
const LOCAL_IP4 = 8;
const REMOTE_IP6 = 12;
const LOCAL_IP6 = 28;
const REMOTE_PORT = 44;
const LOCAL_PORT = 48;

/** Writes a connection into a context that is zero: `family` is the address of that field. Sockets without addresses have family 0. */
export function writeEnds({ u8, view }: { readonly u8: Uint8Array; readonly view: DataView }, family: number, ends: ConnectionEnds): void {
  const { localAddress, localPort = 0, remoteAddress, remotePort = 0 } = ends;
  const known = localAddress ?? remoteAddress;
  if (known === undefined) return;
  const isSix = isIPv6(withoutZone(known));
  view.setUint32(family, isSix ? AF_INET6 : AF_INET, true);
  for (const [address, four, six] of [
    [remoteAddress, REMOTE_IP4, REMOTE_IP6],
    [localAddress, LOCAL_IP4, LOCAL_IP6],
  ] as const) {
    if (address === undefined) continue;
    const bytes = addressBytes(withoutZone(address));
    if (bytes.length === 16) u8.set(bytes, family + six);
    // an address of IPv4 that a socket of IPv6 has is in both places
    if (bytes.length === 4 || isMapped(bytes)) u8.set(bytes.subarray(-4), family + four);
  }
  // in network order, in the second half of its word
  view.setUint32(family + REMOTE_PORT, remotePort, false);
  view.setUint32(family + LOCAL_PORT, localPort, true);
}

/** The 4 or 16 bytes of an address in network order. */
export function addressBytes(text: string): Uint8Array {
  if (!text.includes(':')) return Uint8Array.from(text.split('.'), Number);
  const [head = '', tail] = text.split('::');
  const [front, back] = [wordsOf(head), wordsOf(tail ?? '')];
  const bytes = new Uint8Array(16);
  bytes.set(front);
  bytes.set(back, 16 - back.length);
  return bytes;
}

function wordsOf(part: string): readonly number[] {
  if (part === '') return [];
  return part.split(':').flatMap((word) => {
    if (word.includes('.')) return word.split('.').map(Number);
    const value = Number.parseInt(word, 16);
    return [value >>> 8, value & 0xff];
  });
}

function isMapped(bytes: Uint8Array): boolean {
  return bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
}

function withoutZone(address: string): string {
  return address.replace(/%.*$/, '');
}
