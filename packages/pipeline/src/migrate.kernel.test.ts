/** Maps of persistent pipelines that are declared otherwise by the next process: what comes along, and what is refused and left whole. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import type { Engine } from '@tailrace/bpf';
import { kernel } from '@tailrace/kernel';
import { hash, type Schema, stage, struct, u32, u64 } from '@tailrace/stage';
import { eventually, Wire } from '@tailrace/testing';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { stopKept } from './kept.ts';
import { type Migration, migrate } from './migration.ts';
import { pipeline } from './pipeline.ts';

const name = `migrate-${process.pid}`;
const folder = `/sys/fs/bpf/tailrace/${name}`;
let wire: Wire;

beforeAll(() => {
  wire = new Wire();
});

afterEach(async () => {
  if (!existsSync(folder)) return;
  await using outside = await kernel({ interfaces: [] }).open();
  await stopKept(outside, name);
});

afterAll(() => wire.close());

const pins = () =>
  readdirSync(folder)
    .map((pin) =>
      decodeURIComponent(pin)
        .replace(/array:\d+:/, 'array:N:')
        .replaceAll(name, 'NAME'),
    )
    .sort();

/** Counts frames by length: entries that are there already. */
function narrow(maxEntries = 64) {
  const seen = hash({ name: 'seen', key: u32, value: struct({ packets: u32 }), maxEntries });
  const count = stage({
    name: 'count',
    hook: 'xdp',
    uses: { seen },
    program(ctx, { seen }) {
      const entry = seen.lookup(ctx.length);
      if (entry) entry.packets += 1;
      return ctx.next();
    },
  });
  return { seen, edge: pipeline(name, { xdp: [count] }) };
}

/** The same, with bytes. */
function wide(maxEntries = 64) {
  const seen = hash({ name: 'seen', key: u32, value: struct({ packets: u64, bytes: u64 }), maxEntries });
  const count = stage({
    name: 'count',
    hook: 'xdp',
    uses: { seen },
    program(ctx, { seen }) {
      const entry = seen.lookup(ctx.length);
      if (entry) {
        entry.packets += 1n;
        entry.bytes += BigInt(ctx.length);
      }
      return ctx.next();
    },
  });
  return { seen, edge: pipeline(name, { xdp: [count] }) };
}

function send(count: number, length: number): void {
  for (let i = 0; i < count; i++) {
    const frame = new Uint8Array(length).fill(0xff, 0, 6);
    frame.set([0x88, 0xb5], 12);
    wire.left.send(frame);
  }
}

const until = (holds: () => boolean): Promise<boolean> => eventually(holds, 1_000, 'what was sent');

/** A narrow pipeline with entries for frames of 321 and 322 bytes, left. */
async function left() {
  const declared = narrow();
  const one = await declared.edge.run(wire.engine(), { persist: true });
  one.map(declared.seen).set(321, { packets: 0 });
  one.map(declared.seen).set(322, { packets: 1000 });
  send(4, 321);
  await until(() => one.map(declared.seen).get(321)?.packets === 4);
  await one.leave();
  return declared;
}

test('entries come along under the new schema, the old map goes, and the next process has nothing to do', async () => {
  const { seen: old } = await left();
  const before = pins();
  send(3, 321);
  const { seen, edge } = wide();
  const toWide = migrate(old, seen, (length, { packets }) => [length, { packets: BigInt(packets), bytes: BigInt(packets * length) }]);
  const two = await edge.run(wire.engine(), { persist: true, migrate: [toWide] });
  expect(two.map(seen).getAll().sort()).toEqual([
    [321, { packets: 7n, bytes: 7n * 321n }],
    [322, { packets: 1000n, bytes: 322_000n }],
  ]);
  expect(two.orphans).toEqual([]);
  expect(pins()).toEqual(before.map((pin) => pin.replace('map:', 'map:2:')));
  send(2, 321);
  await until(() => two.map(seen).get(321)?.packets === 9n);
  await two.leave();

  const again = wide();
  const three = await again.edge.run(wire.engine(), {
    persist: true,
    migrate: [migrate(old, again.seen, () => undefined)],
  });
  expect(three.map(again.seen).get(321)).toEqual({ packets: 9n, bytes: 9n * 321n });
  await three.leave();

  // and back
  const back = narrow();
  const four = await back.edge.run(wire.engine(), {
    persist: true,
    migrate: [migrate(again.seen, back.seen, (length, { packets }) => [length, { packets: Number(packets) }])],
  });
  expect(four.map(back.seen).get(321)).toEqual({ packets: 9 });
  expect(pins()).toEqual(before);
  await four.stop();
});

