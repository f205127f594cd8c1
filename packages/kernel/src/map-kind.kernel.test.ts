/** The kinds whose entries are no plain bytes: values without keys, maps, CPUs, interfaces, sockets. */
import { connect, createServer, type Socket } from 'node:net';
import { ArgumentError, type MapSpec } from '@tailrace/bpf';
import { afterEach, describe, expect, test } from 'vitest';
import { mapSpec, openFds, u32 } from './fixture.ts';
import { createMap, type KernelMap } from './map.ts';
import { possibleCpus } from './privilege.ts';
import { closeFd, syscall } from './syscall.ts';

const cpus = possibleCpus();
const NO_KEY = new Uint8Array(0);
const open: KernelMap[] = [];

function make(...args: Parameters<typeof mapSpec>): KernelMap {
  const map = createMap(mapSpec(...args), { cpus });
  open.push(map);
  return map;
}

afterEach(() => {
  for (const map of open.splice(0)) map.close();
});

const u64 = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);
const keysOf = (map: KernelMap): number[] => [...new Uint32Array(map.readAll().keys.slice().buffer)].sort((a, b) => a - b);
const errno = (errnoName: string) => expect.objectContaining({ errnoName });

describe('values without keys', () => {
  const spec: Partial<MapSpec> = { keySize: 0, valueSize: 4, maxEntries: 3 };

  test.each([
    ['queue', [1, 2, 3], [2, 3, 4]],
    ['stack', [3, 2, 1], [4, 3, 2]],
  ] as const)('%s: in and out, full, and in the place of the oldest', (type, order, replaced) => {
    const map = make(type, spec);
    expect([map.lookup(NO_KEY), map.pop()]).toEqual([undefined, undefined]);
    for (const value of [1, 2, 3]) map.update(NO_KEY, u32(value));
    expect(() => map.update(NO_KEY, u32(4))).toThrow(
      expect.objectContaining({ errnoName: 'E2BIG', hint: 'the map is full, or the key is beyond its end: raise maxEntries' }),
    );
    expect(() => map.update(NO_KEY, u32(4), 'noexist')).toThrow(errno('EINVAL'));
    expect(map.lookup(NO_KEY)).toEqual(u32(order[0]));
    expect([map.pop(), map.pop(), map.pop(), map.pop()]).toEqual([...order.map(u32), undefined]);
    for (const value of [1, 2, 3]) map.update(NO_KEY, u32(value));
    map.update(NO_KEY, u32(4), 'exist');
    expect([map.pop(), map.pop(), map.pop()]).toEqual(replaced.map(u32));
  });

  test('there is nothing to read by, and lengths are checked first', () => {
    const map = make('queue', spec);
    expect(() => map.readAll()).toThrow(new ArgumentError('map sample/queue is a queue and has no keys to read by'));
    expect(() => map.update(NO_KEY, new Uint8Array(5))).toThrow('a value of map sample/queue takes 4 bytes, got 5');
    expect(() => map.update(u32(1), u32(1))).toThrow('a key of map sample/queue takes 0 bytes, got 4');
    expect(() => map.delete(NO_KEY)).toThrow(errno('EINVAL'));
    expect(() => make('hash').pop()).toThrow('map sample/hash is a hash, nothing can be taken out of it');
    expect(() => map.has(u32(1))).toThrow('map sample/queue is a queue and no bloom filter');
  });

  test('a bloom filter has what was added, and little else', () => {
    const map = make('bloomFilter', { ...spec, maxEntries: 1000, extra: 4 });
    for (let value = 0; value < 1000; value++) map.update(NO_KEY, u32(value));
    const has = (from: number): number => Array.from({ length: 1000 }, (_, i) => map.has(u32(from + i))).filter(Boolean).length;
    expect(has(0)).toBe(1000);
    expect(has(5000)).toBeLessThan(200);
    expect(() => map.has(NO_KEY)).toThrow('a value of map sample/bloomFilter takes 4 bytes, got 0');
    expect(() => map.update(NO_KEY, u32(1), 'exist')).toThrow(errno('EINVAL'));
  });
});

