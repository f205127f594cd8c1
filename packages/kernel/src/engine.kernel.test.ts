import { ArgumentError } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { type KernelInstance, kernel } from './engine.ts';
import { dropProgram, mapSpec, openFds, passProgram, u32 } from './fixture.ts';
import { createNamespace } from './netns.ts';
import { possibleCpus } from './privilege.ts';
import { Rtnetlink } from './rtnetlink.ts';

const packet = new Uint8Array(64);

test('an engine without interfaces loads and runs, and closes what it made', async () => {
  const before = openFds();
  const engine = await kernel({ interfaces: [] }).open();
  expect(engine.kind).toBe('kernel');
  expect(engine.cpus).toBe(possibleCpus());
  const program = await engine.loadProgram(passProgram, new Map());
  const map = engine.createMap(mapSpec('perCpuArray'));
  expect(map.lookup(u32(0))?.length).toBe(16 * engine.cpus);
  expect((await program.testRun({ packet })).returnValue).toBe(2);
  const attachment = await engine.attach(program, 'xdp');
  expect(attachment.interfaces).toEqual([]);
  await engine.gracePeriod();
  await Promise.all([engine.close(), engine.close()]);
  expect(program.closed && map.closed).toBe(true);
  expect(openFds()).toBe(before);
  expect(() => engine.createMap(mapSpec('hash'))).toThrow('the kernel engine is closed');
  await expect(engine.loadProgram(passProgram, new Map())).rejects.toThrow(ArgumentError);
  await expect(engine.gracePeriod()).rejects.toThrow(ArgumentError);
});

test('closing waits for what is under way, and closes that too', async () => {
  const before = openFds();
  const engine = await kernel({ interfaces: [] }).open();
  const loading = engine.loadProgram(passProgram, new Map());
  await engine.close();
  expect((await loading).closed).toBe(true);
  expect(openFds()).toBe(before);
});

test('what was closed early is forgotten', async () => {
  await using engine = await kernel({ interfaces: [] }).open();
  const before = openFds();
  for (let round = 0; round < 50; round += 1) {
    engine.createMap(mapSpec('array')).close();
    (await engine.loadProgram(dropProgram, new Map())).close();
  }
  expect(openFds()).toBe(before);
});

test('hundreds of calls at once wait for each other', async () => {
  await using engine = await kernel({ interfaces: [] }).open();
  const programs = await Promise.all(Array.from({ length: 300 }, () => engine.loadProgram(passProgram, new Map())));
  expect(new Set(programs.map(({ id }) => id)).size).toBe(300);
});

test('maps and programs of another engine are refused', async () => {
  await using engine: KernelInstance = await kernel({ interfaces: [] }).open();
  const map = engine.createMap(mapSpec('hash'));
  const foreign = Object.create(map) as typeof map;
  Object.setPrototypeOf(foreign, Object.prototype);
  const spec = { ...passProgram, name: 'sample.other' };
  await expect(engine.loadProgram(spec, new Map([['hash', foreign]]))).rejects.toThrow('map hash was not made by the kernel engine');
});

test('a devmap in another namespace means the interfaces there', async () => {
  using namespace = createNamespace();
  using route = new Rtnetlink(namespace);
  for (let index = 0; index < 4; index += 1) route.createVeth({ name: `a${index}` }, { name: `b${index}` });
  const { index } = route.interface('b3');
  await using engine = await kernel({ interfaces: [], netns: namespace }).open();
  const map = engine.createMap(mapSpec('devmap'));
  map.update(u32(1), u32(index));
  expect(map.lookup(u32(1))).toEqual(u32(index));
  expect(map.readAll()).toEqual({ count: 1, keys: u32(1), values: u32(index) });
  map.updateBatch({ count: 1, keys: u32(2), values: u32(index) });
  expect(map.delete(u32(1))).toBe(true);
  expect(map.lookup(u32(1))).toBeUndefined();
  expect(() => map.update(u32(1), u32(9999))).toThrow('EINVAL');
  expect((await (await engine.loadProgram(passProgram, new Map())).testRun({ packet })).returnValue).toBe(2);
});
