/** Echo requests from a namespace, as ping makes them, and what comes back: a reply, or an error about the request. */
import { type IcmpMessage, IcmpSocket, type NetworkNamespace } from '@tailrace/kernel';
import { within } from './deadline.ts';
import { type FieldValues, icmpLayout, readHeader } from './header-layout.ts';
import { packet } from './packet.ts';

/** A request to make. */
export interface EchoOptions {
  /** As the packet builder takes it; default `ping`. */
  readonly payload?: Uint8Array | string | number;
  /** Default 1. */
  readonly id?: number;
  /** Default 1. */
  readonly sequence?: number;
  /** The local address to ask from; default as the routes say. */
  readonly localAddress?: string;
  /** Default 1,000. */
  readonly timeoutMs?: number;
}

/** What came back. */
export interface EchoAnswer {
  /** `reply`, or `error`: a message that quotes the request. */
  readonly kind: 'reply' | 'error';
  readonly type: number;
  readonly code: number;
  readonly from: string;
  /** What the reply sends back, or the error quotes, from its IP header on. */
  readonly payload: Uint8Array;
}

/** Makes one request. Throws TimeoutError, SyscallError, ArgumentError. */
export async function echoFrom(namespace: NetworkNamespace, address: string, options: EchoOptions = {}): Promise<EchoAnswer> {
  const { payload = 'ping', id = 1, sequence = 1, localAddress, timeoutMs = 1000 } = options;
  const family = address.includes(':') ? 'ipv6' : 'ipv4';
  const frame = family === 'ipv4' ? packet().ipv4().icmp({ id, sequence }) : packet().ipv6().icmpv6({ id, sequence });
  using socket = new IcmpSocket(namespace, family, localAddress);
  const { promise, resolve, reject } = Promise.withResolvers<EchoAnswer>();
  using _watch = socket.watch(() => {
    try {
      for (let message = socket.receive(); message !== undefined; message = socket.receive()) {
        const answer = answerIn(message, family, { id, sequence });
        if (answer !== undefined) resolve(answer);
      }
    } catch (error) {
      reject(error);
    }
  });
  socket.send(
    address,
    frame
      .payload(payload)
      .bytes()
      .subarray(14 + ipBytes[family]),
  );
  return await within(promise, timeoutMs, `an answer to an echo request to ${address}`);
}

const ipBytes = { ipv4: 20, ipv6: 40 } as const;
const replies = { ipv4: 0, ipv6: 129 } as const;
const errors = { ipv4: [3, 5, 11, 12], ipv6: [1, 2, 3, 4] } as const;

/** Undefined for what is no answer to the request. */
function answerIn(
  { from, bytes }: IcmpMessage,
  family: 'ipv4' | 'ipv6',
  asked: { readonly id: number; readonly sequence: number },
): EchoAnswer | undefined {
  if (bytes.length < icmpLayout.size) return undefined;
  const header = readHeader(icmpLayout, bytes, 0);
  const [type, code] = [Number(header.type), Number(header.code)];
  const payload = bytes.subarray(icmpLayout.size);
  const about = (kind: EchoAnswer['kind'], { id, sequence }: FieldValues): EchoAnswer | undefined =>
    id === asked.id && sequence === asked.sequence ? { kind, type, code, from, payload } : undefined;
  if (type === replies[family]) return about('reply', header);
  const wanted: readonly number[] = errors[family];
  if (!wanted.includes(type)) return undefined;
  const start = family === 'ipv4' ? ((payload[0] ?? 0) & 15) * 4 : ipBytes.ipv6;
  return start + icmpLayout.size <= payload.length ? about('error', readHeader(icmpLayout, payload, start)) : undefined;
}
