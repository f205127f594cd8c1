/**
 * ICMP and ICMPv6 messages from and to a namespace (raw(7)): what tests ping with. The kernel answers echo requests by
 * itself; this sees a copy of every message that comes in.
 */
import koffi from 'koffi';
import { Family, formatAddress, parseAddress } from './address.ts';
import { Descriptor } from './descriptor.ts';
import { Errno, SyscallError } from './errno.ts';
import { allocate, allocateCopy, type Memory } from './memory.ts';
import { inNamespace, type NetworkNamespace } from './netns.ts';
import { socketAddress } from './socket.ts';
import { closeFd, syscall, trySyscall } from './syscall.ts';

const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const protocols = { ipv4: 1, ipv6: 58 } as const;
const MESSAGE_BYTES = 65_536;
/** Where the address lies in struct sockaddr_in and sockaddr_in6, and its length. */
const sockaddr = { ipv4: { bytes: 16, at: 4, length: 4 }, ipv6: { bytes: 28, at: 8, length: 16 } } as const;

/** A message that came. */
export interface IcmpMessage {
  /** Who sent it. */
  readonly from: string;
  /** From the ICMP header on. */
  readonly bytes: Uint8Array;
}

/** Sends and receives messages of one family. It stays in the namespace it was opened in. */
export class IcmpSocket implements Disposable {
  readonly family: Family;
  readonly #descriptor: Descriptor;
  readonly #about: string;
  readonly #buffer: Memory;
  readonly #sender: Memory;

  /** Binds to `localAddress` where it is given. Throws SyscallError (EADDRNOTAVAIL), ArgumentError. */
  constructor(namespace: NetworkNamespace, family: Family, localAddress?: string) {
    this.family = family;
    this.#about = family === 'ipv4' ? 'ICMP messages' : 'ICMPv6 messages';
    this.#buffer = allocate(MESSAGE_BYTES);
    // The length of the address stands behind it.
    this.#sender = allocate(32);
    const fd = inNamespace(namespace, () => syscall('socket', this.#about, Family[family], SOCK_RAW_NONBLOCK_CLOEXEC, protocols[family]));
    try {
      if (localAddress !== undefined) {
        const local = socketAddress(parseAddress(localAddress), 0);
        syscall('bind', `${this.#about} from ${localAddress}`, fd, local.address, local.bytes.length);
      }
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    this.#descriptor = new Descriptor(fd, this.#about);
  }

  /** Sends a message, from its ICMP header on; of ICMPv6 the kernel fills in the checksum. Throws SyscallError, ArgumentError. */
  send(address: string, message: Uint8Array): void {
    const to = socketAddress(parseAddress(address), 0);
    const memory = allocateCopy(message);
    const about = `${this.#about} to ${address}`;
    syscall('sendto', about, this.#descriptor.fd, memory.address, message.length, 0, to.address, to.bytes.length);
  }

  /** The next message that came in; undefined where none waits. Throws SyscallError. */
  receive(): IcmpMessage | undefined {
    const { bytes, at, length: addressBytes } = sockaddr[this.family];
    this.#sender.view.setUint32(28, bytes, true);
    const { address } = this.#sender;
    const length = trySyscall('recvfrom', this.#descriptor.fd, this.#buffer.address, MESSAGE_BYTES, 0, address, address + 28);
    if (length === -Errno.EAGAIN) return undefined;
    if (length < 0) throw new SyscallError('recvfrom', -length, this.#about);
    // IPv4 comes with its header.
    const start = this.family === 'ipv4' ? ((this.#buffer.bytes[0] ?? 0) & 15) * 4 : 0;
    return { from: formatAddress(this.#sender.bytes.slice(at, at + addressBytes)), bytes: this.#buffer.bytes.slice(start, length) };
  }

  /** Calls `listener` whenever messages wait, until the returned subscription is closed; it keeps the event loop alive. */
  watch(listener: () => void): Disposable {
    const poll = koffi.node.poll(this.#descriptor.fd, { readable: true }, () => listener());
    let open = true;
    return {
      [Symbol.dispose]() {
        if (open) poll.close();
        open = false;
      },
    };
  }

  /** Watches are to be closed before. */
  close(): void {
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
