import { array, defineFunction, hash, stage, u32, u64 } from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { FakeEngine, PlannedFailure } from './fake-engine.ts';
import { pipeline } from './pipeline.ts';
import { bounce, fork, packetOf, step, withFakeCompiler } from './sample.ts';

const options = { services: withFakeCompiler };
const reject = bounce('reject');
const acl = fork('acl');
const last = step('last');
/** Two edges lead to `reject`, one to `acl`, two to `last`. */
const edge = pipeline('edge', { xdp: [fork('guard').on({ odd: reject }), acl.on({ odd: 'next' }), last] });
const other = pipeline('other', { xdp: [acl.on({ odd: 'drop' }), last] });

const started = async (what: typeof edge | typeof other = edge) => {
  const engine = new FakeEngine();
  const running = await (what as typeof edge).run(engine, options);
  engine.log.length = 0;
  return { engine, running };
};
const verdicts = async (running: { run(packet: Uint8Array): Promise<{ verdict: string }> }) =>
  Promise.all([60, 61].map(async (length) => (await running.run(packetOf(length))).verdict));

describe('replace', () => {
  test('by the slot of the one edge that leads to a stage', async () => {
    const { engine, running } = await started();
    await running.run(packetOf(60));
    await running.replace(acl, stage({ name: 'aclV2', hook: 'xdp', program: (ctx) => (ctx.length > 99 ? ctx.exit('odd') : ctx.drop()) }));
    expect(engine.log).toEqual(['load acl', 'slot edge/xdp.array[0] = acl', 'grace']);
    expect(engine.openNames.filter((name) => name === 'acl')).toHaveLength(1);
    expect(await verdicts(running)).toEqual(['drop', 'tx']);
    expect(running.stats().xdp.acl).toMatchObject({ packets: 2n, next: 1n, verdicts: { drop: 1n } });
    expect(running.describe().chains.xdp.stages.map(({ name, stage: now }) => [name, now])).toEqual([
      ['guard', 'guard'],
      ['acl', 'aclV2'],
      ['last', 'last'],
      ['reject', 'reject'],
    ]);
  });

  test('the first stage, by the slot of the root', async () => {
    const { engine, running } = await started();
    await running.replace(fork('guard'), step('open'));
    // the exit is gone, and with it the stage behind it: another chain
    expect(engine.log).toContain('map edge/xdp.array');
    const second = await started(other);
    await second.running.replace(acl, fork('v2'));
    expect(second.engine.log).toEqual(['load acl', 'slot other/xdp.entry[0] = acl', 'grace']);
  });

  test('a stage of a function by a variant of it: the stages behind its exits stay, by name and by slot', async () => {
    const engine = new FakeEngine();
    const lb = defineFunction({ name: 'lb', stages: { xdp: [step('pick'), fork('encap').on({ odd: bounce('tooBig') })] } });
    await using running = await pipeline('web', { xdp: [lb] }).run(engine, options);
    await running.run(packetOf(61));
    engine.log.length = 0;
    const encap = lb.stage(fork('encap'));
    await running.replace(encap, encap.as('encapV2'));
    expect(engine.log).toEqual(['load lb.encap', 'slot web/xdp.array[0] = lb.encap', 'grace']);
    await running.run(packetOf(61));
    expect(Object.keys(running.stats().xdp)).toEqual(['lb.pick', 'lb.encap', 'lb.tooBig']);
    expect(running.stats().xdp['lb.tooBig'].packets).toBe(2n);
  });

  test('by a new generation where several edges lead to it', async () => {
    const { engine, running } = await started();
    const before = engine.openNames;
    await running.replace(last, bounce('answer'));
    expect(engine.log).toMatchInlineSnapshot(`
      [
        "map edge/xdp.array",
        "load guard",
        "load acl",
        "load last",
        "load reject",
        "slot edge/xdp.array[0] = acl",
        "slot edge/xdp.array[1] = reject",
        "slot edge/xdp.array[2] = last",
        "slot edge/xdp.array[3] = last",
        "slot edge/xdp.entry[0] = guard",
        "grace",
      ]
    `);
    expect(engine.openNames).toEqual(before);
    expect(await verdicts(running)).toEqual(['tx', 'tx']);
  });

  test('counts go on where the exits change, and so do those of stages that are gone', async () => {
    const { running } = await started();
    await verdicts(running);
    await running.replace(fork('guard'), step('open'));
    expect(running.stats().xdp.guard).toMatchObject({ packets: 2n, bytes: 121n, next: 1n, exits: { odd: 1n } });
    expect(running.stats().xdp.reject).toMatchObject({ packets: 1n });
    await verdicts(running);
    expect(running.stats().xdp.guard).toMatchObject({ packets: 4n, bytes: 242n, next: 3n, exits: { odd: 1n } });
    // the declared exit leads where it did, in bytes that others may have written meanwhile
    await running.replace(fork('guard'), fork('again'));
    expect(running.stats().xdp.guard).toMatchObject({ packets: 4n });
    await verdicts(running);
    expect(running.stats().xdp.guard).toMatchObject({ packets: 6n, next: 4n, exits: { odd: 2n } });
    expect(running.stats().xdp.reject).toMatchObject({ packets: 2n });
  });

  test('state and blocks can be reused for ever', async () => {
    const { running } = await started();
    for (let i = 0; i < 50; i++) {
      await running.replace(fork('guard'), i % 2 ? fork('odd') : step('even'));
      await running.run(packetOf(60));
    }
    expect(running.stats().xdp.guard.packets).toBe(50n);
  });

  test('opens the maps of the new stage and closes those that nobody uses any more', async () => {
    const { engine, running } = await started();
    const first = hash({ name: 'table', key: u32, value: u64, maxEntries: 8 });
    const second = hash({ name: 'table', key: u32, value: u64, maxEntries: 8 });
    const using = <const M extends typeof first>(table: M) =>
      stage({ name: 'with', hook: 'xdp', uses: { table }, program: (ctx) => (ctx.length > 999 ? ctx.exit('odd') : ctx.next()) });
    await running.replace(acl, using(first));
    running.map(first).set(1, 1n);
    await running.replace(acl, using(first).as('same'));
    expect(running.map(first).get(1)).toBe(1n);
    await running.replace(acl, using(second));
    expect(running.map(second).get(1)).toBeUndefined();
    expect(() => running.map(first)).toThrow("map 'table' is not in this pipeline");
    expect(engine.openNames.filter((name) => name.includes('table'))).toHaveLength(1);
  });

  test.each([
    ['one slot', () => fork('v2').on({ odd: 'next' }), acl],
    [
      'a generation',
      () =>
        stage({
          name: 'v2',
          hook: 'xdp',
          uses: { t: hash({ name: 't', key: u32, value: array(u64, 2), maxEntries: 1 }) },
          program: (ctx) => ctx.tx(),
        }),
      last,
    ],
  ] as const)('an error on the way to %s leaves the old chain whole', async (_what, by, old) => {
    const whole = await started();
    await whole.running.replace(old as typeof acl, by() as unknown as typeof acl);
    const steps = whole.engine.log.length;
    for (let at = 0; at < steps - 1; at++) {
      const { engine, running } = await started();
      const [open, description] = [engine.openNames, running.describe()];
      engine.failAt = engine.steps + at;
      await expect(running.replace(old as typeof acl, by() as unknown as typeof acl)).rejects.toThrow(PlannedFailure);
      expect(engine.openNames).toEqual(open);
      expect(running.describe()).toEqual(description);
      expect(await verdicts(running)).toEqual(['pass', 'tx']);
      await running.replace(old as typeof acl, by() as unknown as typeof acl);
      expect(engine.openNames.filter((name) => name === 'last')).toHaveLength(1);
    }
  });

  test('where the grace period fails, the new stage runs and the old one stays open', async () => {
    const { engine, running } = await started();
    engine.onStep = (what) => {
      if (what === 'grace') throw new PlannedFailure(what);
    };
    await expect(running.replace(acl, bounce('v2'))).rejects.toThrow(PlannedFailure);
    expect(await verdicts(running)).toEqual(['tx', 'tx']);
    expect(engine.openNames.filter((name) => name === 'acl')).toHaveLength(2);
    engine.onStep = () => undefined;
    await running.replace(acl, fork('v3'));
    expect(await verdicts(running)).toEqual(['pass', 'tx']);
    expect(running.stats().xdp.acl.packets).toBe(2n);
    await running.stop();
    expect(engine.open$.size).toBe(0);
  });

  test('every packet meets the old chain or the new one', async () => {
    const { engine, running } = await started();
    const during: Promise<string[]>[] = [];
    engine.onStep = () => {
      during.push(verdicts(running));
    };
    await running.replace(last, bounce('answer'));
    const seen = await Promise.all(during);
    expect(new Set(seen.map(([even]) => even))).toEqual(new Set(['pass', 'tx']));
    expect(seen.map(([even]) => even)).toEqual([...seen.map(([even]) => even)].sort());
    expect(Object.values(running.stats().xdp).every(({ misses }) => misses === 0n)).toBe(true);
  });

  test('replacements wait for each other, and stop waits for them', async () => {
    const { engine, running } = await started();
    const both = [running.replace(acl, fork('v2')), running.replace(acl, fork('v3'))];
    const stopped = running.stop();
    await Promise.all([...both, stopped]);
    expect(engine.log.filter((line) => line === 'grace' || line.startsWith('slot') || line === 'close')).toEqual([
      'slot edge/xdp.array[0] = acl',
      'grace',
      'slot edge/xdp.array[0] = acl',
      'grace',
      'close',
    ]);
    await expect(running.replace(acl, bounce('v4'))).rejects.toThrow("pipeline 'edge' was stopped");
  });

  test('what is not there cannot be replaced', async () => {
    const { running } = await started();
    await expect(running.replace(step('absent') as unknown as typeof acl, acl)).rejects.toMatchObject({
      problem: 'absent',
      message: "'absent' is not in this pipeline",
      hint: "it has 'guard', 'acl', 'last', 'reject'",
    });
  });
});
