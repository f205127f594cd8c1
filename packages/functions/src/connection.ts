/** TCP connections as keys of maps. */
import { struct, u32, u64 } from '@tailrace/stage';

/** A connection as one of its sockets sees it. IPv4 addresses are as in `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2). */
export const connectionKey = struct({ localHi: u64, localLo: u64, remoteHi: u64, remoteLo: u64, localPort: u32, remotePort: u32 });
