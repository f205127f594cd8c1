/** TCP connections as keys of maps: how programs of sockets make them. */
import { fn, struct, u32, u64 } from '@tailrace/stage';

/** A connection as one of its sockets sees it. IPv4 addresses are as in `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2). */
export const connectionKey = struct({ localHi: u64, localLo: u64, remoteHi: u64, remoteLo: u64, localPort: u32, remotePort: u32 });

/** The upper half of an address in such a key, by the socket's family. */
export const upperHalf = fn([u32, u64], u64, (family, hi) => (family === 10 ? hi : 0n));

/** The lower half. */
export const lowerHalf = fn([u32, u32, u64], u64, (family, addr, lo) => (family === 10 ? lo : 0xffff_0000_0000n | BigInt(addr)));
