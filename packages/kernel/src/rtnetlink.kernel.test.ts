import { spawnSync } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type NeighbourEvent, watchNeighbours } from './neighbour.ts';
import { createNamespace, inNamespace, type NetworkNamespace } from './netns.ts';
import { Rtnetlink } from './rtnetlink.ts';
import { enableForwarding, getSysctl, setSysctl } from './sysctl.ts';

let here: NetworkNamespace;
let there: NetworkNamespace;
let route: Rtnetlink;
let routeThere: Rtnetlink;

beforeAll(() => {
  here = createNamespace();
  there = createNamespace();
  route = new Rtnetlink(here);
  routeThere = new Rtnetlink(there);
  route.createVeth({ name: 'here', mac: '02:00:00:00:00:01', mtu: 1400 }, { name: 'there', mac: '02:00:00:00:00:02', namespace: there });
  route.addAddress('here', '10.9.0.1/24');
  route.addAddress('here', 'fd09::1/64');
  routeThere.addAddress('there', '10.9.0.2/24');
  route.change('here', { up: true });
  routeThere.change('there', { up: true });
});

afterAll(() => {
  for (const object of [route, routeThere, here, there]) object.close();
});

test('a veth pair has the names, addresses and sizes it was given', () => {
  expect(route.interfaces().map(({ name }) => name)).toEqual(['lo', 'here']);
  expect(route.interface('here')).toMatchObject({
    type: 1,
    kind: 'veth',
    mac: '02:00:00:00:00:01',
    mtu: 1400,
    up: true,
    carrier: true,
    xdp: [],
  });
  expect(routeThere.interface('there').mtu).toBe(1500);
  expect(route.interface('lo')).toMatchObject({ type: 772, up: false });
  expect(route.find('there')).toBeUndefined();
  expect(route.addresses('here').map(({ address }) => address)).toEqual(expect.arrayContaining(['10.9.0.1/24', 'fd09::1/64']));
});

test('interfaces change, move and go', () => {
  route.createVeth({ name: 'one' }, { name: 'two' });
  route.change('one', { up: true, mtu: 9000, mac: '02:00:00:00:00:0a' });
  expect(route.interface('one')).toMatchObject({ up: true, mtu: 9000, mac: '02:00:00:00:00:0a' });
  route.change('one', { up: false });
  expect(route.interface('one').up).toBe(false);
  route.change('two', { namespace: there });
  expect(route.find('two')).toBeUndefined();
  expect(routeThere.interface('two').kind).toBe('veth');
  expect(route.delete('one')).toBe(true);
  expect(route.delete('one')).toBe(false);
  expect(routeThere.find('two')).toBeUndefined();
});

test('routes of all kinds', () => {
  route.addRoute({ to: 'default', via: '10.9.0.2' });
  route.addRoute({ to: '10.8.0.0/16', interface: 'here', source: '10.9.0.1', metric: 7 });
  route.addRoute({ to: '10.7.0.0/16', via: '192.0.2.1', interface: 'here', onlink: true });
  route.addRoute({ to: 'default', via: 'fd09::2' });
  const routes = inNamespace(here, () => spawnSync('cat', ['/proc/net/route'], { encoding: 'utf8' })).stdout;
  // Destination, gateway and mask in host order, as hexadecimal.
  const rows = routes
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split('\t'))
    .map(([, to, via, , , , metric, mask]) => [to, via, metric, mask]);
  expect(rows).toEqual(
    expect.arrayContaining([
      ['00000000', '0200090A', '0', '00000000'],
      ['0000080A', '00000000', '7', '0000FFFF'],
      ['0000070A', '010200C0', '0', '0000FFFF'],
    ]),
  );
  route.deleteRoute({ to: '10.8.0.0/16', interface: 'here', metric: 7 });
  expect(() => route.deleteRoute({ to: '10.8.0.0/16', interface: 'here' })).toThrow('ESRCH');
});

