/** Pipelines that outlive their process: what the next one finds, takes over, refuses and deletes. */
import { existsSync, readdirSync } from 'node:fs';
import { kernel } from '@tailrace/kernel';
import { hash, override, stage, struct, u32, u64 } from '@tailrace/stage';
import { eventually, Wire } from '@tailrace/testing';
import { userspace } from '@tailrace/userspace';
import { firstValueFrom } from 'rxjs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { forgetKept, keptPipelines, stopKept } from './kept.ts';
import { pipeline } from './pipeline.ts';
import type { EngineMapRegistry } from './registry.ts';
import { MapRegistry, MapStore } from './service.ts';

const name = `persist-${process.pid}`;
const folder = `/sys/fs/bpf/tailrace/${name}`;
let wire: Wire;

beforeAll(() => {
  wire = new Wire();
});

afterAll(() => wire.close());

/** A process's own declarations: another one has others, of the same names. */
function declared() {
  const seen = hash({ name: 'seen', key: u32, value: u64, maxEntries: 8 });
  const mark = stage({
    name: 'mark',
    hook: 'xdp',
    writes: { colour: u32 },
    program(ctx) {
      ctx.meta.colour = 7;
      return ctx.next();
    },
  });
  const count = stage({
    name: 'count',
    hook: 'xdp',
    uses: { seen },
    program(ctx, { seen }) {
      const entry = seen.lookup(ctx.length);
      if (entry) entry.value += 1n;
      return ctx.next();
    },
  });
  const check = stage({
    name: 'check',
    hook: 'tcIngress',
    reads: { colour: u32 },
    program: (ctx) => (ctx.meta.colour === 7 ? ctx.drop('marked') : ctx.next()),
  });
  return { seen, mark, count, check, edge: pipeline(name, { xdp: [mark, count], tcIngress: [check] }) };
}

/** Frames of a length that nothing else sends. */
function send(count: number, length = 321): void {
  for (let i = 0; i < count; i++) {
    const frame = new Uint8Array(length).fill(0xff, 0, 6);
    frame.set([0x88, 0xb5], 12);
    wire.left.send(frame);
  }
}

const until = (holds: () => boolean): Promise<boolean> => eventually(holds, 1_000, 'what was sent');

test('left and run again: entries, counters and links are as they were, packets went on in between', async () => {
  const first = declared();
  const one = await first.edge.run(wire.engine(), { persist: true });
  const { programId } = wire.route.interface('right').xdp[0] ?? {};
  one.map(first.seen).set(321, 0n);
  send(10);
  await until(() => one.stats().tcIngress.check.packets >= 10n);
  await one.leave();
  await one.leave();
  expect(() => one.stats()).toThrow('was stopped');
  expect(wire.route.interface('right').xdp[0]?.programId).toBe(programId);
  send(7);

  const second = declared();
  const two = await second.edge.run(wire.engine(), { persist: true });
  expect(wire.route.interface('right').xdp[0]?.programId).toBe(programId);
  expect(two.map(second.seen).get(321)).toBe(17n);
  send(5);
  await until(() => two.map(second.seen).get(321) === 22n);
  expect(two.map(second.seen).get(321)).toBe(22n);
  const { xdp, tcIngress, roots } = two.stats();
  expect(xdp.count.packets).toBeGreaterThanOrEqual(22n);
  expect(xdp.mark.packets).toBe(xdp.count.packets);
  expect(tcIngress.check.drops).toEqual({ marked: xdp.count.packets });
  expect(roots).toEqual({ xdp: { misses: 0n, withoutMetadata: 0n }, tcIngress: { misses: 0n, withoutMetadata: 0n } });
  await two.stop();
  expect(existsSync(folder)).toBe(false);
  expect(wire.route.interface('right').xdp).toEqual([]);
});

