/**
 * Raw frames on one interface (packet(7)): what tests send and look at. It sees frames as the network stack does, behind
 * XDP; what a sender left to the card (checksums, segments) is not done in them. The outer VLAN tag, which the kernel has
 * taken out by then, is put back where it was.
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
const PACKET_AUXDATA = 8;
const PACKET_VNET_HDR = 15;
const PACKET_IGNORE_OUTGOING = 23;
/** struct virtio_net_hdr (include/uapi/linux/virtio_net.h), and where the length of the headers lies in it. */
const VNET_HDR = { bytes: 10, headerLength: 2 } as const;
const ETH_P_ALL = 3;
/** The largest frame that an interface hands over at once (GSO_LEGACY_MAX_SIZE) with its Ethernet header. */
const FRAME_BYTES = 65_536 + 14;
/** struct msghdr: control's address and length lie at 32 and 40. */
const MSGHDR_BYTES = 56;
/** struct cmsghdr with struct tpacket_auxdata (include/uapi/linux/if_packet.h), from byte 16 on. */
const AUXDATA = { bytes: 40, status: 16, vlanTci: 32, vlanTpid: 34 } as const;
const TP_STATUS_VLAN_VALID = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID = 1 << 6;
/** What announces a tag where the kernel does not say. */
const ETH_P_8021Q = 0x8100;
/** The two addresses of a frame, behind which its tag lies. */
const ADDRESS_BYTES = 12;

/** How a packet socket listens. */
export interface PacketSocketOptions {
  /** Also gives the frames that this machine sends out of the interface, other than through this socket; default false. */
  readonly outgoing?: boolean;
}

/** Sends and receives whole Ethernet frames. It stays in the namespace it was opened in. */
export class PacketSocket implements Disposable {
  readonly #descriptor: Descriptor;
  readonly #buffer: Memory;
  readonly #control: Memory;
  /** struct msghdr and the one struct iovec it names. */
  readonly #message: Memory;
  readonly #about: string;

  /** Opens one on an interface. Throws SyscallError, ArgumentError where there is no such interface. */
  constructor(namespace: NetworkNamespace, interfaceName: string, { outgoing = false }: PacketSocketOptions = {}) {
    this.#about = `frames on ${interfaceName}`;
    using route = new RouteSocket(namespace);
    const { index } = requireInterface(route, interfaceName);
    // Protocol 0 receives nothing until it is bound to the interface.
    const fd = inNamespace(namespace, () => syscall('socket', this.#about, AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, 0));
    try {
      const one = allocate(4);
      one.view.setInt32(0, 1, true);
      syscall('setsockopt', this.#about, fd, SOL_PACKET, PACKET_AUXDATA, one.address, 4);
      if (!outgoing) syscall('setsockopt', this.#about, fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, one.address, 4);
      // struct sockaddr_ll: family u16, protocol be16, ifindex s32, hardware type u16, packet type u8, length u8, address[8].
      const address = allocate(20);
      address.view.setUint16(0, AF_PACKET, true);
      address.view.setUint16(2, ETH_P_ALL, false);
      address.view.setInt32(4, index, true);
      syscall('bind', this.#about, fd, address.address, address.bytes.length);
      this.#buffer = allocate(FRAME_BYTES);
      this.#control = allocate(AUXDATA.bytes);
      this.#message = allocate(MSGHDR_BYTES + 16);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    this.#descriptor = new Descriptor(fd, this.#about);
  }

  /**
   * Sends a frame. Of one that is longer than a page only the first `linear` bytes, at least 14, lie where programs of TC can
   * read them at once, as with cards that split headers from data; default all. Throws SyscallError (EMSGSIZE beyond the MTU,
   * ENETDOWN).
   */
  send(frame: Uint8Array, { linear = 0 }: { readonly linear?: number } = {}): void {
    const header = linear === 0 ? 0 : VNET_HDR.bytes;
    const memory = allocate(header + frame.length);
    memory.bytes.set(frame, header);
    if (header > 0) memory.view.setUint16(VNET_HDR.headerLength, linear, true);
    if (header > 0) this.#takeHeader(true);
    try {
      syscall('sendto', this.#about, this.#descriptor.fd, memory.address, memory.bytes.length, 0, 0, 0);
    } finally {
      if (header > 0) this.#takeHeader(false);
    }
  }

  #takeHeader(on: boolean): void {
    const value = allocate(4);
    value.view.setInt32(0, on ? 1 : 0, true);
    syscall('setsockopt', this.#about, this.#descriptor.fd, SOL_PACKET, PACKET_VNET_HDR, value.address, 4);
  }

  /** The next frame that came in; undefined where none waits. Throws SyscallError. */
  receive(): Uint8Array | undefined {
    const { view, address } = this.#message;
    view.setBigUint64(16, BigInt(address + MSGHDR_BYTES), true);
    view.setBigUint64(24, 1n, true);
    view.setBigUint64(32, BigInt(this.#control.address), true);
    view.setBigUint64(40, BigInt(AUXDATA.bytes), true);
    view.setBigUint64(MSGHDR_BYTES, BigInt(this.#buffer.address), true);
    view.setBigUint64(MSGHDR_BYTES + 8, BigInt(this.#buffer.bytes.length), true);
    const length = trySyscall('recvmsg', this.#descriptor.fd, address, 0);
    if (length === -Errno.EAGAIN) return undefined;
    if (length < 0) throw new SyscallError('recvmsg', -length, this.#about);
    const tag = view.getBigUint64(40, true) > 0n ? this.#tag() : new Uint8Array();
    const frame = new Uint8Array(length + tag.length);
    frame.set(this.#buffer.bytes.subarray(0, ADDRESS_BYTES));
    frame.set(tag, ADDRESS_BYTES);
    frame.set(this.#buffer.bytes.subarray(ADDRESS_BYTES, length), ADDRESS_BYTES + tag.length);
    return frame;
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

  /** The tag that the kernel took out of the frame, as it lay there; no bytes without one. */
  #tag(): Uint8Array {
    const { view } = this.#control;
    const status = view.getUint32(AUXDATA.status, true);
    if ((status & TP_STATUS_VLAN_VALID) === 0) return new Uint8Array();
    const tpid = status & TP_STATUS_VLAN_TPID_VALID ? view.getUint16(AUXDATA.vlanTpid, true) : ETH_P_8021Q;
    const tci = view.getUint16(AUXDATA.vlanTci, true);
    return Uint8Array.of(tpid >>> 8, tpid & 0xff, tci >>> 8, tci & 0xff);
  }

  /** Watches are to be closed before. */
  close(): void {
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