test('neighbours: asked for, set, listed, deleted, watched', async () => {
  const events: NeighbourEvent[] = [];
  using watch = watchNeighbours(here, (event) => events.push(event));
  expect(await route.resolveNeighbour('here', '10.9.0.2')).toBe('02:00:00:00:00:02');
  expect(await route.resolveNeighbour('here', '10.9.0.99', 50)).toBeUndefined();
  route.setNeighbour('here', '10.9.0.50', '02:00:00:00:00:50');
  const { index } = route.interface('here');
  const entry = { index, address: '10.9.0.50', mac: '02:00:00:00:00:50', state: 'permanent' };
  expect(route.neighbours('here')).toContainEqual(entry);
  expect(route.neighbours('lo')).toEqual([]);
  expect(route.deleteNeighbour('here', '10.9.0.50')).toBe(true);
  expect(route.deleteNeighbour('here', '10.9.0.50')).toBe(false);
  await expect.poll(() => events.some(({ kind }) => kind === 'deleted')).toBe(true);
  expect(events).toContainEqual({ kind: 'changed', neighbour: entry });
  expect(events).toContainEqual({
    kind: 'changed',
    neighbour: { index, address: '10.9.0.2', mac: '02:00:00:00:00:02', state: 'reachable' },
  });
  watch.close();
  const heard = events.length;
  route.setNeighbour('here', '10.9.0.51', '02:00:00:00:00:51');
  await delay(20);
  expect(events.length).toBe(heard);
});

test('offloads and settings', () => {
  expect(route.offload('here', 'txChecksum')).toBe(true);
  expect(route.offload('here', 'gro')).toBe(false);
  route.setOffloads('here', { txChecksum: false, gro: true });
  expect(route.offload('here', 'txChecksum')).toBe(false);
  expect(route.offload('here', 'gro')).toBe(true);
  expect(() => route.setOffloads('nope', { gro: true })).toThrow('there is no interface nope');

  enableForwarding(here);
  expect(getSysctl(here, 'net/ipv4/ip_forward')).toBe('1');
  expect(getSysctl(there, 'net/ipv4/ip_forward')).toBe('0');
  expect(() => setSysctl(here, 'net/ipv4/nope', 1)).toThrow('the setting net/ipv4/nope cannot be read or written: ENOENT');
  expect(() => getSysctl(here, '../../etc/passwd')).toThrow('../../etc/passwd is no network setting');
});

test.each(['rxChecksum', 'txChecksum', 'tso', 'gso', 'gro'] as const)('%s is switched off and on', (offload) => {
  for (const name of ['off', 'on']) {
    route.setOffloads('here', { [offload]: name === 'on' });
    expect(route.offload('here', offload)).toBe(name === 'on');
  }
});

test('a VXLAN device that takes its tunnel keys from programs', () => {
  route.createVxlan({ name: 'tunnel', mac: '02:00:00:00:00:0b', mtu: 1450 });
  route.change('tunnel', { up: true });
  expect(route.interface('tunnel')).toMatchObject({ kind: 'vxlan', mac: '02:00:00:00:00:0b', mtu: 1450, up: true, type: 1 });
  const details = () => inNamespace(here, () => spawnSync('ip', ['-details', 'link', 'show', 'tunnel'], { encoding: 'utf8' })).stdout;
  expect(details()).toMatch(/vxlan external.* dstport 4789 .*nolearning.*udp6zerocsumrx/);
  expect(() => route.createVxlan({ name: 'tunnel', port: 4790 })).toThrow('create VXLAN device tunnel failed: EEXIST');
  expect(() => route.createVxlan({ name: 'other', port: 0 })).toThrow('a VXLAN port is 1 to 65535, got 0');
  route.delete('tunnel');
});

test.each([
  [() => route.createVeth({ name: 'here' }, { name: 'x' }), 'create veth pair here, x failed: EEXIST, file already exists'],
  [() => route.createVeth({ name: 'a name' }, { name: 'x' }), '"a name" is no interface name'],
  [() => route.createVeth({ name: 'sixteen-letters!' }, { name: 'x' }), '"sixteen-letters!" is no interface name'],
  [
    () => route.addRoute({ to: '1.2.3.4', via: '99.9.9.9' }),
    'ENETUNREACH, network is unreachable (the kernel says: Nexthop has invalid gateway)',
  ],
  [() => route.addRoute({ to: '1.2.3.4' }), 'the route to 1.2.3.4 needs a gateway or an interface'],
  [() => route.addRoute({ to: '1.2.3.4', via: 'fd09::2' }), 'differ in address family'],
  [
    () => route.change('here', { mtu: 1 }),
    'change interface here failed: EINVAL, invalid argument (the kernel says: mtu less than device minimum)',
  ],
  [() => route.change('nope', { up: true }), 'there is no interface nope'],
  [() => route.addAddress('here', '10.9.0.1/24'), 'add address 10.9.0.1/24 to here failed: EEXIST'],
] as const)('error %#: %s', (act, message) => {
  expect(act).toThrow(message);
});

test('a name that is not there comes with those that are', () => {
  expect(() => route.interface('nope')).toThrow(expect.objectContaining({ hint: 'interfaces here: lo, here' }));
});
