/** Updates on the fake engine: what is made, in which order, and what an error at any step leaves. */
import { ArgumentError } from '@tailrace/bpf';
import { defineFunction, hash, override, stage, token, u32, u64 } from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { FakeEngine, PlannedFailure } from './fake-engine.ts';
import { pipeline } from './pipeline.ts';
import { bounce, fork, packetOf, step, withFakeCompiler } from './sample.ts';
import { Clock } from './service.ts';

const options = { services: withFakeCompiler };
const acl = fork('acl');
const last = step('last');
const before = pipeline('edge', { xdp: [fork('guard').on({ odd: bounce('reject') }), acl.on({ odd: 'next' }), last] });
/** Another first stage, other wiring, one stage more and two less; `acl` and `last` stay. */
const after = pipeline('edge', { xdp: [step('classify'), acl.on({ odd: 'drop' }), step('extra'), last] });

const verdicts = async (running: { run(packet: Uint8Array): Promise<{ verdict: string }> }) =>
  Promise.all([60, 61].map(async (length) => (await running.run(packetOf(length))).verdict));

describe('update', () => {
  test('builds the next chain beside the old one, and flips the root once', async () => {
    const engine = new FakeEngine();
    const running = await before.run(engine, options);
    expect(await verdicts(running)).toEqual(['pass', 'tx']);
    engine.log.length = 0;
    const updated = await running.update(after);
    expect(updated).toBe(running);
    expect(engine.log).toMatchInlineSnapshot(`
      [
        "map edge/xdp.array",
        "load classify",
        "load acl",
        "load extra",
        "load last",
        "slot edge/xdp.array[0] = acl",
        "slot edge/xdp.array[1] = extra",
        "slot edge/xdp.array[2] = last",
        "slot edge/xdp.entry[0] = classify",
        "grace",
      ]
    `);
    expect(await verdicts(updated)).toEqual(['pass', 'drop']);
    const { xdp } = updated.stats();
    expect(Object.keys(xdp)).toEqual(['classify', 'acl', 'extra', 'last']);
    expect([xdp.acl.packets, xdp.last.packets, xdp.extra.packets]).toEqual([3n, 2n, 1n]);
    expect(engine.openNames).toEqual([
      'acl',
      'classify',
      'edge.root',
      'edge/xdp.array',
      'edge/xdp.entry',
      'edge/xdp.state',
      'extra',
      'last',
    ]);
    expect(updated.describe()).toEqual(after.describe());
    await updated.stop();
    expect(engine.open$.size).toBe(0);
  });

  test('a chain in which one stage differs is changed by its slot, and one in which none does is left alone', async () => {
    const shape = (limit: number) =>
      pipeline('two', {
        xdp: [step('first'), stage({ name: 'limit', hook: 'xdp', uses: { limit }, program: (ctx) => ctx.next() })],
        tcEgress: [count.on({ large: 'drop' })],
      });
    const count = stage({ name: 'count', hook: 'tc', program: (ctx) => (ctx.length > 99 ? ctx.exit('large') : ctx.next()) });
    const first = shape(1);
    const engine = new FakeEngine();
    await using running = await first.run(engine, options);
    engine.log.length = 0;
    await running.update(shape(2));
    // `first` was declared anew: two stages differ
    expect(engine.log).toContain('map two/xdp.array');
    expect(engine.log.filter((line) => line.includes('tcEgress'))).toEqual([]);
    const more = pipeline('two', { ...first.chains, xdp: [first.chains.xdp?.[0], shape(3).chains.xdp?.[1]] } as never);
    await running.update(more as typeof first);
    engine.log.length = 0;
    await running.update(
      pipeline('two', { ...more.chains, xdp: [first.chains.xdp?.[0], shape(4).chains.xdp?.[1]] } as never) as typeof first,
    );
    expect(engine.log).toEqual(['load limit', 'slot two/xdp.array[0] = limit', 'grace']);
  });

  test('an error at any step leaves the old pipeline whole, and nothing behind', async () => {
    const table = hash({ name: 'table', key: u32, value: u64, maxEntries: 8 });
    const log: string[] = [];
    const made = (name: string) =>
      defineFunction({
        name: 'counter',
        stages: { xdp: [stage({ name: 'work', hook: 'xdp', uses: { table }, program: (ctx) => ctx.next() })] },
        controller: {
          needs: { table },
          create: () => {
            log.push(`${name} made`);
            return { [Symbol.dispose]: () => void log.push(`${name} stopped`) };
          },
        },
      });
    const [one, two] = [made('one'), made('two')];
    const from = pipeline('edge', { xdp: [acl.on({ odd: 'drop' }), one], tcIngress: [fork('in').at('tc').on({ odd: 'drop' })] });
    const to = pipeline('edge', { xdp: [two, last], tcIngress: [step('one').at('tc'), step('two').at('tc')] });
    const start = async () => {
      const engine = new FakeEngine();
      const running = await from.run(engine, options);
      return { engine, running, from: engine.steps };
    };
    const whole = await start();
    await whole.running.update(to);
    const steps = whole.engine.steps - whole.from;
    expect(log).toEqual(['one made', 'two made', 'one stopped']);
    expect(steps).toBe(11);
    for (let at = 0; at < steps - 1; at++) {
      const { engine, running } = await start();
      const [open, description] = [engine.openNames, running.describe()];
      log.length = 0;
      engine.failAt = engine.steps + at;
      await expect(running.update(to)).rejects.toThrow(PlannedFailure);
      expect(engine.openNames, `failed at step ${at}`).toEqual(open);
      expect(running.describe()).toEqual(description);
      expect(log).not.toContain('one stopped');
      expect(log.filter((line) => line.startsWith('two')).length % 2).toBe(0);
      expect(await verdicts(running)).toEqual(['pass', 'drop']);
      const updated = await running.update(to);
      expect(await verdicts(updated)).toEqual(['pass', 'pass']);
      await running.stop();
      expect(engine.open$.size).toBe(0);
    }
  });

  test('where the grace period fails, the new pipeline runs and the old one stays open until the end', async () => {
    const engine = new FakeEngine();
    const running = await before.run(engine, options);
    engine.onStep = (what) => {
      if (what === 'grace') throw new PlannedFailure(what);
    };
    await expect(running.update(after)).rejects.toThrow(PlannedFailure);
    expect(await verdicts(running)).toEqual(['pass', 'drop']);
    expect(engine.openNames.filter((name) => name === 'acl')).toHaveLength(2);
    engine.onStep = () => undefined;
    await running.update(before);
    expect(await verdicts(running)).toEqual(['pass', 'tx']);
    await running.stop();
    expect(engine.open$.size).toBe(0);
  });

  test('hooks change from the stack outwards', async () => {
    const at = (name: 'a' | 'b') =>
      pipeline('all', { xdp: [step(name)], tcIngress: [step(name).at('tc')], tcEgress: [step(name).at('tc')] });
    const engine = new FakeEngine();
    await using running = await at('a').run(engine, options);
    engine.log.length = 0;
    await running.update(at('b'));
    expect(engine.log.slice(-4)).toEqual([
      'slot all/tcEgress.entry[0] = b',
      'slot all/tcIngress.entry[0] = b',
      'slot all/xdp.entry[0] = b',
      'grace',
    ]);
  });

  test('where metadata cross, a front at TC ingress sorts packets of both until those of the old are through', async () => {
    const write = <const N extends string>(name: N) =>
      stage({
        name,
        hook: 'xdp',
        writes: { tenant: u32 },
        program(ctx) {
          ctx.meta.tenant = 1;
          return ctx.next();
        },
      });
    const read = <const N extends string>(name: N) =>
      stage({ name, hook: 'tcIngress', reads: { tenant: u32 }, program: (ctx) => (ctx.meta.tenant ? ctx.drop() : ctx.next()) });
    const engine = new FakeEngine();
    await using running = await pipeline('meta', { xdp: [write('a')], tcIngress: [read('b')] }).run(engine, options);
    const open = engine.openNames;
    engine.log.length = 0;
    await running.update(pipeline('meta', { xdp: [write('c')], tcIngress: [read('d')] }));
    expect(engine.log.filter((line) => !line.startsWith('load'))).toMatchInlineSnapshot(`
      [
        "map meta/xdp.array",
        "map meta/tcIngress.array",
        "slot meta/tcIngress.array[0] = d",
        "map meta/tcIngress.front",
        "slot meta/tcIngress.front[0] = meta.import",
        "slot meta/tcIngress.front[1] = meta.import",
        "slot meta/tcIngress.entry[0] = gate",
        "slot meta/xdp.entry[0] = c",
        "grace",
        "slot meta/tcIngress.entry[0] = meta.import",
        "grace",
      ]
    `);
    expect(engine.openNames).toEqual(open.map((name) => ({ a: 'c', b: 'd' })[name] ?? name).sort());
    // one of the two alone: what crosses is the same, and so is who takes it over
    engine.log.length = 0;
    await running.update(pipeline('meta', { xdp: [write('e')], tcIngress: [read('d')] }));
    expect(engine.log.filter((line) => line.includes('front'))).toHaveLength(3);
    const same = read('f');
    await running.update(pipeline('meta', { xdp: [write('g')], tcIngress: [same] }));
    engine.log.length = 0;
    await running.update(pipeline('meta', { xdp: [write('h')], tcIngress: [same] }));
    expect(engine.log.filter((line) => line.includes('tcIngress'))).toEqual([]);
    // and nothing at all any more
    await running.update(pipeline('meta', { xdp: [step('i')], tcIngress: [step('j').at('tc')] }));
    expect(engine.openNames).not.toContain('meta.import');
  });

  test('waits for its turn with replacements, and stop waits for it', async () => {
    const engine = new FakeEngine();
    const running = await before.run(engine, options);
    engine.log.length = 0;
    const all = [running.replace(acl, fork('v2')), running.update(after), running.update(before), running.stop()];
    await Promise.all(all);
    expect(engine.log.filter((line) => line.startsWith('slot edge/xdp.entry') || line === 'close')).toEqual([
      'slot edge/xdp.entry[0] = classify',
      'slot edge/xdp.entry[0] = guard',
      'close',
    ]);
  });

  test('a stage that was replaced is the declared one again', async () => {
    await using running = await before.run(new FakeEngine(), options);
    await running.replace(acl, bounce('closed'));
    expect(await verdicts(running)).toEqual(['tx', 'tx']);
    await running.update(before);
    expect(await verdicts(running)).toEqual(['pass', 'tx']);
  });

  test('what cannot be is refused before anything is made', async () => {
    const engine = new FakeEngine();
    await using running = await before.run(engine, options);
    engine.log.length = 0;
    await expect(running.update(pipeline('other', { xdp: [step('a')] }))).rejects.toMatchObject({
      message: "pipeline 'edge' cannot become 'other': what it keeps goes by its name",
      hint: "declare the next one as pipeline('edge', …)",
    });
    await expect(running.update(pipeline('edge', { tcIngress: [step('a').at('tc')] }) as never)).rejects.toMatchObject({
      problem: 'hook',
      message: "pipeline 'edge' runs at xdp, and cannot be changed to tcIngress",
      hint: 'stop it and run the other one',
    });
    await expect(running.update(pipeline('edge', { xdp: [fork('a')] as never }))).rejects.toMatchObject({ problem: 'open' });
    expect(engine.log).toEqual([]);
  });
});

