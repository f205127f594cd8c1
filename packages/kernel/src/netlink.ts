/**
 * Netlink messages and attributes as bytes, and a route socket to exchange them over (Documentation/userspace-api/
 * netlink, include/uapi/linux/netlink.h). Integers are in host order, which is little-endian; addresses are network
 * order bytes. The kernel answers a route request before sendto returns, so exchanges are synchronous.
 */
import { type ErrorOptions, TailraceError } from '@tailrace/bpf';
import { cString } from './bpf.ts';
import { Descriptor } from './descriptor.ts';
import { Errno, errnoName, errnoText, SyscallError } from './errno.ts';
import { allocate, type Memory } from './memory.ts';
import { inNamespace, type NetworkNamespace } from './netns.ts';
import { closeFd, syscall, trySyscall } from './syscall.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const MSG_DONTWAIT = 0x40;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
/** The error message carries the request's header only, then attributes. */
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;
const NLA_TYPE_MASK = 0x3fff;
const headerBytes = 16;

/** The parts of the kernel that are spoken to: NETLINK_ROUTE and NETLINK_GENERIC. */
export const NetlinkProtocol = { route: 0, generic: 16 } as const;

/** Flags of a request. */
export const NetlinkFlag = {
  request: 0x1,
  ack: 0x4,
  /** NLM_F_ROOT | NLM_F_MATCH: all objects of a kind. */
  dump: 0x300,
  replace: 0x100,
  /** Fail with EEXIST where it is there already. */
  exclusive: 0x200,
  create: 0x400,
} as const;

/** An rtnetlink request failed. */
export class NetlinkError extends TailraceError {
  /** What was asked for, e.g. `create veth pair a, b`. */
  readonly request: string;
  /** The errno number, positive. */
  readonly errno: number;
  /** The errno's name, e.g. `EEXIST`. */
  readonly errnoName: string;
  /** The kernel's own explanation (its extended acknowledgement), where it gave one. */
  readonly kernelMessage: string | undefined;

  constructor(request: string, errno: number, kernelMessage?: string, options?: ErrorOptions) {
    const said = kernelMessage === undefined ? '' : ` (the kernel says: ${kernelMessage})`;
    super('netlink', `${request} failed: ${errnoName(errno)}, ${errnoText(errno)}${said}`, options);
    this.request = request;
    this.errno = errno;
    this.errnoName = errnoName(errno);
    this.kernelMessage = kernelMessage;
  }
}

/** An attribute to write: its type and its bytes, a text (NUL is added), a u32, or attributes nested in it. */
export type Attribute = readonly [type: number, value: Uint8Array | string | number | readonly Attribute[]];

/** One message as received. */
export interface NetlinkMessage {
  readonly type: number;
  readonly payload: Uint8Array;
}

/** Encodes a request's payload: the fixed header of its kind, then attributes. */
export function encodePayload(header: Uint8Array, attributes: readonly Attribute[]): Uint8Array {
  return join([header, ...attributes.map(encodeAttribute)]);
}

/** Attributes by type; where one occurs twice the later counts. Damaged ends are left out. */
export function decodeAttributes(bytes: Uint8Array): Map<number, Uint8Array> {
  const result = new Map<number, Uint8Array>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) break;
    result.set(view.getUint16(at + 2, true) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + length));
    at += align4(length);
  }
  return result;
}

/** A 4-byte attribute's value; undefined for one that is absent or shorter. */
export function attributeU32(bytes: Uint8Array | undefined): number | undefined {
  if (!bytes || bytes.length < 4) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}

/** A text attribute's value. */
export function attributeText(bytes: Uint8Array | undefined): string | undefined {
  return bytes && cString(bytes);
}

/** A netlink socket, to NETLINK_ROUTE unless said otherwise. It stays in the namespace it was opened in, whichever thread uses it later. */
export class RouteSocket implements Disposable {
  readonly #descriptor: Descriptor;
  readonly #buffer: Memory;
  #sequence = 0;