test('swaps are kept too, and what they leave behind goes', async () => {
  const first = declared();
  const one = await first.edge.run(wire.engine(), { persist: true });
  one.map(first.seen).set(321, 0n);
  const pins = readdirSync(folder).length;
  for (let i = 0; i < 3; i++) {
    const spare = hash({ name: `spare${i}`, key: u32, value: u32, maxEntries: 1 });
    const { count } = declared();
    await one.replace(
      first.count,
      stage({ name: 'count', hook: 'xdp', uses: { seen: first.seen, spare }, program: count.program as never }),
    );
  }
  await one.leave();
  send(4);
  const second = declared();
  const two = await second.edge.run(wire.engine(), { persist: true });
  expect(two.map(second.seen).get(321)).toBe(4n);
  expect(two.orphans).toEqual([`${name}/spare0`, `${name}/spare1`, `${name}/spare2`]);
  two.forget(`${name}/spare1`);
  expect(two.orphans).toEqual([`${name}/spare0`, `${name}/spare2`]);
  expect(() => two.forget(`${name}/seen`)).toThrow(`pipeline '${name}' uses map '${name}/seen'`);
  for (const spare of two.orphans) two.forget(spare);
  expect(readdirSync(folder)).toHaveLength(pins);
  await two.stop();
});

test('its age is told from outside: each change and each process that takes it is a generation', async () => {
  await using outside = await kernel({ interfaces: [] }).open();
  const age = () => keptPipelines(outside).find((kept) => kept.name === name)?.age;
  const begin = Date.now();
  const first = declared();
  const one = await first.edge.run(wire.engine(), { persist: true });
  const began = age()?.began as Date;
  expect(began.getTime()).toBeGreaterThanOrEqual(begin);
  expect(age()).toEqual({ began, changed: began, generation: 1 });
  const { count } = declared();
  await one.replace(first.count, stage({ name: 'count', hook: 'xdp', uses: { seen: first.seen }, program: count.program as never }));
  const changed = age()?.changed as Date;
  expect(changed.getTime()).toBeGreaterThan(began.getTime());
  expect(age()).toEqual({ began, changed, generation: 2 });
  // what fails, and what leaves, is none
  await expect(one.replace({ ...first.mark, name: 'nobody' } as never, first.mark as never)).rejects.toThrow();
  await one.leave();
  expect(age()).toEqual({ began, changed, generation: 2 });
  const two = await declared().edge.run(wire.engine(), { persist: true });
  expect(age()).toMatchObject({ began, generation: 3 });
  await two.stop();
});

test('a map that differs is refused with its fields, and everything stays', async () => {
  const first = declared();
  const one = await first.edge.run(wire.engine(), { persist: true });
  one.map(first.seen).set(321, 5n);
  await one.leave();
  const { mark, check } = declared();
  const before = readdirSync(folder);
  const seen = hash({ name: 'seen', key: u32, value: u64, maxEntries: 16 });
  const touch = stage({
    name: 'count',
    hook: 'xdp',
    uses: { seen },
    program: (ctx, { seen }) => (seen.lookup(ctx.length) ? ctx.drop() : ctx.next()),
  });
  const larger = pipeline(name, { xdp: [mark, touch], tcIngress: [check] });
  await expect(larger.run(wire.engine(), { persist: true })).rejects.toThrow(
    `map '${name}/seen' as it is declared, and as it is pinned: maxEntries is 16 and 8`,
  );
  const rich = hash({ name: 'seen', key: u32, value: struct({ packets: u64, bytes: u64 }), maxEntries: 8 });
  const wide = stage({
    name: 'count',
    hook: 'xdp',
    uses: { rich },
    program: (ctx, { rich }) => (rich.lookup(ctx.length) ? ctx.drop() : ctx.next()),
  });
  const wider = pipeline(name, { xdp: [mark, wide], tcIngress: [check] });
  await expect(wider.run(wire.engine(), { persist: true })).rejects.toThrow('value is { packets: u64, bytes: u64 } and u64');
  expect(readdirSync(folder)).toEqual(before);
  send(3);
  const again = declared();
  const two = await again.edge.run(wire.engine(), { persist: true });
  expect(two.map(again.seen).get(321)).toBe(8n);
  await two.stop();
});

test('two never have it at once, and elsewhere or at other hooks it is another', async () => {
  const one = await declared().edge.run(wire.engine(), { persist: true });
  await expect(declared().edge.run(wire.engine(), { persist: true })).rejects.toThrow(
    `pipeline '${name}' belongs to process ${process.pid}`,
  );
  await one.leave();
  const { mark, count } = declared();
  await expect(pipeline(name, { xdp: [mark, count] }).run(wire.engine(), { persist: true })).rejects.toThrow(
    `pipeline '${name}' is pinned at xdp, tcIngress, and cannot be run at xdp`,
  );
  await expect(declared().edge.run(kernel({ interfaces: ['lo'] }), { persist: true })).rejects.toMatchObject({
    code: 'conflict',
    differences: [{ field: 'network namespace' }],
  });
  await (await declared().edge.run(wire.engine(), { persist: true })).stop();
});