describe('maps of maps', () => {
  const inner = mapSpec('hash', { name: 'sample/inner', valueSize: 8, maxEntries: 4 });

  test.each(['arrayOfMaps', 'hashOfMaps'] as const)('%s: put, found by id, replaced, taken away', async (type) => {
    const before = openFds();
    const outer = make(type, { valueSize: 4, maxEntries: 4, inner });
    expect(openFds()).toBe(before + 1); // the inner map that it was made after is gone
    const [one, two] = [createMap(inner, { cpus }), createMap(inner, { cpus })];
    open.push(one, two);
    expect(await outer.clearMap(u32(1))).toBe(false);
    await outer.setMap(u32(1), one);
    await outer.setMap(u32(3), one);
    await outer.setMap(u32(3), two);
    expect([outer.lookup(u32(0)), outer.lookup(u32(1)), outer.lookup(u32(3))]).toEqual([undefined, u32(one.id), u32(two.id)]);
    expect(keysOf(outer)).toEqual([1, 3]);
    expect(await outer.clearMap(u32(1))).toBe(true);
    expect(keysOf(outer)).toEqual([3]);
    // Closed here, it lives on under its key.
    two.close();
    expect(outer.lookup(u32(3))).toEqual(u32(two.id));
    await expect(outer.setMap(u32(1), two)).rejects.toThrow('map sample/inner is closed');
    expect(() => outer.update(u32(1), u32(1))).toThrow('holds maps, not bytes');
    await expect(outer.setMap(u32(1), make('hash'))).rejects.toMatchObject({
      errnoName: 'EINVAL',
      hint: 'an inner map must be of the kind, sizes and flags that the outer map was made for',
    });
    await expect(outer.setMap(NO_KEY, one)).rejects.toThrow('takes 4 bytes, got 0');
    await expect(make('hash').setMap(u32(1), one)).rejects.toThrow('map sample/hash is no map of maps');
  });

  test('full, and beyond the end', async () => {
    const one = createMap(inner, { cpus });
    open.push(one);
    const array = make('arrayOfMaps', { valueSize: 4, maxEntries: 2, inner });
    await expect(array.setMap(u32(2), one)).rejects.toMatchObject({ errnoName: 'E2BIG' });
    expect(await array.clearMap(u32(2))).toBe(false);
    const table = make('hashOfMaps', { valueSize: 4, maxEntries: 1, inner });
    await table.setMap(u32(1), one);
    await expect(table.setMap(u32(2), one)).rejects.toMatchObject({ errnoName: 'E2BIG' });
  });

  test('closing either map while a call is under way neither loses it nor hits another file', async () => {
    const before = openFds();
    const outer = createMap(mapSpec('hashOfMaps', { valueSize: 4, inner }), { cpus });
    const one = createMap(inner, { cpus });
    const setting = outer.setMap(u32(1), one);
    one.close();
    outer.close();
    await setting;
    expect(openFds()).toBe(before);
  });

  test('where the inner map cannot be made, nothing stays open', () => {
    const before = openFds();
    const huge = { ...inner, maxEntries: 0xffff_ffff };
    expect(() => make('arrayOfMaps', { valueSize: 4, inner: huge })).toThrow(/E2BIG|ENOMEM/);
    expect(() => make('hash', { btf: { blob: new Uint8Array(64), keyTypeId: 1, valueTypeId: 1 } })).toThrow();
    expect(openFds()).toBe(before);
  });
});

describe('what specs demand is told before the kernel is asked', () => {
  test.each<[Parameters<typeof mapSpec>, string]>([
    [['queue', {}], 'map sample/queue (queue): keySize is 4, expected 0'],
    [['cpumap', {}], 'map sample/cpumap (cpumap): valueSize is 16, expected 4 to 8'],
    [['sockhash', { valueSize: 6 }], 'map sample/sockhash (sockhash): valueSize is 6, expected 4 or 8'],
    [['arrayOfMaps', { valueSize: 4 }], 'map sample/arrayOfMaps (arrayOfMaps): inner is missing, expected a map spec'],
    [['hash', { inner: mapSpec('hash') }], 'map sample/hash (hash): inner is present, expected none'],
    [['bloomFilter', { keySize: 0, extra: 16 }], 'map sample/bloomFilter (bloomFilter): extra is 16, expected 1 to 15'],
    [['hash', { extra: 1 }], 'map sample/hash (hash): extra is 1, expected none'],
    [
      ['hashOfMaps', { valueSize: 4, inner: mapSpec('programArray') }],
      'map sample/hashOfMaps (hashOfMaps): inner is of type programArray, expected a kind that programs look things up in',
    ],
  ])('%o', (args, message) => {
    const before = openFds();
    expect(() => make(...args)).toThrow(new ArgumentError(message));
    expect(openFds()).toBe(before);
  });
});

