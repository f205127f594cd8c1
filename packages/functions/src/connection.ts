/** TCP connections as keys of maps: how programs of sockets make them, and how this process does. */
import type { Socket } from 'node:net';
import { fn, ipv6, struct, u32, u64 } from '@tailrace/stage';
import { formatAddress, parseIp } from './address.ts';

const connection = { localHi: u64, localLo: u64, remoteHi: u64, remoteLo: u64, localPort: u32, remotePort: u32 } as const;

/** A connection as one of its sockets sees it. IPv4 addresses are as in `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2). */
export const connectionKey = struct(connection);

/** The same among sockets of many namespaces, whose connections can be alike but for that. */
export const hostConnectionKey = struct({ netns: u64, ...connection });

/** The upper half of an address in such a key, by the socket's family. */
export const upperHalf = fn([u32, u64], u64, (family, hi) => (family === 10 ? hi : 0n));

/** The lower half. */
export const lowerHalf = fn([u32, u32, u64], u64, (family, addr, lo) => (family === 10 ? lo : 0xffff_0000_0000n | BigInt(addr)));

/** The key of a connection of this process. */
export function connectionKeyOf(socket: Socket) {
  const { localAddress = '', remoteAddress = '', localPort = 0, remotePort = 0 } = socket;
  const [local, remote] = [halves(localAddress), halves(remoteAddress)];
  return { localHi: local.hi, localLo: local.lo, remoteHi: remote.hi, remoteLo: remote.lo, localPort, remotePort };
}

function halves(text: string): { readonly hi: bigint; readonly lo: bigint } {
  // a zone tells which link a link-local address is on
  const address = parseIp(text.replace(/%.*$/, ''));
  return address.family === 4 ? ipv6(`::ffff:${formatAddress(address)}`) : address.value;
}