interface Greeter {
  greet(): string;
}
const Greeter = token<Greeter>('Greeter');
const greeting = <const N extends 'east' | 'west'>(name: N, log: string[]) => {
  const table = hash({ name: 'table', key: u32, value: u64, maxEntries: 8 });
  return defineFunction({
    name,
    stages: { xdp: [stage({ name: 'work', hook: 'xdp', uses: { table }, program: (ctx) => ctx.next() })] },
    controller: {
      needs: { table, greeter: Greeter },
      create: ({ table, greeter }) => {
        log.push(`${name} made`);
        return {
          set: (value: bigint) => table.set(1, value),
          get: () => table.get(1),
          greet: () => greeter.greet(),
          [Symbol.asyncDispose]: async () => void log.push(`${name} stopped`),
        };
      },
    },
  });
};

describe('functions of an update', () => {
  const hello: Greeter = { greet: () => 'hello' };

  test('those that stay keep their controller and maps, new ones start before packets come, gone ones stop behind the last', async () => {
    const log: string[] = [];
    const [east, west] = [greeting('east', log), greeting('west', log)];
    const engine = new FakeEngine();
    engine.onStep = (what) => void (what.includes('entry[0]') || what === 'grace' ? log.push(what) : undefined);
    const running = await pipeline('two', { xdp: [east] }).run(engine, { services: [...withFakeCompiler, override(Greeter, hello)] });
    running.controller(east).set(7n);
    const both = await running.update(pipeline('two', { xdp: [step('first'), east, west] }));
    expect(both.controller(east).get()).toBe(7n);
    expect(both.controller(west).greet()).toBe('hello');
    expect(engine.openNames).toEqual(expect.arrayContaining(['east/table', 'west/table']));
    const [inEast] = [both.controller(east)];
    const one = await both.update(pipeline('two', { xdp: [west] }));
    expect(() => one.controller(east as never)).toThrow("'east' is not in this pipeline");
    expect(() => inEast.set(1n)).toThrow();
    expect(engine.openNames).not.toContain('east/table');
    await one.stop();
    expect(log).toEqual([
      'slot two/xdp.entry[0] = east.work',
      'east made',
      'west made',
      'slot two/xdp.entry[0] = first',
      'grace',
      'slot two/xdp.entry[0] = west.work',
      'grace',
      'east stopped',
      'west stopped',
    ]);
  });

  test('a function that was made anew under the same name is another one', async () => {
    const log: string[] = [];
    const services = [...withFakeCompiler, override(Greeter, hello)];
    const [old, fresh] = [greeting('east', log), greeting('east', log)];
    const running = await pipeline('two', { xdp: [old] }).run(new FakeEngine(), { services });
    running.controller(old).set(7n);
    await running.update(pipeline('two', { xdp: [fresh] }));
    expect(running.controller(fresh).get()).toBeUndefined();
    await running.stop();
    expect(log).toEqual(['east made', 'east made', 'east stopped', 'east stopped']);
  });

  test('services of new functions: given with the update, or named where they are missing', async () => {
    const log: string[] = [];
    const engine = new FakeEngine();
    await using running = await pipeline('two', { xdp: [step('a')] }).run(engine, options);
    const open = engine.openNames;
    const next = pipeline('two', { xdp: [step('a'), greeting('east', log)] });
    await expect(running.update(next)).rejects.toMatchObject({
      message: "the controller of 'east' needs Greeter, which nothing provides",
    });
    expect(engine.openNames).toEqual(open);
    await expect(running.update(next, { services: [override(Clock, { now: () => 0 } as never)] })).rejects.toThrow(ArgumentError);
    await expect(running.update(before as never, { services: [override(Greeter, hello)] })).rejects.toThrow();
    await running.update(next, { services: [override(Greeter, hello)] });
    expect(log).toEqual(['east made']);
  });
});
