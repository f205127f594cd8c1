import { BtfBuilder, insn, isPerCpu, MapFlag, type MapType } from '@tailrace/bpf';
import { afterEach, expect, test } from 'vitest';
import { objectInfo } from './bpf.ts';
import { dropProgram, mapSpec, openFds, passProgram, programSpec, u32 } from './fixture.ts';
import { createMap, type KernelMap } from './map.ts';
import { possibleCpus } from './privilege.ts';
import { loadProgram } from './program.ts';

const cpus = possibleCpus();
const open: KernelMap[] = [];

function make(...args: Parameters<typeof mapSpec>): KernelMap {
  const map = createMap(mapSpec(...args), { cpus });
  open.push(map);
  return map;
}

afterEach(() => {
  for (const map of open.splice(0)) map.close();
});

/** A key whose LPM prefix is whole. */
function key(map: KernelMap, value: number): Uint8Array {
  return map.spec.type === 'lpmTrie' ? Uint8Array.of(...u32(32), ...u32(value)) : u32(value);
}

function value(map: KernelMap, seed: number): Uint8Array {
  return Uint8Array.from({ length: map.valueStride }, (_, index) => (seed * 7 + index) & 0xff);
}

const kinds: readonly MapType[] = ['array', 'hash', 'perCpuArray', 'perCpuHash', 'lruHash', 'lruPerCpuHash', 'lpmTrie'];

test.each(kinds)('%s: an entry is written, read, found, deleted', (type) => {
  const map = make(type);
  const isArray = type === 'array' || type === 'perCpuArray';
  expect(map.valueStride).toBe(isPerCpu(type) ? 16 * cpus : 16);
  expect(map.lookup(key(map, 3))).toEqual(isArray ? new Uint8Array(map.valueStride) : undefined);
  map.update(key(map, 3), value(map, 1));
  expect(map.lookup(key(map, 3))).toEqual(value(map, 1));
  expect(map.nextKey()).toEqual(key(map, isArray ? 0 : 3));
  if (isArray) {
    expect(() => map.delete(key(map, 3))).toThrow('EINVAL');
    expect(map.nextKey(u32(map.spec.maxEntries - 1))).toBeUndefined();
  } else {
    expect(map.nextKey(key(map, 3))).toBeUndefined();
    expect(map.delete(key(map, 3))).toBe(true);
    expect(map.delete(key(map, 3))).toBe(false);
    expect(map.nextKey()).toBeUndefined();
  }
});

test.each(kinds)('%s: batches say what single calls say', (type) => {
  const map = make(type);
  const count = type === 'array' || type === 'perCpuArray' ? map.spec.maxEntries : 40;
  const keys = Array.from({ length: count }, (_, index) => key(map, index));
  const batch = {
    count,
    keys: Uint8Array.from(keys.flatMap((bytes) => [...bytes])),
    values: Uint8Array.from(keys.flatMap((_, index) => [...value(map, index)])),
  };
  map.updateBatch(batch);
  expect(map.lookup(key(map, 39))).toEqual(value(map, 39));
  const all = map.readAll();
  expect(all.count).toBe(count);
  const read = new Map<string, string>();
  for (let index = 0; index < all.count; index += 1) {
    const { keySize } = map.spec;
    const bytes = all.values.subarray(index * map.valueStride, (index + 1) * map.valueStride);
    read.set(hex(all.keys.subarray(index * keySize, (index + 1) * keySize)), hex(bytes));
  }
  expect(read).toEqual(new Map(keys.map((bytes, index) => [hex(bytes), hex(value(map, index))])));
  if (type === 'array' || type === 'perCpuArray') return;
  // Every other key is not there.
  const some = [100, 1, 101, 2, 3, 102].flatMap((index) => [...key(map, index)]);
  map.deleteBatch(Uint8Array.from(some), 6);
  expect(map.readAll().count).toBe(count - 3);
});

test('a large hash is read whole, in several batches', () => {
  const map = make('hash', { maxEntries: 50_000 });
  const keys = new Uint8Array(Uint32Array.from({ length: 50_000 }, (_, index) => index * 3).buffer);
  map.updateBatch({ count: 50_000, keys, values: new Uint8Array(50_000 * 16) });
  const all = map.readAll();
  expect(all.count).toBe(50_000);
  expect(new Set(new Uint32Array(all.keys.slice().buffer)).size).toBe(50_000);
});

test('errors carry the errno: full, there already, not there', () => {
  const map = make('hash', { maxEntries: 1 });
  expect(() => map.update(u32(1), value(map, 0), 'exist')).toThrow(expect.objectContaining({ errnoName: 'ENOENT' }));
  map.update(u32(1), value(map, 0), 'noexist');
  expect(() => map.update(u32(1), value(map, 0), 'noexist')).toThrow(expect.objectContaining({ errnoName: 'EEXIST' }));
  expect(() => map.update(u32(2), value(map, 0))).toThrowErrorMatchingInlineSnapshot(
    `[SyscallError: bpf(BPF_MAP_UPDATE_ELEM) for map sample/hash failed: E2BIG, argument list too long]`,
  );
  expect(() => map.updateBatch({ count: 2, keys: Uint8Array.of(...u32(1), ...u32(2)), values: new Uint8Array(32) })).toThrow(
    'map sample/hash (1 of 2 entries written) failed: E2BIG',
  );
});

