/** Pipelines that become others whose maps have another form, on an engine: entries come along while packets run, or all stays. */
import { setImmediate } from 'node:timers/promises';
import type { Engine } from '@tailrace/bpf';
import { be32, defineFunction, hash, override, stage, struct, u8, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import type { MigrationProgress } from './map-migration.ts';
import type { StoredMap } from './map-store.ts';
import { migrate } from './migration.ts';
import { pipeline } from './pipeline.ts';
import { MapStore } from './service.ts';

const numbered = struct({ number: be32, form: be32 });

/** Each packet brings an entry under its number. */
function narrow(maxEntries = 100_000) {
  const entries = hash({ name: 'entries', key: u32, value: struct({ of: u32 }), maxEntries });
  const note = stage({
    name: 'note',
    hook: 'xdp',
    uses: { entries, numbered },
    onMiss: 'drop',
    program(ctx, { entries, numbered }) {
      const at = ctx.at(numbered, 14);
      if (!at) return ctx.next();
      entries.update(at.number, { of: at.number }, 'noexist');
      at.form = 1;
      return ctx.next();
    },
  });
  return { entries, note, edge: pipeline('edge', { xdp: [note] }) };
}

/** The same, with wider entries that have a check. */
function wide(maxEntries = 100_000) {
  const entries = hash({ name: 'entries', key: u32, value: struct({ check: u8, of: u64 }), maxEntries });
  const note = stage({
    name: 'note',
    hook: 'xdp',
    uses: { entries, numbered },
    onMiss: 'drop',
    program(ctx, { entries, numbered }) {
      const at = ctx.at(numbered, 14);
      if (!at) return ctx.next();
      entries.update(at.number, { check: at.number & 0x7f, of: BigInt(at.number) }, 'noexist');
      at.form = 2;
      return ctx.next();
    },
  });
  return { entries, note, edge: pipeline('edge', { xdp: [note] }) };
}

type Narrow = ReturnType<typeof narrow>['entries'];
type Wide = ReturnType<typeof wide>['entries'];
const toWide = (from: Narrow, to: Wide) => migrate(from, to, (key, { of }) => [key, { check: of & 0x7f, of: BigInt(of) }]);
const toNarrow = (from: Wide, to: Narrow) => migrate(from, to, (key, { of }) => [key, { of: Number(of) }]);

function packet(number: number): Uint8Array {
  const bytes = new Uint8Array(60);
  new DataView(bytes.buffer).setUint32(14, number);
  return bytes;
}

const formOf = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(18);
const sorted = <K extends number, V>(handle: { getAll(): [K, V][] }): [K, V][] => handle.getAll().sort(([a], [b]) => a - b);

/** The cases, on an engine. */
export function mapTakeoverSuite(engine: Engine): void {
  test('while packets run, entries come along, there and back: every packet has its entry', { timeout: 60_000 }, async () => {
    const [first, second, third] = [narrow(), wide(), narrow()];
    const told: MigrationProgress[] = [];
    const onMigration = (progress: MigrationProgress): void => void told.push(progress);
    await using running = await first.edge.run(engine);
    running.map(first.entries).setMany([...Array(5_000).keys()].map((at) => [1_000_000 + at, { of: 1_000_000 + at }]));
    let [going, sent] = [true, 0];
    const forms = new Set<number>();
    const traffic = async (): Promise<void> => {
      while (going) {
        const { verdict, packet: out } = await running.run(packet(sent++));
        expect(verdict).toBe('pass');
        forms.add(formOf(out));
        await setImmediate();
      }
    };
    const flow = traffic();
    const widened = await running.update(second.edge, { migrate: [toWide(first.entries, second.entries)], onMigration });
    expect(() => running.map(first.entries)).toThrow("map 'entries' is not in this pipeline");
    await setImmediate();
    expect(widened.map(second.entries).get(1_000_007)).toEqual({ check: 1_000_007 & 0x7f, of: 1_000_007n });
    await widened.update(third.edge, { migrate: [toNarrow(second.entries, third.entries)], onMigration });
    const before = sent;
    while (sent < before + 3) await setImmediate();
    going = false;
    await flow;
    const found = new Map(running.map(third.entries).getAll());
    expect(found.size).toBe(5_000 + sent);
    for (let number = 0; number < sent; number++) expect(found.get(number)).toEqual({ of: number });
    expect([...forms].sort()).toEqual([1, 2]);
    expect(running.stats().xdp.note).toMatchObject({ packets: BigInt(sent), misses: 0n });
    expect(told.map(({ map }) => map)).toEqual(told.map(() => 'edge/entries'));
    expect(new Set(told.map(({ pass }) => pass))).toEqual(new Set(['all', 'changes']));
  });

  test('what cannot come along leaves all as it was, and the next update has its way', async () => {
    const first = narrow();
    await using running = await first.edge.run(engine);
    running.map(first.entries).setMany([1, 2, 3].map((number) => [number, { of: number }]));
    const refused = async (update: Promise<unknown>): Promise<string> => {
      const error: unknown = await update.catch((caught: unknown) => caught);
      expect(formOf((await running.run(packet(3))).packet)).toBe(1);
      expect(sorted(running.map(first.entries))).toEqual([1, 2, 3].map((number) => [number, { of: number }]));
      return String(error);
    };
    const second = wide();
    const fails = migrate(first.entries, second.entries, (key, { of }) => {
      if (of === 2) throw new RangeError('not this one');
      return [key, { check: 0, of: BigInt(of) }];
    });
    expect(await refused(running.update(second.edge, { migrate: [fails] }))).toMatchInlineSnapshot(
      `"MigrationError: map 'edge/entries': its entry 2 cannot be converted: not this one"`,
    );
    const small = wide(2);
    expect(await refused(running.update(small.edge, { migrate: [toWide(first.entries, small.entries)] }))).toMatchInlineSnapshot(
      `"MigrationError: map 'edge/entries': has room for 2 entries, and 3 are to come"`,
    );
    const told = (): void => {
      throw new RangeError('enough');
    };
    const good = toWide(first.entries, second.entries);
    expect(await refused(running.update(second.edge, { migrate: [good], onMigration: told }))).toMatchInlineSnapshot(
      `"RangeError: enough"`,
    );
    // what has nothing to do
    expect(await refused(running.update(second.edge, { migrate: [toWide(narrow().entries, second.entries)] }))).toMatchInlineSnapshot(
      `"ChainError: map 'entries' is not in this pipeline"`,
    );
    expect(await refused(running.update(second.edge, { migrate: [toWide(first.entries, wide().entries)] }))).toMatchInlineSnapshot(
      `"ArgumentError: migrate: map 'entries' is in no stage or controller of the next pipeline 'edge'"`,
    );
    expect(await refused(running.update(second.edge, { migrate: [good, good] }))).toMatchInlineSnapshot(
      `"ArgumentError: migrate: map 'entries' is to take the entries of two"`,
    );
    const both = pipeline('edge', { xdp: [second.note, first.note.as('old')] });
    expect(await refused(running.update(both, { migrate: [good] }))).toMatchInlineSnapshot(
      `"ArgumentError: migrate: map 'edge/entries' is in the next pipeline too"`,
    );
    const other = hash({ name: 'entries', key: u32, value: struct({ check: u8, of: u64 }), maxEntries: 8 });
    const reads = stage({
      name: 'reads',
      hook: 'xdp',
      uses: { other },
      program: (ctx, { other }) => (other.lookup(0) ? ctx.drop() : ctx.next()),
    });
    const rivals = pipeline('edge', { xdp: [second.note, reads] });
    expect(await refused(running.update(rivals, { migrate: [good] }))).toMatchInlineSnapshot(
      `"ArgumentError: migrate: map 'edge/entries' cannot become 'edge/note.entries'"`,
    );
    const widened = await running.update(second.edge, { migrate: [good] });
    expect(sorted(widened.map(second.entries))).toEqual([1, 2, 3].map((number) => [number, { check: number, of: BigInt(number) }]));
    expect(formOf((await widened.run(packet(9))).packet)).toBe(2);
  });

  test('room that is taken behind the flip: the next pipeline runs, and the error tells what is missing', async () => {
    const [first, second] = [narrow(), wide(3)];
    await using running = await first.edge.run(engine);
    running.map(first.entries).setMany([1, 2, 3].map((number) => [number, { of: number }]));
    const old = running.map(first.entries);
    let passes = 0;
    const late = ({ pass }: MigrationProgress): void => {
      passes += pass === 'changes' ? 1 : 0;
      if (passes === 1) old.set(4, { of: 4 });
    };
    await expect(
      running.update(second.edge, { migrate: [toWide(first.entries, second.entries)], onMigration: late }),
    ).rejects.toMatchObject({
      code: 'migration',
      problem: 'room',
      message: "map 'edge/entries': has room for 3 entries, and none for 1 that came meanwhile",
      hint: 'the next pipeline runs without them: update it to one with more room',
    });
    expect(formOf((await running.run(packet(1))).packet)).toBe(2);
    const third = wide(8);
    const roomy = await running.update(third.edge, { migrate: [migrate(second.entries, third.entries)] });
    expect(sorted(roomy.map(third.entries)).map(([key]) => key)).toEqual([1, 2, 3]);
  });

  test('a map that is in use takes nobody over', async () => {
    const [first, second] = [narrow(), wide()];
    const both = pipeline('edge', { xdp: [first.note, second.note.as('second')] });
    await using running = await both.run(engine);
    const next = pipeline('edge', { xdp: [second.note.as('second')] });
    await expect(running.update(next, { migrate: [toWide(first.entries, second.entries)] })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[ArgumentError: migrate: map 'edge/second.entries' is in use already, expected one that the pipeline does not have yet]`,
    );
  });

  test('a controller begins with the entries, and the store is told that the map is not new', async () => {
    const told: string[] = [];
    const store = {
      opened: ({ name, isNew, map }: StoredMap) => void told.push(`${name} ${map.value.layout.size} ${isNew ? 'new' : 'known'}`),
      closing: ({ name, map }: StoredMap) => void told.push(`${name} ${map.value.layout.size} closed`),
    };
    const first = narrow();
    const second = wide();
    const before = defineFunction({ name: 'flow', stages: { xdp: [first.note] } });
    const after = defineFunction({
      name: 'flow',
      stages: { xdp: [second.note] },
      controller: { needs: { entries: second.entries }, create: ({ entries }) => ({ first: sorted(entries) }) },
    });
    await using running = await pipeline('edge', { xdp: [before] }).run(engine, { services: [override(MapStore, store)] });
    running.map(first.entries).set(5, { of: 5 });
    const updated = await running.update(pipeline('edge', { xdp: [after] }), { migrate: [toWide(first.entries, second.entries)] });
    expect(updated.controller(after).first).toEqual([[5, { check: 5, of: 5n }]]);
    expect(told).toEqual(['flow/entries 4 new', 'flow/entries 16 known', 'flow/entries 4 closed']);
  });
}