  /** Opens a socket in `namespace` (undefined: the thread's own). Throws SyscallError. */
  constructor(namespace?: NetworkNamespace, protocol: keyof typeof NetlinkProtocol = 'route') {
    const open = () => syscall('socket', 'netlink', AF_NETLINK, SOCK_RAW_CLOEXEC, NetlinkProtocol[protocol]);
    const fd = namespace ? inNamespace(namespace, open) : open();
    try {
      setOption(fd, NETLINK_EXT_ACK, 1);
      setOption(fd, NETLINK_GET_STRICT_CHK, 1);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    this.#descriptor = new Descriptor(fd, 'netlink socket');
    this.#buffer = allocate(64 * 1024);
  }

  get fd(): number {
    return this.#descriptor.fd;
  }

  /** Sends a request and awaits its acknowledgement. `what` is the request in words. Throws NetlinkError. */
  request(what: string, type: number, flags: number, payload: Uint8Array): void {
    this.#exchange(what, type, flags | NetlinkFlag.ack, payload);
  }

  /** Asks for one object and returns its message. Throws NetlinkError. */
  get(what: string, type: number, payload: Uint8Array): NetlinkMessage[] {
    return this.#exchange(what, type, NetlinkFlag.ack, payload);
  }

  /** Asks for all objects of a kind and returns their messages. Throws NetlinkError. */
  dump(what: string, type: number, payload: Uint8Array): NetlinkMessage[] {
    return this.#exchange(what, type, NetlinkFlag.dump, payload);
  }

  /** Joins a multicast group (RTNLGRP_*). Throws SyscallError. */
  subscribe(group: number): void {
    // struct sockaddr_nl: a socket without a port of its own gets no multicast of the kernel, whose port is 0 as well.
    const local = allocate(12);
    local.view.setUint16(0, AF_NETLINK, true);
    syscall('bind', 'netlink', this.fd, local.address, 12);
    setOption(this.fd, NETLINK_ADD_MEMBERSHIP, group);
  }

  /**
   * Messages that have arrived, without waiting; `lost` where the kernel dropped some for want of room (ENOBUFS), so
   * that the reader has to ask for everything again.
   */
  receive(): { readonly messages: readonly NetlinkMessage[]; readonly lost: boolean } {
    const messages: NetlinkMessage[] = [];
    let lost = false;
    for (;;) {
      const length = trySyscall('recvfrom', this.fd, this.#buffer.address, this.#buffer.bytes.length, MSG_DONTWAIT);
      if (length === -Errno.EAGAIN) return { messages, lost };
      if (length === -Errno.EINTR) continue;
      if (length === -Errno.ENOBUFS) lost = true;
      else if (length < 0) throw new SyscallError('recvfrom', -length, 'netlink');
      else for (const { type, payload } of this.#split(length)) messages.push({ type, payload });
    }
  }

  close(): void {
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #exchange(what: string, type: number, flags: number, payload: Uint8Array): NetlinkMessage[] {
    this.#sequence += 1;
    const sequence = this.#sequence;
    const message = allocate(headerBytes + payload.length);
    message.view.setUint32(0, message.bytes.length, true);
    message.view.setUint16(4, type, true);
    message.view.setUint16(6, flags | NetlinkFlag.request, true);
    message.view.setUint32(8, sequence, true);
    message.bytes.set(payload, headerBytes);
    const { fd } = this;
    const sent = trySyscall('sendto', fd, message.address, message.bytes.length);
    if (sent !== message.bytes.length) throw new NetlinkError(what, sent < 0 ? -sent : Errno.ENOBUFS);
    const answers: NetlinkMessage[] = [];
    for (;;) {
      const length = trySyscall('recvfrom', fd, this.#buffer.address, this.#buffer.bytes.length, MSG_DONTWAIT);
      if (length === -Errno.EINTR) continue;
      if (length < 0) {
        this.#drain();
        throw new NetlinkError(what, -length);
      }
      for (const answer of this.#split(length)) {
        // Left from an exchange that broke off.
        if (answer.sequence !== sequence) continue;
        if (answer.type === NLMSG_ERROR || answer.type === NLMSG_DONE) {
          checkStatus(what, answer);
          return answers;
        }
        answers.push({ type: answer.type, payload: answer.payload });
      }
    }
  }

  /** Reads what is left of an exchange that broke off: until a dump is at its end, the kernel refuses the next with EBUSY. */
  #drain(): void {
    let length: number;
    do length = trySyscall('recvfrom', this.fd, this.#buffer.address, this.#buffer.bytes.length, MSG_DONTWAIT);
    while (length > 0 || length === -Errno.EINTR || length === -Errno.ENOBUFS);
  }

  /** The messages in the buffer's first `length` bytes, copied. */
  *#split(length: number): Generator<ReceivedMessage> {
    const bytes = this.#buffer.bytes.slice(0, length);
    const view = new DataView(bytes.buffer);
    for (let at = 0; at + headerBytes <= length; ) {
      const size = view.getUint32(at, true);
      if (size < headerBytes || at + size > length) return;
      yield {
        type: view.getUint16(at + 4, true),
        flags: view.getUint16(at + 6, true),
        sequence: view.getUint32(at + 8, true),
        payload: bytes.subarray(at + headerBytes, at + size),
      };
      at += align4(size);
    }
  }
}

interface ReceivedMessage extends NetlinkMessage {
  readonly flags: number;
  readonly sequence: number;
}

/** NLMSG_ERROR and NLMSG_DONE start with a negated errno; zero is success. */
function checkStatus(what: string, { type, flags, payload }: ReceivedMessage): void {
  if (payload.length < 4) return;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const errno = -view.getInt32(0, true);
  if (errno === 0) return;
  let kernelMessage: string | undefined;
  if (flags & NLM_F_ACK_TLVS) {
    // struct nlmsgerr: the errno, the request's header, and its payload unless that was cut off.
    const request = type === NLMSG_DONE ? 0 : flags & NLM_F_CAPPED ? headerBytes : align4(view.getUint32(4, true));
    kernelMessage = attributeText(decodeAttributes(payload.subarray(4 + request)).get(NLMSGERR_ATTR_MSG));
  }
  throw new NetlinkError(what, errno, kernelMessage);
}

function setOption(fd: number, option: number, value: number): void {
  const memory = allocate(4);
  memory.view.setInt32(0, value, true);
  syscall('setsockopt', 'netlink', fd, SOL_NETLINK, option, memory.address, 4);
}

function encodeAttribute([type, value]: Attribute): Uint8Array {
  const payload = attributeBytes(value);
  const bytes = new Uint8Array(align4(4 + payload.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + payload.length, true);
  view.setUint16(2, type, true);
  bytes.set(payload, 4);
  return bytes;
}

function attributeBytes(value: Attribute[1]): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value === 'string') return new TextEncoder().encode(`${value}\0`);
  if (typeof value === 'number') {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    return bytes;
  }
  return join(value.map(encodeAttribute));
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

function align4(size: number): number {
  return (size + 3) & ~3;
}
