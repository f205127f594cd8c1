/** Pins in the BPF file system of this machine: what outlives its engine, who may have it, and what is refused. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, statSync } from 'node:fs';
import { insn } from '@tailrace/bpf';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type KernelInstance, kernel } from './engine.ts';
import { mapSpec, openFds, passProgram, programSpec, u32 } from './fixture.ts';
import { createNamespace, type NetworkNamespace } from './netns.ts';
import { readLink } from './pinned-link.ts';
import { Rtnetlink } from './rtnetlink.ts';
import { failureTaken, injectFailure } from './syscall.ts';

const name = `test.${process.pid}`;
const path = `/sys/fs/bpf/tailrace/test%2E${process.pid}`;
let namespace: NetworkNamespace;
let route: Rtnetlink;
let engine: KernelInstance;

beforeAll(async () => {
  namespace = createNamespace();
  route = new Rtnetlink(namespace);
  route.createVeth({ name: 'one' }, { name: 'two' });
  engine = await kernel({ interfaces: ['one', 'two'], netns: namespace }).open();
});

afterEach(async () => {
  // a test that failed may hold it
  engine.pins.release();
  await engine.pins.take(name).destroy();
});

afterAll(async () => {
  await engine.close();
  route.close();
  namespace.close();
});

const open = () => kernel({ interfaces: ['one', 'two'], netns: namespace }).open();
const load = (of = passProgram) => engine.loadProgram(of, new Map());
const filter = programSpec('sample.next', [insn.mov(0, -1), insn.exit()], { type: 'schedCls', frags: false });

test('a map outlives its engine, with what is in it, in a folder for this user alone', async () => {
  const first = await open();
  const folder = first.pins.take(name);
  const map = first.createMap(mapSpec('hash'));
  map.update(u32(7), new Uint8Array(16).fill(1));
  folder.pinMap('scope/m.1', map);
  folder.write('{"a":1}');
  expect(statSync(path).mode & 0o777).toBe(0o700);
  expect(statSync(`${path}/object%3Ascope%2Fm%2E1`).mode & 0o777).toBe(0o600);
  folder.release();
  await first.close();

  const again = engine.pins.take(name);
  expect(again.read()).toBe('{"a":1}');
  expect(again.list()).toEqual(['scope/m.1']);
  expect(again.openMap('scope/m.1', mapSpec('hash')).lookup(u32(7))).toEqual(new Uint8Array(16).fill(1));
  expect(() => again.openMap('scope/m.1', mapSpec('hash', { maxEntries: 99 }))).toThrow(
    `the map pinned at ${path}/object%3Ascope%2Fm%2E1 has maxEntries 64, expected 99`,
  );
  expect(() => again.openMap('scope/m.1', mapSpec('array'))).toThrow(/has type hash, expected array/);
  const events = mapSpec('perfEventArray', { valueSize: 4, maxEntries: 0 });
  again.pinMap('events', engine.createMap(events));
  expect(again.openMap('events', events).spec.maxEntries).toBe(engine.cpus);
  again.release();
  expect(() => again.list()).toThrow(/were let go/);
});

test('a text is replaced whole', () => {
  const folder = engine.pins.take(name);
  expect(folder.read()).toBeUndefined();
  for (const text of ['short', 'x'.repeat(100_000), 'ü']) {
    folder.write(text);
    expect(folder.read()).toBe(text);
    expect(engine.pins.read(name)).toBe(text);
  }
  expect(folder.list()).toEqual([]);
  folder.release();
});

test('one process has a folder at a time, and it is told which', async () => {
  const folder = engine.pins.take(name);
  expect(() => engine.pins.take(name)).toThrow(`pipeline '${name}' belongs to process ${process.pid}`);
  expect(engine.pins.list()).toContainEqual({ name, owner: process.pid, links: [] });
  folder.release();
  // there was nothing in it
  expect(engine.pins.list().map((pinned) => pinned.name)).not.toContain(name);

  const child = await holder();
  expect(() => engine.pins.take(name)).toThrow(`pipeline '${name}' belongs to process ${child.pid}`);
  child.kill('SIGKILL');
  await once(child, 'exit');
  engine.pins.take(name).release();
});

/** Another process that takes the folder and sits on it. */
async function holder(): Promise<ChildProcess> {
  const code = `
    import { kernel } from '${import.meta.dirname}/engine.ts';
    const engine = await kernel({ interfaces: [] }).open();
    engine.pins.take('${name}');
    process.stdout.write('taken');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

test('links stay when the engine goes, are found again, led to another program, and taken off', async () => {
  const first = await open();
  const folder = first.pins.take(name);
  for (const hook of ['xdp', 'tcIngress', 'tcEgress'] as const) {
    const program = await first.loadProgram(hook === 'xdp' ? passProgram : filter, new Map());
    const { interfaces, modes } = await folder.attach(program, hook);
    expect(interfaces).toEqual(['one', 'two']);
    expect([...modes.values()]).toEqual(hook === 'xdp' ? ['native', 'native'] : ['tcx', 'tcx']);
    folder.pinProgram(hook, program);
  }
  folder.release();
  await first.close();
  const attached = () => ['one', 'two'].map((end) => route.interface(end).xdp.map(({ programId }) => programId));

  const again = engine.pins.take(name);
  const program = again.openProgram('xdp', passProgram);
  expect(attached()).toEqual([[program.id], [program.id]]);
  const adopted = await again.attach(program, 'xdp');
  await adopted.detach();
  expect(attached()).toEqual([[program.id], [program.id]]);

  const other = await load();
  const led = await again.attach(other, 'xdp');
  expect(attached()).toEqual([[other.id], [other.id]]);
  await led.detach();
  expect(attached()).toEqual([[program.id], [program.id]]);

  expect(again.links()).toHaveLength(6);
  await again.detach({ hook: 'xdp', interface: 'one' });
  expect(attached()).toEqual([[], [program.id]]);
  await again.destroy();
  expect(attached()).toEqual([[], []]);
  expect(engine.pins.list().map((pinned) => pinned.name)).not.toContain(name);
});

test('a link whose interface was made anew is made anew', async () => {
  const [own, ends] = [createNamespace(), { a: { name: 'one' }, b: { name: 'two' } }];
  const rt = new Rtnetlink(own);
  rt.createVeth(ends.a, ends.b);
  const first = await kernel({ interfaces: ['one'], netns: own }).open();
  const folder = first.pins.take(name);
  await folder.attach(await first.loadProgram(passProgram, new Map()), 'xdp');
  folder.release();
  await first.close();
  rt.delete('one');
  expect(readLink(`${path}/link%3Axdp%3Aone`)?.ifindex).toBe(0);
  rt.createVeth(ends.a, ends.b);
  const second = await kernel({ interfaces: ['one'], netns: own }).open();
  const again = second.pins.take(name);
  const program = await second.loadProgram(passProgram, new Map());
  await again.attach(program, 'xdp');
  expect(rt.interface('one').xdp.map(({ programId }) => programId)).toEqual([program.id]);
  await again.destroy();
  await second.close();
  rt.close();
  own.close();
});

test('a program array keeps its programs while it is pinned', async () => {
  const first = await open();
  const folder = first.pins.take(name);
  const array = first.createMap(mapSpec('programArray', { maxEntries: 2 }));
  folder.pinMap('array', array);
  const program = await first.loadProgram(passProgram, new Map());
  await array.setProgram(1, program);
  folder.release();
  await first.close();
  const again = engine.pins.take(name);
  const opened = again.openMap('array', mapSpec('programArray', { maxEntries: 2 }));
  expect(again.programAt(opened, 0, passProgram)).toBeUndefined();
  expect(again.programAt(opened, 1, passProgram)?.id).toBe(program.id);
  again.release();
});

test('a folder that others can use is refused, and where no bpffs is', async () => {
  mkdirSync(path, { mode: 0o700, recursive: true });
  chmodSync(path, 0o755);
  expect(() => engine.pins.take(name)).toThrow(`${path} has mode 755, expected a folder of this user's that nobody else can use`);
  chmodSync(path, 0o700);
  const elsewhere = await kernel({ interfaces: [], bpffs: '/tmp' }).open();
  expect(() => elsewhere.pins.take(name)).toThrow('no BPF file system is mounted at /tmp');
  await elsewhere.close();
  engine.pins.take(name).release();
  expect(existsSync(path)).toBe(false);
});

