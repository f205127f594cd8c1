/** Routes, MTUs, device maps and numbers in text: what the kernel answers in a namespace of its own, and what we do from tables. */
import { isIP } from 'node:net';
import type { TestRunOptions } from '@tailrace/bpf';
import { createNamespace, enableForwarding, type KernelInstance, kernel, type NetworkNamespace, Rtnetlink } from '@tailrace/kernel';
import { ipv4Bytes, ipv6Bytes, macBytes } from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { BothSides, type Step } from './both-sides-fixture.ts';
import { type Network, type NetworkRoute, networkBytes, writeNetwork } from './network.ts';

const ONE = 41;
const TWO = 42;
const MAC = { one: '02:00:00:00:00:01', two: '02:00:00:00:00:02', gateway: '02:00:00:00:00:99', near: '02:00:00:00:00:98' } as const;
const PACKET = Uint8Array.from({ length: 120 }, (_, at) => (at === 12 ? 8 : at === 13 ? 0 : at));

let namespace: NetworkNamespace;
let engine: KernelInstance;
let both: BothSides;

beforeAll(async () => {
  namespace = createNamespace();
  enableForwarding(namespace);
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'one', index: ONE, mac: MAC.one }, { name: 'peer1' });
  route.createVeth({ name: 'two', index: TWO, mac: MAC.two, mtu: 1400 }, { name: 'peer2' });
  for (const name of ['lo', 'one', 'peer1', 'two', 'peer2']) route.change(name, { up: true });
  for (const [name, ...addresses] of [
    ['one', '10.1.0.1/24', 'fd01::1/64'],
    ['two', '10.2.0.1/24', 'fd02::1/64'],
  ] as const)
    for (const address of addresses) route.addAddress(name, address);
  route.addRoute({ to: '10.9.0.0/16', via: '10.2.0.99' });
  route.addRoute({ to: '10.9.128.0/17', via: '10.2.0.97', metric: 7 });
  route.addRoute({ to: 'fd09::/32', via: 'fd02::99' });
  route.setNeighbour('two', '10.2.0.99', MAC.gateway);
  route.setNeighbour('two', '10.2.0.98', MAC.near);
  route.setNeighbour('two', 'fd02::99', MAC.gateway);
  engine = await kernel({ interfaces: [], netns: namespace }).open();
  both = new BothSides(engine);
});

afterAll(async () => {
  await engine.close();
  namespace.close();
});

const bytesOf = (address: string): Uint8Array => (isIP(address) === 4 ? ipv4Bytes(address) : ipv6Bytes(address));
const neighbour = (destination: string) => ({ source: macBytes(MAC.two), destination: macBytes(destination) });

function to(prefix: string, rest: Partial<NetworkRoute> = {}): NetworkRoute {
  const [address, length] = prefix.split('/');
  return { prefix: bytesOf(address as string), prefixLength: Number(length), ifindex: TWO, ...rest };
}

/** The same network as tables. A neighbour on a link is a route to that one address. */
const NETWORK: Network = {
  links: [{ ifindex: 1, mtu: 65_536 }, { ifindex: ONE }, { ifindex: TWO, mtu: 1400 }],
  routes: [
    to('10.1.0.0/24', { ifindex: ONE, source: bytesOf('10.1.0.1') }),
    to('10.1.0.1/32', { kind: 'here', ifindex: 0 }),
    to('10.2.0.0/24', { source: bytesOf('10.2.0.1') }),
    to('10.2.0.98/32', { neighbour: neighbour(MAC.near), source: bytesOf('10.2.0.1') }),
    to('10.9.0.0/16', { gateway: bytesOf('10.2.0.99'), neighbour: neighbour(MAC.gateway), source: bytesOf('10.2.0.1') }),
    to('10.9.128.0/17', { gateway: bytesOf('10.2.0.97'), metric: 7, source: bytesOf('10.2.0.1') }),
    to('fd02::/64', { metric: 256, source: bytesOf('fd02::1') }),
    to('fd09::/32', { gateway: bytesOf('fd02::99'), neighbour: neighbour(MAC.gateway), metric: 1024, source: bytesOf('fd02::1') }),
  ],
};

/** Steps with the tables on our side. */
async function agree(type: 'xdp' | 'schedCls', steps: readonly Step[], options: Partial<TestRunOptions> = {}): Promise<void> {
  const { memory } = both.fixture(type, { packet: PACKET });
  const address = memory.allocate(networkBytes(NETWORK));
  writeNetwork(memory, address, NETWORK);
  await both.agree(type, { packet: PACKET, ...options }, steps);
  memory.free(address);
}

/** struct bpf_fib_lookup. */
function lookup(destination: string, { length = 0, ifindex = ONE, family = 0 } = {}): Uint8Array {
  const params = new Uint8Array(64).fill(0xee, 48);
  const view = new DataView(params.buffer);
  const address = bytesOf(destination);
  params[0] = family || (address.length === 4 ? 2 : 10);
  view.setUint16(6, length, true);
  view.setUint32(8, ifindex, true);
  params.set(address.length === 4 ? bytesOf('10.1.0.7') : bytesOf('fd01::7'), 16);
  params.set(address, 32);
  return params;
}

