/** Helpers whose answers lie beside the packet: redirects, clones, hashes, tunnels, locks, time, chance. */
import { packet as build } from '@tailrace/testing';
import { describe, expect, test } from 'vitest';
import {
  ANSWER_CLONE_TARGETS,
  ANSWER_CLONES,
  ANSWER_FLAGS,
  ANSWER_KEY,
  ANSWER_KIND,
  ANSWER_NEXT_HOP,
  ANSWER_NEXT_HOP_SIZE,
  ANSWER_REDIRECT,
  ANSWER_TARGET,
  CLOCK_NOW,
  CLOCK_TAI_OFFSET,
  SHARED,
  WORKER_ANSWER,
  WORKER_CPU,
  WORKER_HELD_LOCK,
} from './layout.ts';
import { UserspaceMap } from './map.ts';
import { clearNetwork, networkBytes, writeNetwork } from './network.ts';
import { RuntimeFixture } from './runtime-fixture.ts';

const PACKET = new Uint8Array(64);
const answers = (fixture: RuntimeFixture): number[] =>
  [ANSWER_REDIRECT, ANSWER_TARGET, ANSWER_KEY, ANSWER_FLAGS, ANSWER_KIND].map((field) => fixture.field(WORKER_ANSWER + field));

describe('redirects', () => {
  test('to an interface', () => {
    const xdp = new RuntimeFixture('xdp', { packet: PACKET });
    expect(xdp.call('redirect', 0x1_0000_0007n, 0)).toBe(4n);
    expect(answers(xdp)).toEqual([1, 7, 0, 0, 0]);
    expect(xdp.call('redirect', 8, 1)).toBe(0n);
    expect(answers(xdp)).toEqual([1, 7, 0, 0, 0]);
    const tc = new RuntimeFixture('schedCls', { packet: PACKET });
    expect(tc.call('redirect', 7, 1)).toBe(7n);
    expect(answers(tc)).toEqual([1, 7, 0, 1, 0]);
    expect(tc.call('redirect_peer', 8, 0)).toBe(7n);
    expect(answers(tc)).toEqual([1, 8, 0, 0, 1]);
  });

  test('to a neighbour, by a next hop or by the route', () => {
    const tc = new RuntimeFixture('schedCls', { packet: PACKET });
    const hop = Uint8Array.from({ length: 20 }, (_, at) => at + 1);
    expect(tc.call('redirect_neigh', 9, hop, 20, 0)).toBe(7n);
    expect(answers(tc)).toEqual([1, 9, 0, 0, 2]);
    expect(tc.field(WORKER_ANSWER + ANSWER_NEXT_HOP_SIZE)).toBe(20);
    const at = tc.worker + WORKER_ANSWER + ANSWER_NEXT_HOP;
    expect(tc.memory.u8.slice(at, at + 20)).toEqual(hop);
    expect(tc.call('redirect_neigh', 9, 0n, 0, 0)).toBe(7n);
    expect(tc.field(WORKER_ANSWER + ANSWER_NEXT_HOP_SIZE)).toBe(0);
  });

  test('by a map', () => {
    const xdp = new RuntimeFixture('xdp', { packet: PACKET });
    const spec = { name: 'targets', type: 'devmapHash', keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 } as const;
    const map = new UserspaceMap(xdp.memory, spec, 1, 1);
    map.update(Uint8Array.of(7, 0, 0, 0), Uint8Array.of(3, 0, 0, 0));
    expect(xdp.call('redirect_map', map.address, 0x1_0000_0007n, 2)).toBe(4n);
    expect(answers(xdp)).toEqual([2, map.address, 7, 0, 0]);
    expect(xdp.call('redirect_map', map.address, 8, 2)).toBe(2n);
    expect(answers(xdp)).toEqual([0, 0, 0, 0, 0]);
    expect(xdp.call('redirect_map', map.address, 8, 24)).toBe(4n);
    expect(answers(xdp)).toEqual([2, map.address, 8, 24, 0]);
  });

  test('of copies: all are counted, the first eight are told', () => {
    const tc = new RuntimeFixture('schedCls', { packet: PACKET });
    for (let ifindex = 1; ifindex < 11; ifindex++) expect(tc.call('clone_redirect', ifindex, ifindex & 1)).toBe(0n);
    expect(tc.field(WORKER_ANSWER + ANSWER_CLONES)).toBe(10);
    const told = Array.from({ length: 16 }, (_, at) => tc.field(WORKER_ANSWER + ANSWER_CLONE_TARGETS + 4 * at));
    expect(told).toEqual([1, 1, 2, 0, 3, 1, 4, 0, 5, 1, 6, 0, 7, 1, 8, 0]);
    expect([tc.call('clone_redirect', 0, 0), tc.call('clone_redirect', 1, 2)]).toEqual([-22n, -22n]);
    expect(tc.field(WORKER_ANSWER + 120)).toBe(0);
  });

  test('of copies, to interfaces that there are', () => {
    const tc = new RuntimeFixture('schedCls', { packet: PACKET });
    const network = { links: [{ ifindex: 3 }], routes: [] };
    writeNetwork(tc.memory, tc.memory.allocate(networkBytes(network)), network);
    expect([tc.call('clone_redirect', 3, 0), tc.call('clone_redirect', 4, 0)]).toEqual([0n, -22n]);
    clearNetwork(tc.memory);
    expect(tc.call('clone_redirect', 4, 0)).toBe(0n);
  });
});

