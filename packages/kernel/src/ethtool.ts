/**
 * Offload switches of an interface, through the ethtool ioctl (include/uapi/linux/ethtool.h). Frames that XDP redirects
 * carry what the sender left to the card: TCP behind them needs the sender's transmit checksum offload switched off.
 */
import { ArgumentError } from '@tailrace/bpf';
import { Errno, SyscallError } from './errno.ts';
import { allocate } from './memory.ts';
import type { RouteSocket } from './netlink.ts';
import { trySyscall } from './syscall.ts';

const SIOCETHTOOL = 0x8946;

/** ETHTOOL_G* and ETHTOOL_S* of each switch. */
const commands = {
  rxChecksum: { get: 0x14, set: 0x15 },
  txChecksum: { get: 0x16, set: 0x17 },
  tso: { get: 0x1e, set: 0x1f },
  gso: { get: 0x23, set: 0x24 },
  gro: { get: 0x2b, set: 0x2c },
} as const;

/** ETHTOOL_GFLAGS, and the bits of its answer (ETH_FLAG_*). */
const getFlags = 0x25;
const flags = { rxVlan: 1 << 8, lro: 1 << 15 } as const;

/** The switches of an interface's offloads. */
export type Offload = keyof typeof commands;

/** Switches offloads on or off. Throws SyscallError (EOPNOTSUPP where the driver cannot), ArgumentError. */
export function setOffloads(socket: RouteSocket, name: string, offloads: Partial<Readonly<Record<Offload, boolean>>>): void {
  for (const offload of Object.keys(commands) as readonly Offload[]) {
    const on = offloads[offload];
    if (on !== undefined) ethtool(socket, name, commands[offload].set, on ? 1 : 0, `${offload} of ${name}`);
  }
}

/** Whether an offload is on. Throws SyscallError, ArgumentError. */
export function getOffload(socket: RouteSocket, name: string, offload: Offload): boolean {
  return ethtool(socket, name, commands[offload].get, 0, `${offload} of ${name}`) !== 0;
}

/**
 * Offloads that take from a packet what programs would see, or put several into one: whether the card takes VLAN tags out of
 * what comes in, and whether it merges segments. Throws SyscallError, ArgumentError.
 */
export function getReceiveOffloads(socket: RouteSocket, name: string): Readonly<Record<keyof typeof flags, boolean>> {
  const bits = ethtool(socket, name, getFlags, 0, `flags of ${name}`);
  return { rxVlan: (bits & flags.rxVlan) !== 0, lro: (bits & flags.lro) !== 0 };
}

function ethtool(socket: RouteSocket, name: string, command: number, data: number, about: string): number {
  // struct ethtool_value: cmd u32, data u32; struct ifreq: name[16], pointer.
  const value = allocate(8);
  value.view.setUint32(0, command, true);
  value.view.setUint32(4, data, true);
  const request = allocate(40);
  request.bytes.set(new TextEncoder().encode(name).subarray(0, 15));
  request.view.setBigUint64(16, BigInt(value.address), true);
  // A socket of any family passes this on to the interfaces of its namespace (net/socket.c, sock_do_ioctl).
  const result = trySyscall('ioctl', socket.fd, SIOCETHTOOL, request.address);
  if (result === -Errno.ENODEV) throw new ArgumentError(`there is no interface ${name}`);
  if (result < 0) throw new SyscallError('ioctl(SIOCETHTOOL)', -result, about);
  return value.view.getUint32(4, true);
}
