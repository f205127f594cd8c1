/** A store of a user's own, on an engine: what it puts into maps, what it sees of them, and what becomes of its errors. */
import { type Batch, ClosingError, type Engine } from '@tailrace/bpf';
import { arrayMap, defineFunction, hash, override, stage, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import type { StoredMap } from './map-store.ts';
import { pipeline } from './pipeline.ts';
import { packetOf } from './sample.ts';
import { MapStore } from './service.ts';

const sizes = hash({ name: 'sizes', key: u32, value: u64, maxEntries: 16 });
const settings = arrayMap({ name: 'settings', value: u32, maxEntries: 1 });
const count = stage({
  name: 'count',
  hook: 'xdp',
  uses: { sizes },
  program(ctx, { sizes }) {
    const known = sizes.lookup(ctx.length);
    if (known) known.value += 1n;
    else sizes.update(ctx.length, 1n);
    return ctx.pass();
  },
});
/** Its controller says what it was given. */
const meter = defineFunction({
  name: 'meter',
  stages: { xdp: [count] },
  controller: { needs: { sizes, settings }, create: ({ sizes, settings }) => ({ first: sizes.getAll(), setting: settings.get(0) }) },
});
const edge = pipeline('edge', { xdp: [meter] });

/** The cases, on an engine. */
export function mapStoreSuite(engine: Engine): void {
  test('what it puts in is what controllers and programs find, and what it sees at the end is all', async () => {
    const kept = new Map<string, Batch>();
    const log: string[] = [];
    const store: MapStore = {
      opened({ name, loaded, isNew }) {
        log.push(`${name} opened${isNew ? ', new' : ''}`);
        const batch = kept.get(name);
        if (batch) loaded.updateBatch(batch);
      },
      closing({ name, loaded }) {
        log.push(`${name} closing`);
        kept.set(name, loaded.readAll());
      },
    };
    for (const round of [0n, 1n, 2n]) {
      const running = await edge.run(engine, { services: [override(MapStore, store)] });
      expect(running.controller(meter)).toEqual({ first: round === 0n ? [] : [[60, round]], setting: Number(round) });
      await running.run(packetOf(60));
      expect(running.map(sizes).get(60)).toBe(round + 1n);
      running.handle(settings).set(0, Number(round) + 1);
      await running.stop();
    }
    expect(log.slice(0, 4)).toEqual([
      'meter/sizes opened, new',
      'meter/settings opened, new',
      'meter/settings closing',
      'meter/sizes closing',
    ]);
    expect(log).toHaveLength(12);
  });

  test('maps of a swap come and go; an error of its own leaves everything as it was', async () => {
    const [open, refused]: [Set<string>, Set<string>] = [new Set(), new Set()];
    const store: MapStore = {
      opened({ name }) {
        if (refused.has(name)) throw new RangeError(`no ${name}`);
        open.add(name);
      },
      closing: ({ name }) => void open.delete(name),
    };
    const running = await edge.run(engine, { services: [override(MapStore, store)] });
    const others = hash({ name: 'others', key: u32, value: u64, maxEntries: 4 });
    const next = stage({
      name: 'next',
      hook: 'xdp',
      uses: { others },
      program: (ctx, { others }) => (others.lookup(1) ? ctx.drop() : ctx.pass()),
    });
    refused.add('meter/others');
    await expect(running.replace(meter.stage(count), next)).rejects.toThrow('no meter/others');
    await running.run(packetOf(60));
    expect([...open]).toEqual(['meter/sizes', 'meter/settings']);
    refused.clear();
    await running.replace(meter.stage(count), next);
    expect([...open]).toEqual(['meter/sizes', 'meter/settings', 'meter/others']);
    await running.stop();
    expect([...open]).toEqual([]);
    refused.add('meter/settings');
    await expect(edge.run(engine, { services: [override(MapStore, store)] })).rejects.toThrow('no meter/settings');
    expect([...open]).toEqual([]);
  });

  test('an error while maps are closed closes the others, and is told', async () => {
    const seen: StoredMap[] = [];
    const store: MapStore = {
      opened: (map) => void seen.push(map),
      closing({ name }) {
        if (name === 'meter/settings') throw new RangeError('the disk is full');
      },
    };
    const running = await edge.run(engine, { services: [override(MapStore, store)] });
    await expect(running.stop()).rejects.toThrow('the disk is full');
    for (const { loaded } of seen) expect(() => loaded.lookup(new Uint8Array(4))).toThrow();
  });

  test('several errors while maps are closed are one, and the others are closed', async () => {
    const seen: StoredMap[] = [];
    const store: MapStore = {
      opened: (map) => void seen.push(map),
      closing({ name }) {
        if (name !== 'meter/others') throw new RangeError(`${name}: the disk is full`);
      },
    };
    const running = await edge.run(engine, { services: [override(MapStore, store)] });
    const error = await running.stop().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ClosingError);
    expect(error).toMatchObject({ code: 'closing', failures: [{ name: 'RangeError' }, { name: 'RangeError' }] });
    expect((error as ClosingError).message).toContain("pipeline 'edge'");
    for (const { loaded } of seen) expect(() => loaded.lookup(new Uint8Array(4))).toThrow();
    await expect(running.stop()).rejects.toBe(error);
  });
}