describe('where packets are sent', () => {
  test('interfaces, by index and under any number', () => {
    for (const [type, key] of [
      ['devmap', 3],
      ['devmapHash', 70_000],
    ] as const) {
      const map = make(type, { valueSize: 4 });
      expect(map.delete(u32(key))).toBe(false);
      map.update(u32(key), u32(1));
      expect([map.lookup(u32(key)), keysOf(map)]).toEqual([u32(1), [key]]);
      expect(() => map.update(u32(key), u32(1), 'noexist')).toThrow(errno('EEXIST'));
      expect(() => map.update(u32(key), u32(0xffff))).toThrow(errno('EINVAL'));
      expect([map.delete(u32(key)), map.delete(u32(key)), keysOf(map)]).toEqual([true, false, []]);
    }
    expect(() => make('devmap', { valueSize: 4 }).update(u32(64), u32(1))).toThrow(errno('E2BIG'));
  });

  test('CPUs', () => {
    const map = make('cpumap', { valueSize: 4, maxEntries: 2 });
    expect(() => map.update(u32(0), u32(16_385))).toThrow(errno('EOVERFLOW'));
    map.update(u32(0), u32(192));
    expect([map.lookup(u32(0)), map.lookup(u32(1)), keysOf(map)]).toEqual([u32(192), undefined, [0]]);
    expect([map.delete(u32(0)), map.delete(u32(0)), map.delete(u32(2))]).toEqual([true, false, false]);
  });

  test('AF_XDP sockets, which the kernel does not give back', () => {
    const [AF_XDP, SOCK_RAW, AF_INET, SOCK_DGRAM] = [44, 3, 2, 2];
    const fd = syscall('socket', 'AF_XDP', AF_XDP, SOCK_RAW, 0);
    const second = syscall('socket', 'AF_XDP', AF_XDP, SOCK_RAW, 0);
    const other = syscall('socket', 'udp', AF_INET, SOCK_DGRAM, 0);
    try {
      const map = make('xskmap', { valueSize: 4 });
      map.update(u32(5), u32(fd), 'noexist');
      expect(() => map.update(u32(5), u32(second), 'noexist')).toThrow(errno('EEXIST'));
      expect(() => map.update(u32(6), u32(fd), 'exist')).toThrow(errno('ENOENT'));
      expect(() => map.update(u32(6), u32(other))).toThrow(errno('EOPNOTSUPP'));
      expect(() => map.lookup(u32(5))).toThrow(errno('EOPNOTSUPP'));
      map.delete(u32(5));
      map.update(u32(5), u32(fd), 'noexist');
    } finally {
      for (const each of [fd, second, other]) closeFd(each);
    }
  });
});

test('sockets: their cookies are found until they are closed', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const client = connect((server.address() as { port: number }).port, '127.0.0.1');
  await new Promise((resolve) => client.once('connect', resolve));
  const fd = BigInt((client as unknown as { _handle: { fd: number } })._handle.fd);
  const peer = await accepted;
  try {
    for (const type of ['sockmap', 'sockhash'] as const) {
      const map = make(type, { valueSize: 8, maxEntries: 2 });
      expect(map.delete(u32(1))).toBe(false);
      map.update(u32(1), u64(fd));
      const [cookie] = new BigUint64Array(map.lookup(u32(1))?.slice().buffer ?? new ArrayBuffer(8));
      expect(cookie).toBeGreaterThan(0n);
      expect(keysOf(map)).toEqual([1]);
      expect(() => map.update(u32(1), u64(fd), 'noexist')).toThrow(errno('EEXIST'));
      expect(() => map.update(u32(0), u64(fd), 'exist')).toThrow(errno('ENOENT'));
      expect(() => map.update(u32(0), u64(9999n))).toThrow(errno('EBADF'));
    }
    expect(() => make('sockmap', { valueSize: 8, maxEntries: 2 }).update(u32(7), u64(fd))).toThrow(errno('E2BIG'));
    const map = make('sockhash', { valueSize: 8, maxEntries: 2 });
    map.update(u32(7), u64(fd));
    client.destroy();
    await new Promise((resolve) => client.once('close', resolve));
    expect(keysOf(map)).toEqual([]);
  } finally {
    for (const socket of [client, peer]) socket.destroy();
    server.close();
  }
});

test('batches of large values are read in parts, and deletes say how many were there', () => {
  const map = make('perCpuHash', { valueSize: 32_768, maxEntries: 200 });
  for (let key = 0; key < 200; key++) map.update(u32(key), new Uint8Array(map.valueStride).fill(key));
  const all = map.readAll();
  expect(all.count).toBe(200);
  expect(keysOf(map)).toEqual(Array.from({ length: 200 }, (_, key) => key));
  const wanted = Uint32Array.of(400, 5, 401, 402, 6, 7, 403);
  expect(map.deleteBatch(new Uint8Array(wanted.buffer), 7)).toBe(3);
  expect(map.deleteBatch(new Uint8Array(wanted.buffer), 7)).toBe(0);
  const devices = make('devmap', { valueSize: 4 });
  devices.update(u32(1), u32(1));
  expect(devices.deleteBatch(new Uint8Array(Uint32Array.of(0, 1).buffer), 2)).toBe(1);
});
