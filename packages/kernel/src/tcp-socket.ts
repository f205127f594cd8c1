/** What the kernel tells of a TCP connection, and what it can be told. */
import { ArgumentError } from '@tailrace/bpf';
import { Descriptor } from './descriptor.ts';
import { Errno, SyscallError } from './errno.ts';
import { allocate } from './memory.ts';
import { syscall, trySyscall } from './syscall.ts';

const SOL_SOCKET = 1;
const SO_RCVLOWAT = 18;
const SO_PROTOCOL = 38;
const IPPROTO_TCP = 6;
/** SOL_TCP and TCP_INFO (include/uapi/linux/tcp.h). */
const SOL_TCP = 6;
const TCP_INFO = 11;
/** struct tcp_info up to tcpi_bytes_retrans, which Linux 4.19 has. */
const INFO_BYTES = 216;
const offset = { bytesAcked: 120, bytesReceived: 128, notSent: 144, bytesSent: 200, bytesRetransmitted: 208 } as const;

const info = (): ReturnType<typeof allocate> => {
  block ??= allocate(INFO_BYTES + 8);
  return block;
};
let block: ReturnType<typeof allocate> | undefined;

/** Whether a file descriptor is of a TCP socket. */
export function isTcp(fd: number): boolean {
  const memory = allocate(16);
  memory.view.setUint32(8, 4, true);
  const result = trySyscall('getsockopt', fd, SOL_SOCKET, SO_PROTOCOL, memory.address, memory.address + 8);
  return result === 0 && memory.view.getInt32(0, true) === IPPROTO_TCP;
}

/**
 * Bytes of a connection that were handed to TCP since it was made, sent or waiting, those of them that its peer has confirmed, and those that
 * have come from it, where its end counts as one more. Throws SyscallError.
 */
export function tcpProgress(fd: number): { readonly sent: bigint; readonly confirmed: bigint; readonly received: bigint } {
  const { view, address } = info();
  view.setUint32(INFO_BYTES, INFO_BYTES, true);
  syscall('getsockopt', 'TCP_INFO of a connection', fd, SOL_TCP, TCP_INFO, address, address + INFO_BYTES);
  const at = (from: number): bigint => view.getBigUint64(from, true);
  return {
    sent: at(offset.bytesSent) - at(offset.bytesRetransmitted) + BigInt(view.getUint32(offset.notSent, true)),
    confirmed: at(offset.bytesAcked),
    received: at(offset.bytesReceived),
  };
}

/** TCP_CLOSE (include/net/tcp_states.h). */
const TCP_CLOSE = 7;

/** Whether a connection is over on both sides: its peer has broken it, unless both have ended it. Throws SyscallError. */
export function isTcpClosed(fd: number): boolean {
  const { view, address } = info();
  view.setUint32(INFO_BYTES, 1, true);
  syscall('getsockopt', 'TCP_INFO of a connection', fd, SOL_TCP, TCP_INFO, address, address + INFO_BYTES);
  return view.getUint8(0) === TCP_CLOSE;
}

/** SIOCINQ (include/uapi/linux/sockios.h). */
const SIOCINQ = 0x541b;

/** Bytes that have come to a connection and wait to be read, at a socket that is in no map. Throws SyscallError. */
export function tcpUnread(fd: number): number {
  const { view, address } = allocate(8);
  syscall('ioctl', 'SIOCINQ of a connection', fd, SIOCINQ, address);
  return view.getInt32(0, true);
}

/** From how many bytes on a socket counts as readable. The kernel looks at what is queued when it is told. Throws SyscallError, ArgumentError. */
export function setReceiveLowWater(fd: number, bytes: number): void {
  if (!Number.isInteger(bytes) || bytes < 1 || bytes > 0x7fff_ffff)
    throw new ArgumentError(`a low-water mark is 1 byte or more, got ${bytes}`);
  const memory = allocate(8);
  memory.view.setInt32(0, bytes, true);
  syscall('setsockopt', 'SO_RCVLOWAT of a connection', fd, SOL_SOCKET, SO_RCVLOWAT, memory.address, 4);
}

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** Bytes that are moved at a time: they stay in the CPU's cache between the two copies. */
const MOVE_BYTES = 262_144;
let moving: ReturnType<typeof allocate> | undefined;

/**
 * Moves bytes that wait at one connection to another, as many as fit a buffer. `rest` are those of them that the other did not take, a copy:
 * all of them where it is broken, which it says again when it is written to. `moved` counts them too, and is 0 where nothing waits, at the
 * end too. Throws SyscallError where the first one is broken.
 */
export function moveBytes(from: number, to: number): { readonly moved: number; readonly rest?: Uint8Array } {
  const { bytes, address, length: moved } = received(from);
  if (moved === 0) return { moved };
  const taken = trySyscall('sendto', to, address, moved, MSG_DONTWAIT | MSG_NOSIGNAL);
  return taken === moved ? { moved } : { moved, rest: bytes.slice(Math.max(taken, 0), moved) };
}

/**
 * Bytes that wait at a connection, as many as fit a buffer, a copy; undefined where none waits. Reading until there are none leaves no
 * segment that is read in part. Throws SyscallError.
 */
export function readBytes(fd: number): Uint8Array | undefined {
  const { bytes, length } = received(fd);
  return length > 0 ? bytes.slice(0, length) : undefined;
}

/** What waits at a connection, in the buffer; of no length where nothing does, at the end too. Throws SyscallError. */
function received(fd: number): { readonly bytes: Uint8Array; readonly address: number; readonly length: number } {
  moving ??= allocate(MOVE_BYTES);
  const result = trySyscall('recvfrom', fd, moving.address, MOVE_BYTES, MSG_DONTWAIT);
  if (result < 0 && result !== -Errno.EAGAIN && result !== -Errno.EINTR) throw new SyscallError('recvfrom', -result, 'a connection');
  return { bytes: moving.bytes, address: moving.address, length: Math.max(result, 0) };
}

/** F_DUPFD_CLOEXEC (include/uapi/linux/fcntl.h). */
const F_DUPFD_CLOEXEC = 1030;

/** A second descriptor of a connection: it stays open for reading whatever becomes of the first. */
export class ReadingEnd implements Disposable {
  readonly #descriptor: Descriptor;

  /** Throws SyscallError. */
  constructor(fd: number) {
    this.#descriptor = new Descriptor(syscall('fcntl', 'a connection', fd, F_DUPFD_CLOEXEC, 0), 'a connection');
  }

  /** The bytes that are there, a copy; undefined where there are none now, at the end too. Throws SyscallError. */
  read(): Uint8Array | undefined {
    return readBytes(this.#descriptor.fd);
  }

  [Symbol.dispose](): void {
    this.#descriptor.close();
  }
}
