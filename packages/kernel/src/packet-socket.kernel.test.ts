import { once } from 'node:events';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openFds } from './fixture.ts';
import { createNamespace, type NetworkNamespace } from './netns.ts';
import { PacketSocket } from './packet-socket.ts';
import { Rtnetlink } from './rtnetlink.ts';

let namespace: NetworkNamespace;

beforeEach(() => {
  namespace = createNamespace();
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'left' }, { name: 'right' });
  for (const name of ['left', 'right']) route.change(name, { up: true });
});

afterEach(() => namespace.close());

/** An EtherType for local experiments; the kernel sends frames of its own (IPv6 discovery) beside. */
const frame = Uint8Array.from({ length: 60 }, (_, at) => (at === 12 ? 0x88 : at === 13 ? 0xb5 : 2));
const isOurs = (bytes: Uint8Array): boolean => bytes[12] === 0x88 && bytes[13] === 0xb5;

async function next(socket: PacketSocket, wanted = isOurs): Promise<Uint8Array> {
  const target = new EventTarget();
  using _watch = socket.watch(() => target.dispatchEvent(new Event('frames')));
  for (;;) {
    const bytes = socket.receive();
    if (bytes && wanted(bytes)) return bytes;
    if (!bytes) await once(target, 'frames', { signal: AbortSignal.timeout(2000) });
  }
}

test('a frame crosses a link, and is not seen where it was sent', async () => {
  using left = new PacketSocket(namespace, 'left');
  using right = new PacketSocket(namespace, 'right');
  left.send(frame);
  expect(await next(right)).toEqual(frame);
  for (let bytes = left.receive(); bytes; bytes = left.receive()) expect(isOurs(bytes)).toBe(false);
});

test('VLAN tags are seen where they were', async () => {
  using left = new PacketSocket(namespace, 'left');
  using right = new PacketSocket(namespace, 'right');
  const tag = (tpid: number, tci: number): readonly number[] => [tpid >> 8, tpid & 0xff, tci >> 8, tci & 0xff];
  for (const tags of [tag(0x8100, 0x2007), [...tag(0x88a8, 5), ...tag(0x8100, 0)]]) {
    const tagged = Uint8Array.from([...frame.subarray(0, 12), ...tags, ...frame.subarray(12)]);
    left.send(tagged);
    const arrived = await next(right, (bytes) => bytes[12] === 0x81 || bytes[12] === 0x88);
    expect(arrived).toEqual(tagged);
  }
});

test('outgoing frames are seen where asked for', async () => {
  using left = new PacketSocket(namespace, 'left');
  using other = new PacketSocket(namespace, 'left', { outgoing: true });
  left.send(frame);
  expect(await next(other)).toEqual(frame);
});

test('frames that are longer than a page, linear or not', async () => {
  using route = new Rtnetlink(namespace);
  for (const name of ['left', 'right']) route.change(name, { mtu: 9000 });
  using left = new PacketSocket(namespace, 'left');
  using right = new PacketSocket(namespace, 'right');
  const long = Uint8Array.from({ length: 6000 }, (_, at) => frame[at] ?? at & 0xff);
  for (const linear of [0, 14, 40, 5000]) {
    left.send(long, { linear });
    expect(await next(right)).toEqual(long);
  }
});

test('errors name the interface, and nothing stays open', () => {
  const before = openFds();
  expect(() => new PacketSocket(namespace, 'none')).toThrow('there is no interface none');
  const socket = new PacketSocket(namespace, 'left');
  expect(() => socket.send(new Uint8Array(3000))).toThrow(/sendto.*EMSGSIZE/);
  socket.close();
  socket.close();
  expect(() => socket.receive()).toThrow('frames on left is closed');
  expect(openFds()).toBe(before);
});