test('what starts anew and fails leaves nothing', async () => {
  const { mark, count } = declared();
  const taken = pipeline('other', { xdp: [mark] });
  await using other = await taken.run(wire.engine());
  await expect(pipeline(name, { xdp: [mark, count] }).run(wire.engine(), { persist: true })).rejects.toMatchObject({ code: 'conflict' });
  expect(existsSync(folder)).toBe(false);
  await other.stop();
});

test('disposing of it leaves it; without persist there is nothing to leave', async () => {
  {
    await using running = await declared().edge.run(wire.engine(), { persist: true });
    expect(running.orphans).toEqual([]);
  }
  expect(existsSync(folder)).toBe(true);
  await (await declared().edge.run(wire.engine(), { persist: true })).stop();
  const plain = await declared().edge.run(wire.engine());
  await expect(plain.leave()).rejects.toThrow('is not persistent');
  expect(() => plain.forget('x')).toThrow('is not persistent');
  await plain.stop();
});

test('from outside it is listed, its maps are deleted by name, and so is all of it', async () => {
  await using outside = await kernel({ interfaces: [] }).open();
  const mine = () => keptPipelines(outside).find((kept) => kept.name === name);
  const first = declared();
  const one = await first.edge.run(wire.engine(), { persist: true });
  const links = [
    { hook: 'tcIngress', interface: 'right' },
    { hook: 'xdp', interface: 'right' },
  ];
  const seen = { name: `${name}/seen`, type: 'hash', maxEntries: 8, entries: 0, used: true };
  expect(mine()).toEqual({ name, owner: process.pid, age: mine()?.age, links, hooks: ['xdp', 'tcIngress'], maps: [seen] });
  await expect(stopKept(outside, name)).rejects.toThrow(`belongs to process ${process.pid}`);
  for (const length of [60, 61, 62]) one.map(first.seen).set(length, 0n);
  expect(mine()?.maps).toEqual([{ ...seen, entries: 3 }]);
  await one.leave();
  expect(mine()?.owner).toBeUndefined();

  expect(() => forgetKept(outside, name, `${name}/other`)).toThrow(`has no map '${name}/other'`);
  forgetKept(outside, name, `${name}/seen`);
  expect(mine()?.maps).toEqual([]);
  const again = declared();
  const two = await again.edge.run(wire.engine(), { persist: true });
  expect(two.map(again.seen).size).toBe(0);
  await two.leave();

  await stopKept(outside, name);
  expect(mine()).toBeUndefined();
  expect(wire.route.interface('right').xdp).toEqual([]);
  await expect(stopKept(outside, name)).rejects.toThrow(`no pipeline '${name}' is pinned`);
});

test('one that another version wrote is listed with that, hides no other, and can be stopped', async () => {
  await using outside = await kernel({ interfaces: [] }).open();
  const one = await declared().edge.run(wire.engine(), { persist: true });
  await one.leave();
  const folder = outside.pins.take(name);
  folder.write('{"format":1}');
  folder.release();
  expect(keptPipelines(outside).find((kept) => kept.name === name)).toMatchObject({
    problem: 'they are told of in form 1, expected 2',
    age: undefined,
    hooks: [],
    maps: [],
  });
  await expect(declared().edge.run(wire.engine(), { persist: true })).rejects.toThrow(
    `the pins of pipeline '${name}': they are told of in form 1, expected 2`,
  );
  await stopKept(outside, name);
  expect(wire.route.interface('right').xdp).toEqual([]);
});

test('a registry of its own is refused before anything is made: its maps would end with the process', async () => {
  const { edge } = declared();
  const registry = { hold: expect.unreachable } as unknown as EngineMapRegistry;
  const services = [override(MapRegistry, registry)];
  await expect(edge.run(wire.engine(), { persist: true, services })).rejects.toThrow(
    'a MapRegistry of its own makes maps that end with the process, which persist keeps',
  );
  expect(existsSync(folder)).toBe(false);
});

