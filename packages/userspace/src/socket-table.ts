/** The sockets that this process has told of, by numbers that stand for them where the kernel has descriptors. */
import type { Duplex } from 'node:stream';
import { SocketTap } from './socket-tap.ts';

/** Behind all that descriptors can be: one of these is never taken for a socket's number. */
const FIRST = 0x8000_0000;
const taps = new Map<number, SocketTap>();
const known = new WeakMap<Duplex, SocketTap>();
let last = FIRST - 1;

/**
 * The number of a socket, for maps of sockets of every userspace engine in this process; it has one from the first call until it is
 * closed. A `net.Socket`, or a stream that is like one.
 */
export function socketNumber(socket: Duplex): number {
  return tapOf(socket).number;
}

/** A socket by its number; undefined where there is none, or it is closed. */
export function socketNumbered(number: number): Duplex | undefined {
  return taps.get(number)?.socket;
}

/** What stands before the socket with a number; undefined where there is none, or it is closed. */
export function tapAt(number: number): SocketTap | undefined {
  return taps.get(number);
}

/** What stands between a socket and its owner; made on the first call. */
export function tapOf(socket: Duplex): SocketTap {
  const there = known.get(socket);
  if (there) return there;
  last = last === 0xffff_ffff ? FIRST : last + 1;
  while (taps.has(last)) last += 1;
  const tap = new SocketTap(socket, last);
  known.set(socket, tap);
  if (socket.destroyed) return tap;
  taps.set(tap.number, tap);
  socket.once('close', () => taps.delete(tap.number));
  return tap;
}
