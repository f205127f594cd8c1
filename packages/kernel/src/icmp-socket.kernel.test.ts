import { once } from 'node:events';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openFds } from './fixture.ts';
import { type IcmpMessage, IcmpSocket } from './icmp-socket.ts';
import { createNamespace, type NetworkNamespace } from './netns.ts';
import { Rtnetlink } from './rtnetlink.ts';

let namespace: NetworkNamespace;

beforeEach(() => {
  namespace = createNamespace();
  using route = new Rtnetlink(namespace);
  route.change('lo', { up: true });
});

afterEach(() => namespace.close());

async function next(socket: IcmpSocket, wanted: (message: IcmpMessage) => boolean): Promise<IcmpMessage> {
  const target = new EventTarget();
  using _watch = socket.watch(() => target.dispatchEvent(new Event('messages')));
  for (;;) {
    const message = socket.receive();
    if (message && wanted(message)) return message;
    if (!message) await once(target, 'messages', { signal: AbortSignal.timeout(2000) });
  }
}

/** An echo request without data: type, code, checksum, id 0x0102, sequence 3. */
const request = { ipv4: [8, 0, 0xf6, 0xfa, 1, 2, 0, 3], ipv6: [128, 0, 0, 0, 1, 2, 0, 3] } as const;

test.each([
  ['ipv4', '127.0.0.1', 0],
  ['ipv6', '::1', 129],
] as const)('an echo request over %s is answered', async (family, address, reply) => {
  using socket = new IcmpSocket(namespace, family, address);
  socket.send(address, Uint8Array.from(request[family]));
  const { from, bytes } = await next(socket, (message) => message.bytes[0] === reply);
  expect(from).toBe(address);
  expect([...bytes.subarray(4)]).toEqual([1, 2, 0, 3]);
});

test('errors name the address, and nothing stays open', () => {
  const before = openFds();
  expect(() => new IcmpSocket(namespace, 'ipv4', '10.9.9.9')).toThrow(/bind.*ICMP messages from 10\.9\.9\.9.*EADDRNOTAVAIL/);
  const socket = new IcmpSocket(namespace, 'ipv4');
  expect(() => socket.send('10.9.9.9', Uint8Array.from(request.ipv4))).toThrow(/sendto.*ICMP messages to 10\.9\.9\.9.*ENETUNREACH/);
  expect(() => socket.send('nowhere', new Uint8Array(8))).toThrow('nowhere is no IP address');
  expect(socket.receive()).toBe(undefined);
  socket.close();
  expect(() => socket.receive()).toThrow('ICMP messages is closed');
  expect(openFds()).toBe(before);
});