test('a map that only grew needs nobody to convert it', async () => {
  const { seen: old } = await left();
  const { seen, edge } = narrow(1024);
  const two = await edge.run(wire.engine(), { persist: true, migrate: [migrate(old, seen)] });
  expect(two.map(seen).getAll().sort()).toEqual([
    [321, { packets: 4 }],
    [322, { packets: 1000 }],
  ]);
  expect(two.map(seen).size).toBe(2);
  await two.stop();
});

test('whatever is refused leaves the old chain, its map and its pins', async () => {
  const { seen: old } = await left();
  const before = pins();
  const refused = async (
    migration: (seen: ReturnType<typeof wide>['seen']) => readonly Migration[],
    maxEntries?: number,
  ): Promise<unknown> => {
    const { seen, edge } = wide(maxEntries);
    const error: unknown = await edge.run(wire.engine(), { persist: true, migrate: migration(seen) }).catch((caught: unknown) => caught);
    expect(pins()).toEqual(before);
    return String(error).replaceAll(name, 'NAME');
  };
  expect(await refused(() => [])).toMatchInlineSnapshot(
    `"ConflictError: map 'NAME/seen' as it is declared, and as it is pinned: value.packets is u64 and u32, value.bytes is u64 and missing"`,
  );
  expect(await refused((seen) => [migrate(narrow(32).seen, seen, () => undefined)])).toMatchInlineSnapshot(
    `"ConflictError: map 'NAME/seen' as it is migrated from, and as it is pinned: maxEntries is 32 and 64"`,
  );
  expect(
    await refused((seen) => [
      migrate(old, seen, (length) => {
        if (length === 322) throw new TypeError('not today');
        return undefined;
      }),
    ]),
  ).toMatchInlineSnapshot(`"MigrationError: map 'NAME/seen': its entry 322 cannot be converted: not today"`);
  const all = (seen: ReturnType<typeof wide>['seen']) => [migrate(old, seen, (key) => [key, { packets: 0n, bytes: 0n }])];
  expect(await refused(all, 1)).toMatchInlineSnapshot(`"MigrationError: map 'NAME/seen': has room for 1 entries, and 2 are to come"`);
  expect(await refused(() => all(wide().seen))).toMatchInlineSnapshot(
    `"ConflictError: map 'NAME/seen' as it is declared, and as it is pinned: value.packets is u64 and u32, value.bytes is u64 and missing"`,
  );
  await expect(wide().edge.run(wire.engine(), { migrate: all(wide().seen) })).rejects.toThrow(
    'nothing of it outlives a process, so there is nothing to migrate',
  );

  send(3, 321);
  const again = narrow();
  const two = await again.edge.run(wire.engine(), { persist: true });
  await until(() => two.map(again.seen).get(321)?.packets === 7);
  expect(two.map(again.seen).get(322)).toEqual({ packets: 1000 });
  await two.stop();
});

test('a migration of a map that is not in the pipeline is refused, also where it starts anew', async () => {
  const { edge } = narrow();
  const other = narrow().seen;
  await expect(edge.run(wire.engine(), { persist: true, migrate: [migrate(other, narrow().seen)] })).rejects.toThrow(
    `migrate: map 'seen' is in no stage or controller of pipeline '${name}'`,
  );
  expect(existsSync(folder)).toBe(false);
});

/** An entry of a pinned map, as others would write or delete it. */
function bpftool(command: 'update' | 'delete', pin: string, key: number): void {
  const bytes = (value: number): string[] => [...new Uint8Array(Uint32Array.of(value).buffer)].map(String);
  const value = command === 'update' ? ['value', ...bytes(9)] : [];
  const path = `${folder}/${encodeURIComponent(`object:${pin}`)}`;
  execFileSync('bpftool', ['map', command, 'pinned', path, 'key', ...bytes(key), ...value]);
}

/** The engine of the pipeline, with something done once packets are led over. */
function engineWith(flipped: () => void): Engine {
  return {
    kind: 'kernel',
    async open() {
      const instance = await wire.engine().open();
      const wait = instance.gracePeriod.bind(instance);
      Object.defineProperty(instance, 'gracePeriod', {
        async value() {
          await wait();
          flipped();
        },
      });
      return instance;
    },
  };
}