describe.each(['xdp', 'schedCls'] as const)('%s', (type) => {
  test.each([
    ['a gateway', '10.9.1.2', {}, 0],
    ['the longer prefix, whose gateway nobody knows', '10.9.200.2', {}, 0],
    ['no neighbour wanted', '10.9.200.2', {}, 4],
    ['the source too', '10.9.1.2', {}, 16],
    ['a neighbour', '10.2.0.98', {}, 0],
    ['nobody', '10.2.0.55', {}, 0],
    ['this host', '10.1.0.1', {}, 0],
    ['no route', '172.16.0.1', {}, 0],
    ['a length that fits', '10.9.1.2', { length: 1400 }, 0],
    ['a length that does not', '10.9.1.2', { length: 1401 }, 0],
    ['no such interface', '10.9.1.2', { ifindex: 4711 }, 0],
    ['no such family', '10.9.1.2', { family: 7 }, 0],
    ['flags of nobody', '10.9.1.2', {}, 64],
    ['a gateway of IPv6', 'fd09::5', {}, 0],
    ['the source of IPv6 too', 'fd09::5', {}, 16],
    ['nobody of IPv6', 'fd02::55', {}, 0],
    ['no route of IPv6', '2001:db8::1', {}, 0],
    ['too long for IPv6', 'fd09::5', { length: 1500 }, 0],
  ] as const)('fib_lookup finds %s', async (_name, destination, rest, flags) => {
    await agree(type, [
      ['fib_lookup', lookup(destination, rest), 64, flags],
      ['fib_lookup', lookup(destination, rest).subarray(0, 60), 60, flags],
    ]);
  });

  test('check_mtu', async () => {
    const given = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
    await agree(type, [
      ['check_mtu', TWO, given(0), 0, 0],
      ['check_mtu', TWO, given(0), 1294, 0],
      ['check_mtu', TWO, given(0), 1295, 0],
      ['check_mtu', TWO, given(1400), 0, 0],
      ['check_mtu', TWO, given(1401), 0, 0],
      ['check_mtu', TWO, given(1401), -1, 0],
      ['check_mtu', 0, given(0), 65_430, 0],
      ['check_mtu', 0, given(0), 65_431, 0],
      ['check_mtu', 4711, given(5), 0, 0],
      ['check_mtu', TWO, given(0), 0, 1],
      ['check_mtu', TWO, given(5), 0, 1],
      ['check_mtu', TWO, given(0), 5, 1],
      ['check_mtu', TWO, given(0), 0, 2],
    ]);
  });
});

test('check_mtu of rows of segments', async () => {
  const steps: readonly Step[] = [['check_mtu', TWO, new Uint8Array(4), 5000, 0]];
  await agree('schedCls', steps, { skb: { gsoSegments: 4, gsoSize: 20 } });
});

test('redirect_map looks whether the key leads anywhere', async () => {
  const key = new Uint8Array(4);
  for (const type of ['devmap', 'devmapHash'] as const) {
    const targets = both.createMap({ name: type, type, keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 });
    targets.update(key, new Uint8Array(Uint32Array.of(TWO).buffer));
    await agree('xdp', [
      ['redirect_map', type, 0, 2],
      ['redirect_map', type, 1, 2],
      ['redirect_map', type, 1, 0],
      ['redirect_map', type, 9, 3],
      ['redirect_map', type, 0, 4],
      ['redirect_map', type, 1, 8],
      ['redirect_map', type, 1, 24],
      ['redirect_map', type, 1, 32],
    ]);
  }
});

test('numbers in text', async () => {
  const character = fc.constantFrom(...' \t-+0123456789xXaAfFgG\0'.split(''));
  const text = fc.oneof(
    fc.string({ unit: character, minLength: 1, maxLength: 24 }),
    fc.constantFrom('9223372036854775807', '9223372036854775808', '-9223372036854775808', '-9223372036854775809', '18446744073709551615'),
    fc.constantFrom('18446744073709551616', '0x', '0xg', '0', '-', ' -5', '- 5', '017', '08', '0x7fffffffffffffff', '7fffffffffffffffffff'),
  );
  const step = fc
    .tuple(fc.constantFrom('strtol', 'strtoul'), text, fc.constantFrom(0, 8, 10, 16, 2, 32))
    .map(([name, given, base]): Step => {
      const bytes = new TextEncoder().encode(given);
      return [name as 'strtol', bytes, bytes.length, base, new Uint8Array(8).fill(7)];
    });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 30, maxLength: 40 }), (steps) => agree('xdp', steps)),
    { numRuns: 20 },
  );
});

test('lines that are printed: how long they are, and which formats are none', async () => {
  const values = new Uint8Array(BigInt64Array.of(-5n, 0x1234n, 3n).buffer);
  const formats = [
    'plain',
    '%d|%u|%x',
    '%5d|%-5d|%05d',
    '%+d % d %X',
    '%ld %llu %lx',
    '%c%c',
    '%%',
    '%',
    '%q',
    '%d %d %d %d',
    '%5',
    '%#x',
    '%hd',
    '\x01',
    'é',
    '%p',
    '%px %pK',
    '%pq',
  ];
  const steps = formats.map((format): Step => {
    const bytes = new Uint8Array(40);
    const { written } = new TextEncoder().encodeInto(format, bytes);
    return ['trace_vprintk', bytes.subarray(0, written + 1), written + 1, values, 24];
  });
  await agree('xdp', steps);
  await agree('xdp', [
    ['trace_vprintk', new TextEncoder().encode('no end'), 6, values, 24],
    ['trace_vprintk', new TextEncoder().encode('odd\0'), 4, values, 23],
  ]);
});