test('what cannot outlive its process says so', async () => {
  const { mark, count } = declared();
  await expect(pipeline(name, { xdp: [mark, count] }).run(userspace(), { persist: true })).rejects.toThrow(
    `pipeline '${name}': the userspace engine keeps nothing beyond its process, which persist asks for`,
  );
  const talk = stage({ name: 'talk', hook: 'sockOps', program: (ctx) => ctx.pass() });
  await expect(
    pipeline('talks', { sockOps: [talk] }).run(kernel({ interfaces: [] }), { persist: true }),
  ).rejects.toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: pipeline 'talks': its chain at socket events cannot outlive the process, whose sockets end with it]`,
  );
  expect(existsSync('/sys/fs/bpf/tailrace/talks')).toBe(false);
});

test('a store of its own sees maps that were left, and may stay out of them', async () => {
  const { edge, seen } = declared();
  const log: string[] = [];
  const store: MapStore = {
    opened: ({ name, isNew }) => void log.push(`${name} opened${isNew ? ', new' : ''}`),
    closing: ({ name, loaded }) => void log.push(`${name} closing with ${loaded.readAll().count}`),
  };
  const services = [override(MapStore, store)];
  const first = await edge.run(wire.engine(), { persist: true, services });
  first.map(seen).set(7, 1n);
  await first.leave();
  await (await edge.run(wire.engine(), { persist: true, services })).stop();
  expect(log).toEqual(
    ['NAME/seen opened, new', 'NAME/seen closing with 1', 'NAME/seen opened', 'NAME/seen closing with 1'].map((line) =>
      line.replace('NAME', name),
    ),
  );
});

test('a canary that is rolled back leaves the pins as they were, one that is promoted is kept', async () => {
  const long = stage({ name: 'long', hook: 'xdp', program: (ctx) => (ctx.length === 321 ? ctx.exit('canary') : ctx.next()) });
  const first = declared();
  const one = await first.edge.run(wire.engine(), { persist: true });
  one.map(first.seen).set(321, 0n);
  const pins = readdirSync(folder).sort();
  const extra = hash({ name: 'extra', key: u32, value: u64, maxEntries: 8 });
  const count = stage({
    name: 'count',
    hook: 'xdp',
    uses: { seen: first.seen, extra },
    program(ctx, { seen, extra }) {
      const entry = seen.lookup(ctx.length);
      if (entry) entry.value += 1000n;
      extra.update(ctx.length, 1n);
      return ctx.next();
    },
  });
  const next = pipeline(name, { xdp: [first.mark, count], tcIngress: [first.check] });
  const trial = await one.canary(next, { match: [long, long.at('tc')] });
  send(3);
  await until(() => trial.stats().canary.tcIngress.check.packets === 3n);
  expect(one.map(first.seen).get(321)).toBe(3000n);
  await trial.rollBack();
  expect(readdirSync(folder).sort()).toEqual(pins);
  expect(one.orphans).toEqual([]);
  const again = await one.canary(next, { match: [long, long.at('tc')] });
  await again.promote();
  // left with a canary: that is rolled back, and what was promoted before stays
  await one.canary(first.edge, { match: [long, long.at('tc')] });
  await one.leave();
  send(2);
  const second = declared();
  const two = await second.edge.run(wire.engine(), { persist: true });
  expect(two.map(second.seen).get(321)).toBe(5000n);
  expect(two.orphans).toEqual([`${name}/extra`]);
  expect(two.stats().roots.xdp.misses).toBe(0n);
  await two.stop();
});

test('traces and drops are told of one process, and lost where none reads them', async () => {
  const first = declared();
  const one = await first.edge.run(wire.engine(), { persist: true, observe: { trace: { every: 1 }, drops: { bytes: 4096 } } });
  const drop = firstValueFrom(one.drops$);
  send(1);
  expect(await drop).toMatchObject({ hook: 'tcIngress', stage: 'check', reason: 'marked' });
  expect(readdirSync(folder).filter((pin) => pin.includes('observe'))).toEqual([]);
  await one.leave();
  send(300);
  const two = await declared().edge.run(wire.engine(), { persist: true });
  const { lost } = two.stats();
  expect(lost.drops).toBeGreaterThan(100n);
  await expect(firstValueFrom(two.drops$)).rejects.toThrow('the pipeline tells of no drops');
  await two.observe({ drops: true });
  const other = firstValueFrom(two.drops$);
  send(1);
  expect(await other).toMatchObject({ stage: 'check', lost: lost.drops });
  expect(two.stats().roots.xdp.misses).toBe(0n);
  await two.stop();
});