test('whatever call fails, nothing of it stays', async () => {
  const program = await load();
  const links = () => ['one', 'two'].flatMap((end) => route.interface(end).xdp ?? []).length;
  const before = openFds();
  const operations: Readonly<Record<string, () => Promise<void> | void>> = {
    take: () => engine.pins.take(name).release(),
    text: () => {
      const folder = engine.pins.take(name);
      try {
        folder.write('text');
        folder.read();
      } finally {
        folder.release();
      }
    },
    attach: async () => {
      const folder = engine.pins.take(name);
      try {
        const { detach } = await folder.attach(program, 'xdp');
        injectFailure(0);
        await detach();
      } finally {
        folder.release();
      }
    },
  };
  for (const [title, operate] of Object.entries(operations)) {
    let failures = 0;
    for (let nth = 1; ; nth += 1) {
      injectFailure(nth);
      const outcome = await Promise.resolve()
        .then(operate)
        .catch((error: unknown) => error);
      const taken = failureTaken();
      injectFailure(0);
      expect(openFds(), `${title}, call ${nth}`).toBe(before);
      expect(links(), `${title}, call ${nth}`).toBe(0);
      if (!taken || outcome === undefined) break;
      failures += 1;
    }
    expect(failures, title).toBeGreaterThan(1);
  }
});