test.each([
  [{ prefix: new Uint8Array(5), prefixLength: 8, ifindex: 1 }, "a route's prefix takes 4 or 16 bytes, got 5"],
  [{ prefix: new Uint8Array(4), prefixLength: 33, ifindex: 1 }, "a route's prefixLength must be 0 to 32, got 33"],
  [{ prefix: new Uint8Array(4), prefixLength: 8, ifindex: 0 }, "a route's ifindex must be 1 to 2147483647, got 0"],
  [
    { prefix: new Uint8Array(16), prefixLength: 8, ifindex: 1, gateway: new Uint8Array(4) },
    'a gateway of 4 bytes is not for a prefix of 16',
  ],
  [{ prefix: new Uint8Array(4), prefixLength: 8, ifindex: 1, source: new Uint8Array(16) }, 'a source of 16 bytes is not for a prefix of 4'],
])('the route %j is refused', (route, message) => {
  const tc = new RuntimeFixture('schedCls', { packet: PACKET });
  const network = { links: [], routes: [route] };
  expect(() => writeNetwork(tc.memory, tc.memory.allocate(80), network)).toThrow(message);
});

describe('get_hash_recalc', () => {
  const flow = (saddr: string, sport: number, daddr: string, dport: number): Uint8Array =>
    build().ipv4({ saddr, daddr }).tcp({ sport, dport }).bytes();
  const hashOf = (packet: Uint8Array): bigint => new RuntimeFixture('schedCls', { packet }).call('get_hash_recalc');

  test('both directions of a flow have one hash, other flows another', () => {
    const there = hashOf(flow('10.0.0.1', 1000, '10.0.0.2', 80));
    expect(there).toBeGreaterThan(0n);
    expect(hashOf(flow('10.0.0.2', 80, '10.0.0.1', 1000))).toBe(there);
    const others = [
      flow('10.0.0.1', 1001, '10.0.0.2', 80),
      flow('10.0.0.1', 80, '10.0.0.2', 1000),
      flow('10.0.0.3', 1000, '10.0.0.2', 80),
      PACKET,
    ];
    expect(new Set([there, ...others.map(hashOf)]).size).toBe(5);
  });

  test('of IPv6 too', () => {
    const six = (saddr: string, daddr: string, sport: number): Uint8Array =>
      build()
        .ipv6({ saddr, daddr })
        .udp({ sport, dport: sport ^ 1 })
        .bytes();
    expect(hashOf(six('fd00::1', 'fd00::2', 4))).toBe(hashOf(six('fd00::2', 'fd00::1', 5)));
    expect(hashOf(six('fd00::1', 'fd00::2', 4))).not.toBe(hashOf(six('fd00::1', 'fd00::3', 4)));
  });

  test('headers that are cut off are not read', () => {
    for (let length = 14; length < 54; length++) expect(hashOf(flow('10.0.0.1', 1, '10.0.0.2', 2).subarray(0, length))).toBeGreaterThan(0n);
  });
});

test('spin locks: one at a time, given back by whoever holds it', () => {
  const xdp = new RuntimeFixture('xdp', { packet: PACKET });
  const lock = xdp.memory.allocate(8);
  const word = (): number => xdp.memory.view.getUint32(lock, true);
  expect([xdp.run('spin_lock', xdp.worker, lock), word()]).toEqual([1, 1]);
  expect(xdp.run('spin_lock', xdp.worker, lock + 4)).toBe(0);
  expect(xdp.run('spin_unlock', xdp.worker, lock + 4)).toBe(0);
  expect([xdp.run('spin_unlock', xdp.worker, lock), word()]).toEqual([1, 0]);
  expect(xdp.run('spin_unlock', xdp.worker, lock)).toBe(0);
  // a program that stops while it holds one
  xdp.run('spin_lock', xdp.worker, lock);
  xdp.run('spin_release', xdp.worker);
  xdp.run('spin_release', xdp.worker);
  expect([word(), xdp.field(WORKER_HELD_LOCK)]).toEqual([0, 0]);
});

test('time is what the engine says', () => {
  const xdp = new RuntimeFixture('xdp', { packet: PACKET });
  xdp.memory.view.setBigUint64(SHARED + CLOCK_NOW, 8_000_000_123n, true);
  xdp.memory.view.setBigUint64(SHARED + CLOCK_TAI_OFFSET, 1_000_000_000_000n, true);
  const names = ['ktime_get_ns', 'ktime_get_boot_ns', 'ktime_get_coarse_ns', 'ktime_get_tai_ns', 'jiffies64'] as const;
  expect(names.map((name) => xdp.call(name))).toEqual([8_000_000_123n, 8_000_000_123n, 8_000_000_123n, 1_008_000_000_123n, 2000n]);
});

test('random numbers come in rows that can be repeated', () => {
  const row = (): bigint[] => {
    const xdp = new RuntimeFixture('xdp', { packet: PACKET });
    return Array.from({ length: 1000 }, () => xdp.call('get_prandom_u32'));
  };
  const numbers = row();
  // xorshift64*, from 1 on
  const first = (1n << 25n) | 1n;
  expect(numbers[0]).toBe(BigInt.asUintN(64, first * 0x2545_f491_4f6c_dd1dn) >> 32n);
  expect(row()).toEqual(numbers);
  expect(new Set(numbers).size).toBe(1000);
  expect(numbers.every((number) => number >= 0n && number < 1n << 32n)).toBe(true);
  const ones = numbers.reduce((sum, number) => sum + number.toString(2).replaceAll('0', '').length, 0);
  expect(Math.abs(ones - 16_000)).toBeLessThan(500);
});

test('a worker has a number', () => {
  const xdp = new RuntimeFixture('xdp', { packet: PACKET });
  xdp.memory.view.setUint32(xdp.worker + WORKER_CPU, 5, true);
  expect([xdp.call('get_smp_processor_id'), xdp.call('get_numa_node_id')]).toEqual([5n, 0n]);
});