test('no room for the last entries: the new chain runs, the entries stay, and come along once there is some', async () => {
  const { seen: old } = await left();
  const { seen, edge } = wide(3);
  const toWide = migrate(old, seen, (length, { packets }) => [length, { packets: BigInt(packets), bytes: 0n }]);
  const run = (on: Engine) => edge.run(on, { persist: true, migrate: [toWide] });
  const late = () => [1, 2].forEach((key) => void bpftool('update', `map:${name}/seen`, key));
  for (const on of [engineWith(late), wire.engine()])
    await expect(run(on)).rejects.toMatchObject({
      code: 'migration',
      problem: 'room',
      message: `map '${name}/seen': has room for 3 entries, and none for 1 that came meanwhile`,
      hint: `once entries go, run it again; or give these up: tailrace forget ${name} ${name}/seen:before`,
    });
  bpftool('delete', `map:2:${name}/seen`, 322);
  const running = await run(wire.engine());
  expect(
    running
      .map(seen)
      .getAll()
      .sort(([a], [b]) => a - b),
  ).toEqual([
    [1, { packets: 9n, bytes: 0n }],
    [2, { packets: 9n, bytes: 0n }],
    [321, { packets: 4n, bytes: 0n }],
  ]);
  expect(running.orphans).toEqual([]);
  send(2, 321);
  await until(() => running.map(seen).get(321)?.packets === 6n);
  await running.stop();
});

test('an update takes entries along too; where it cannot, the chain, its map and its pins stay', async () => {
  const { seen: old } = await left();
  const adopted = narrow();
  const one = await adopted.edge.run(wire.engine(), { persist: true });
  const before = pins();
  const { seen, edge } = wide();
  const small = wide(1);
  const all = (key: number, { packets }: { readonly packets: number }) => [key, { packets: BigInt(packets), bytes: 0n }] as const;
  await expect(one.update(edge)).rejects.toThrow(`two maps named '${name}/seen'`);
  await expect(one.update(small.edge, { migrate: [migrate(adopted.seen, small.seen, all)] })).rejects.toThrow('has room for 1 entries');
  expect(pins()).toEqual(before);
  send(1, 321);
  await until(() => one.map(adopted.seen).get(321)?.packets === 5);
  const two = await one.update(edge, { migrate: [migrate(adopted.seen, seen, all)] });
  send(2, 321);
  await until(() => two.map(seen).get(321)?.packets === 7n);
  expect(two.map(seen).get(321)).toEqual({ packets: 7n, bytes: 642n });
  expect(two.orphans).toEqual([]);
  expect(pins()).toEqual(before.map((pin) => pin.replace('map:', 'map:2:')));
  // the form of before, which the next process finds no more
  await two.leave();
  await expect(narrow().edge.run(wire.engine(), { persist: true })).rejects.toThrow('as it is declared, and as it is pinned');
  const again = wide();
  const three = await again.edge.run(wire.engine(), { persist: true, migrate: [migrate(old, again.seen, all)] });
  expect(three.map(again.seen).get(322)).toEqual({ packets: 1000n, bytes: 0n });
  await three.stop();
});

test('an update without room for the last entries: they stay, and the next change brings them once there is some', async () => {
  const first = narrow();
  let late = (): void => undefined;
  const running = await first.edge.run(
    engineWith(() => late()),
    { persist: true },
  );
  running.map(first.seen).set(321, { packets: 3 });
  running.map(first.seen).set(322, { packets: 4 });
  const { seen, edge } = wide(3);
  const toWide = migrate(first.seen, seen, (key, { packets }) => [key, { packets: BigInt(packets), bytes: 0n }]);
  late = () => [1, 2].forEach((key) => void bpftool('update', `map:${name}/seen`, key));
  await expect(running.update(edge, { migrate: [toWide] })).rejects.toMatchObject({ code: 'migration', problem: 'room' });
  late = () => undefined;
  expect(running.orphans).toEqual([`${name}/seen:before`]);
  const handle = (running as never as { map(of: typeof seen): { delete(key: number): void; getAll(): [number, unknown][] } }).map(seen);
  const keys = () =>
    handle
      .getAll()
      .map(([key]) => key)
      .sort();
  expect(keys()).toHaveLength(3);
  handle.delete(322);
  await running.update(edge);
  expect(keys()).toEqual([1, 2, 321]);
  expect(running.orphans).toEqual([]);
  await running.stop();
});

test('one of several migrations is the one for what is there', async () => {
  await left();
  const { seen, edge } = wide();
  const one = (schema: Schema<unknown>) => hash({ name: 'seen', key: u32, value: schema as Schema<{ packets: number }>, maxEntries: 64 });
  const two = await edge.run(wire.engine(), {
    persist: true,
    migrate: [struct({ packets: u32, first: u32 }), struct({ packets: u32 })].map((schema) =>
      migrate(one(schema), seen, (key, { packets }) => [key, { packets: BigInt(packets), bytes: 1n }]),
    ),
  });
  expect(two.map(seen).get(322)).toEqual({ packets: 1000n, bytes: 1n });
  await two.stop();
});