test('lengths are checked before the kernel reads memory', () => {
  const map = make('hash');
  expect(() => map.lookup(new Uint8Array(3))).toThrowErrorMatchingInlineSnapshot(
    `[ArgumentError: a key of map sample/hash takes 4 bytes, got 3]`,
  );
  expect(() => map.update(u32(1), new Uint8Array(17))).toThrow('a value of map sample/hash takes 16 bytes, got 17');
  expect(() => map.updateBatch({ count: 2, keys: u32(1), values: new Uint8Array(32) })).toThrow('takes 8 bytes, got 4');
  expect(() => map.deleteBatch(u32(1), 2)).toThrow('takes 8 bytes, got 4');
});

test('the kernel shows the name, cut to what it takes, and the BTF of key and value', () => {
  const before = openFds();
  const builder = new BtfBuilder();
  const keyTypeId = builder.int('u32', 4, 'unsigned');
  const valueTypeId = builder.int('u64', 8, 'unsigned');
  const map = make('hash', {
    name: 'l4lb-long/connections',
    valueSize: 8,
    btf: { blob: builder.toBytes(), keyTypeId, valueTypeId },
  });
  // struct bpf_map_info: name[16] at 24, btf_id at 64, btf_key_type_id, btf_value_type_id.
  const info = objectInfo(map.fd, 88, 'a map');
  expect(Buffer.from(info.buffer, 24, 16).toString()).toBe('l4lb_long_conne\0');
  expect([info.getUint32(68, true), info.getUint32(72, true)]).toEqual([keyTypeId, valueTypeId]);
  map.close();
  expect(openFds()).toBe(before);
});

test('BTF that the kernel refuses names the reason', () => {
  const before = openFds();
  expect(() => make('hash', { btf: { blob: new Uint8Array(64), keyTypeId: 1, valueTypeId: 1 } })).toThrow(
    expect.objectContaining({ syscall: 'bpf(BPF_BTF_LOAD)', hint: 'the kernel says of the BTF: Invalid magic' }),
  );
  expect(openFds()).toBe(before);
});

test('a frozen map is read and no longer written; programs that only read know its values', async () => {
  const map = make('array', { maxEntries: 1, flags: MapFlag.readOnlyProgram });
  map.update(u32(0), value(map, 5));
  map.freeze();
  expect(() => map.update(u32(0), value(map, 6))).toThrow('EPERM');
  expect(map.lookup(u32(0))).toEqual(value(map, 5));
  // The verifier walks one side of a branch on a value that it knows, and refuses the other nowhere.
  const known = value(map, 5).at(2) ?? 0;
  const mapReferences = [{ pc: 0, map: 'constants', valueOffset: 2 }];
  const instructions = [insn.wideMapValue(1, 0), insn.load(1, 0, 1, 0), insn.jump('eq', 0, known, 1), insn.load(8, 0, 0, 0), insn.exit()];
  const program = await loadProgram(programSpec('sample.constant', instructions, { mapReferences }), new Map([['constants', map]]));
  expect((await program.testRun({ packet: new Uint8Array(64) })).returnValue).toBe(known);
  program.close();
});

test('a closed map throws, and closing twice is harmless', () => {
  const map = make('hash');
  map.close();
  map.close();
  expect(map.closed).toBe(true);
  expect(() => map.lookup(u32(1))).toThrow('map sample/hash is closed');
  expect(() => map.readAll()).toThrow('map sample/hash is closed');
});

test('program arrays: slots are set, called, replaced, cleared', async () => {
  const array = make('programArray', { maxEntries: 4 });
  const before = openFds();
  // r1 = ctx stays; tail call to slot 1, else return 0.
  const root = programSpec('sample.root', [insn.wideMap(2), insn.mov(3, 1), insn.call(12), insn.mov(0, 0), insn.exit()], {
    mapReferences: [{ pc: 0, map: 'next' }],
  });
  const entry = await loadProgram(root, new Map([['next', array]]));
  const pass = await loadProgram(passProgram, new Map());
  const drop = await loadProgram(dropProgram, new Map());
  const verdict = async () => (await entry.testRun({ packet: new Uint8Array(64) })).returnValue;
  expect(await verdict()).toBe(0);
  await array.setProgram(1, pass);
  expect(await verdict()).toBe(2);
  await array.setProgram(1, drop);
  expect(await verdict()).toBe(1);
  await array.clearProgram(1);
  await array.clearProgram(1);
  expect(await verdict()).toBe(0);

  await expect(array.setProgram(4, pass)).rejects.toThrow('map sample/programArray has slots 0 to 3, got 4');
  await expect(make('hash').setProgram(0, pass)).rejects.toThrow('map sample/hash is no program array');
  expect(() => array.update(u32(0), u32(0))).toThrow('map sample/programArray holds programs, not bytes');
  const noFrags = await loadProgram({ ...passProgram, frags: false }, new Map());
  await expect(array.setProgram(0, noFrags)).rejects.toMatchObject({
    errnoName: 'EINVAL',
    hint: 'programs that name or fill one program array must agree on type, frags flag and expected attach type',
  });
  // Closing while a slot is being set neither loses the call nor hits another file.
  const setting = array.setProgram(2, pass);
  pass.close();
  await setting;
  for (const program of [entry, drop, noFrags]) program.close();
  expect(openFds()).toBe(before + 1); // the hash made above
});

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
