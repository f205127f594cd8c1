/** Finds the name that a connection's first bytes ask for: the server name of TLS, or the host of HTTP. */
import { fn, stage, u8, u32 } from '@tailrace/stage';
import { lowerHalf, upperHalf } from '../connection.ts';
import { HEAD_BYTES, HeadBytes, routeMaps, State } from './stage.ts';

/** The byte at a place, and 16 bits in network order. */
const byteAt = fn([HeadBytes, u32], u8, { MASK: HEAD_BYTES - 1 }, (bytes, at, { MASK }) => bytes[at & MASK] as number);
const wordAt = fn([HeadBytes, u32], u32, { byteAt }, (bytes, at, { byteAt }) => byteAt(bytes, at) * 256 + byteAt(bytes, at + 1));

/** What a finder gives besides 256 times the place of a name and its length, 1..253: ask again with more bytes; there is none. */
const Found = { MORE: 0, NONE: 256, PLACE: 256, MOST: 253 } as const;

/**
 * The server name of a TLS ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3), where it is in the first record, among the
 * first 32 extensions, and within what is kept.
 */
const serverName = fn([HeadBytes, u32], u32, { Found, HEAD_BYTES, byteAt, wordAt }, (bytes, have, uses) => {
  const { Found, HEAD_BYTES, byteAt, wordAt } = uses;
  if (have < 6) return Found.MORE;
  if (byteAt(bytes, 5) !== 1) return Found.NONE;
  const end = Math.min(5 + wordAt(bytes, 3), HEAD_BYTES - 1);
  if (have < end) return Found.MORE;
  // behind the session's id, the cipher suites, the compression methods, and the length of all extensions
  let at = 44 + byteAt(bytes, 43);
  at += 2 + wordAt(bytes, at);
  at += 3 + byteAt(bytes, at);
  for (let i = 0; i < 32; i++) {
    if (at + 9 > end) return Found.NONE;
    if (wordAt(bytes, at) === 0) {
      const length = wordAt(bytes, at + 7);
      if (byteAt(bytes, at + 6) !== 0 || length === 0 || length > Found.MOST || at + 9 + length > end) return Found.NONE;
      return (at + 9) * Found.PLACE + length;
    }
    at += 4 + wordAt(bytes, at + 2);
  }
  return Found.NONE;
});

/** What of the last 8 bytes is the start of a field's line, in which bits its letters differ by case, and the end of all lines. */
const Line = { MASK: 0xff_ffff_ffff_ffffn, FOLD: 0x00_0020_2020_2000n, HOST: 0x0d_0a68_6f73_743an, END: 0x0d0a_0d0an } as const;
/** Bytes of a lap. A packet has 33 tail calls: so many laps are more than a head. */
const LAP = 160;

/**
 * Finds the name in TLS, in HTTP/1, or, as it is, in whichever of both it is: `findStage.with({ http: 0 })` has TLS alone. The host of
 * a request (RFC 9112, section 3.2) is searched for in laps, each by a tail call of its own.
 */
export const findStage = stage({
  name: 'find',
  hook: 'skSkb',
  uses: { ...routeMaps(1, 1), tls: 1, http: 1, State, HEAD_BYTES, LAP, Line, Found, byteAt, serverName, upperHalf, lowerHalf },
  program(ctx, { waiting, heads, tls, http, State, HEAD_BYTES, LAP, Line, Found, byteAt, serverName, upperHalf, lowerHalf }) {
    const localHi = upperHalf(ctx.family, ctx.localAddr6.hi);
    const localLo = lowerHalf(ctx.family, ctx.localAddr, ctx.localAddr6.lo);
    const remoteHi = upperHalf(ctx.family, ctx.remoteAddr6.hi);
    const remoteLo = lowerHalf(ctx.family, ctx.remoteAddr, ctx.remoteAddr6.lo);
    const connection = waiting.lookup({ localHi, localLo, remoteHi, remoteLo, localPort: ctx.localPort, remotePort: ctx.remotePort });
    if (!connection || connection.state !== State.more) return ctx.next();
    const head = heads.lookup(connection.head);
    const have = connection.have;
    if (!head || have === 0) return ctx.next();
    // until something else comes out
    if (have >= HEAD_BYTES - 1) connection.state = State.nameless;

    const first = byteAt(head.bytes, 0);
    if (tls === 1 && first === 22) {
      const found = serverName(head.bytes, have);
      if (found === Found.MORE) return ctx.next();
      connection.state = found === Found.NONE ? State.nameless : State.named;
      connection.start = found >>> 8;
      connection.length = found & 0xff;
      return ctx.next();
    }
    // a method is in capitals
    if (http === 0 || first < 65 || first > 90) {
      connection.state = State.nameless;
      return ctx.next();
    }

    const at = connection.at & (HEAD_BYTES - 1);
    let last = connection.last;
    let isFound = false;
    for (let i = 0; i < LAP; i++) {
      const byte = byteAt(head.bytes, at + i);
      last = (last << 8n) | BigInt(byte);
      if (byte === 58 && ((last & Line.MASK) | Line.FOLD) === Line.HOST) {
        connection.start = at + i + 1;
        isFound = true;
        break;
      }
      if (byte === 10 && (last & 0xffff_ffffn) === Line.END) {
        if (at + i < have) connection.state = State.nameless;
        return ctx.next();
      }
    }
    if (!isFound) {
      if (at + LAP >= have) return ctx.next();
      connection.at = at + LAP;
      connection.last = last;
      return ctx.exit('again');
    }

    // behind the bytes that have come are those of another connection
    if (connection.start > have) return ctx.next();
    let start = connection.start & (HEAD_BYTES - 1);
    for (let i = 0; i < 4; i++) {
      if (byteAt(head.bytes, start) !== 32 && byteAt(head.bytes, start) !== 9) break;
      start += 1;
    }
    for (let i = 0; i <= Found.MOST; i++) {
      if (start + i >= have) return ctx.next();
      const byte = byteAt(head.bytes, start + i);
      if (byte === 58 || byte === 13 || byte === 10 || byte === 32 || byte === 9) {
        connection.state = i === 0 ? State.nameless : State.named;
        connection.start = start;
        connection.length = i;
        return ctx.next();
      }
    }
    connection.state = State.nameless;
    return ctx.next();
  },
});

/** Where names are looked for: in TLS, in HTTP/1, or in whichever of both a connection begins with. */
export type By = 'sni' | 'host' | 'name';
/** What of `findStage` makes it so. */
export const WAYS = { sni: { tls: 1, http: 0 }, host: { tls: 0, http: 1 }, name: { tls: 1, http: 1 } } as const;
