/**
 * Raw frames on one interface (packet(7)): what tests send and look at. It sees frames as the network stack does, behind
 * XDP; what a sender left to the card (checksums, segments) is not done in them.
 */
import koffi from 'koffi';
import { Descriptor } from './descriptor.ts';
import { Errno, SyscallError } from './errno.ts';
import { requireInterface } from './interface.ts';
import { allocate, type Memory } from './memory.ts';
import { RouteSocket } from './netlink.ts';
import { inNamespace, type NetworkNamespace } from './netns.ts';
import { closeFd, syscall, trySyscall } from './syscall.ts';

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const SOL_PACKET = 263;
const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_ALL = 3;
/** The largest frame that an interface hands over at once (GSO_LEGACY_MAX_SIZE) with its Ethernet header. */
const FRAME_BYTES = 65_536 + 14;

/** How a packet socket listens. */
export interface PacketSocketOptions {
  /** Also gives the frames that this machine sends out of the interface, other than through this socket; default false. */
  readonly outgoing?: boolean;
}

/** Sends and receives whole Ethernet frames. It stays in the namespace it was opened in. */
export class PacketSocket implements Disposable {
  readonly #descriptor: Descriptor;
  readonly #buffer: Memory;
  readonly #about: string;

  /** Opens one on an interface. Throws SyscallError, ArgumentError where there is no such interface. */
  constructor(namespace: NetworkNamespace, interfaceName: string, { outgoing = false }: PacketSocketOptions = {}) {
    this.#about = `frames on ${interfaceName}`;
    using route = new RouteSocket(namespace);
    const { index } = requireInterface(route, interfaceName);
    // Protocol 0 receives nothing until it is bound to the interface.
    const fd = inNamespace(namespace, () => syscall('socket', this.#about, AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, 0));
    try {
      if (!outgoing) {
        const one = allocate(4);
        one.view.setInt32(0, 1, true);
        syscall('setsockopt', this.#about, fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, one.address, 4);
      }
      // struct sockaddr_ll: family u16, protocol be16, ifindex s32, hardware type u16, packet type u8, length u8, address[8].
      const address = allocate(20);
      address.view.setUint16(0, AF_PACKET, true);
      address.view.setUint16(2, ETH_P_ALL, false);
      address.view.setInt32(4, index, true);
      syscall('bind', this.#about, fd, address.address, address.bytes.length);
      this.#buffer = allocate(FRAME_BYTES);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    this.#descriptor = new Descriptor(fd, this.#about);
  }

  /** Sends a frame. Throws SyscallError (EMSGSIZE beyond the MTU, ENETDOWN). */
  send(frame: Uint8Array): void {
    const memory = allocate(frame.length);
    memory.bytes.set(frame);
    syscall('sendto', this.#about, this.#descriptor.fd, memory.address, frame.length, 0, 0, 0);
  }

  /** The next frame that came in; undefined where none waits. Throws SyscallError. */
  receive(): Uint8Array | undefined {
    const length = trySyscall('recvfrom', this.#descriptor.fd, this.#buffer.address, this.#buffer.bytes.length, 0, 0, 0);
    if (length === -Errno.EAGAIN) return undefined;
    if (length < 0) throw new SyscallError('recvfrom', -length, this.#about);
    return this.#buffer.bytes.slice(0, length);
  }

  /** Calls `listener` whenever frames wait, until the returned subscription is closed; it keeps the event loop alive. */
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
