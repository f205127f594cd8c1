import { ArgumentError } from '@tailrace/bpf';
import { defineFunction, hash, override, sockmap, stage, token, u32, u64 } from '@tailrace/stage';
import { firstValueFrom, lastValueFrom, map, VirtualTimeScheduler } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { FakeEngine, fakeCompiler, PlannedFailure } from './fake-engine.ts';
import { pipeline } from './pipeline.ts';
import { bounce, fork, packetOf, step, withFakeCompiler } from './sample.ts';
import { Clock, Compiler, type StageCompiler } from './service.ts';

const options = { services: withFakeCompiler };
const seen = hash({ name: 'seen', key: u32, value: u64, maxEntries: 8 });
const counting = stage({ name: 'counting', hook: 'xdp', uses: { seen }, program: (ctx) => ctx.next() });
const edge = pipeline('edge', { xdp: [counting, fork('acl').on({ odd: bounce('reject') }), step('last')] });

describe('run', () => {
  test('loads everything, then attaches the root', async () => {
    const engine = new FakeEngine();
    const running = await edge.run(engine, options);
    expect(engine.log).toMatchInlineSnapshot(`
      [
        "open",
        "map edge/seen",
        "map edge/xdp.state",
        "map edge/xdp.entry",
        "map edge/xdp.array",
        "load counting",
        "load acl",
        "load last",
        "load reject",
        "slot edge/xdp.array[0] = acl",
        "slot edge/xdp.array[1] = last",
        "slot edge/xdp.array[2] = reject",
        "load edge.root",
        "slot edge/xdp.entry[0] = counting",
        "attach edge.root xdp",
      ]
    `);
    expect(running.interfaces).toEqual(['fake0']);
    await running.stop();
    await running.stop();
    expect(engine.log.slice(-2)).toEqual(['detach', 'close']);
    expect(engine.open$.size).toBe(0);
    expect(() => running.stats()).toThrow("pipeline 'edge' was stopped");
  });

  test('packets take the planned ways and are counted', async () => {
    await using running = await edge.run(new FakeEngine(), options);
    expect((await running.run(packetOf(60))).verdict).toBe('pass');
    expect((await running.run(packetOf(61))).verdict).toBe('tx');
    const { xdp, roots } = running.stats();
    expect(xdp.counting).toMatchObject({ packets: 2n, bytes: 121n, next: 2n, misses: 0n });
    expect(xdp.acl).toMatchObject({ packets: 2n, next: 1n, exits: { odd: 1n } });
    expect(xdp.reject).toMatchObject({ packets: 1n, verdicts: { abort: 0n, drop: 0n, pass: 0n, tx: 1n, redirect: 0n } });
    expect(xdp.last).toMatchObject({ packets: 1n, next: 1n });
    expect(roots.xdp.misses).toBe(0n);
  });

  test('undoes everything when a step fails', async () => {
    const whole = new FakeEngine();
    await (await edge.run(whole, options)).stop();
    for (let failAt = 0; failAt < whole.steps; failAt++) {
      const engine = new FakeEngine();
      engine.failAt = failAt;
      await expect(edge.run(engine, options)).rejects.toThrow(PlannedFailure);
      expect(engine.open$.size, `failed at ${engine.log.at(-2)}`).toBe(0);
    }
  });

  test('a chain on sockets that no socket comes to', async () => {
    const parser = stage({ name: 'parser', hook: 'skSkb', program: (ctx) => ctx.pass() });
    const engine = new FakeEngine();
    await expect(pipeline('mixed', { xdp: [step('a')], skSkb: [parser] }).run(engine, options)).rejects.toMatchObject({
      code: 'chain',
      problem: 'sockets',
      message: 'no stage of the skSkb chain uses a map of sockets: no data would meet it',
    });
    expect(engine.log).toEqual([]);
  });

  test('chains on sockets want an engine that reaches some', async () => {
    const sockets = sockmap({ name: 'sockets', maxEntries: 1 });
    const parser = stage({ name: 'parser', hook: 'skSkb', uses: { sockets }, program: (ctx) => ctx.pass() });
    const engine = new FakeEngine();
    await expect(pipeline('mixed', { skSkb: [parser] }).run(engine, options)).rejects.toMatchObject({ code: 'unsupported' });
    expect(engine.open$.size).toBe(0);
  });

  test('bad plans are refused before the engine is opened', async () => {
    const engine = new FakeEngine();
    const members = [fork('acl')];
    await expect(pipeline('dynamic', { xdp: members as never }).run(engine, options)).rejects.toMatchObject({ problem: 'open' });
    expect(engine.log).toEqual([]);
  });
});

test('what the compiler refuses shows before the engine is opened', async () => {
  const engine = new FakeEngine();
  const refusing: StageCompiler = {
    ...fakeCompiler,
    compileStage: (declared) => {
      throw new ArgumentError(`cannot compile ${declared.name}`);
    },
  };
  await expect(edge.run(engine, { services: [override(Compiler, refusing)] })).rejects.toThrow('cannot compile counting');
  expect(engine.log).toEqual([]);
});

describe('stats$', () => {
  test('ticks on the clock, is shared and ends with the pipeline', async () => {
    const clock = new VirtualTimeScheduler(undefined, 2500);
    const running = await edge.run(new FakeEngine(), { services: [...withFakeCompiler, override(Clock, clock)], statsIntervalMs: 1000 });
    await running.run(packetOf(60));
    const packets: bigint[] = [];
    let ended = false;
    running.stats$.subscribe({
      next: (stats) => packets.push(stats.xdp.last.packets),
      complete: () => {
        ended = true;
      },
    });
    clock.flush();
    expect(packets).toEqual([1n, 1n, 1n]);
    expect((await firstValueFrom(running.stats$)).xdp.counting.packets).toBe(1n);
    await running.stop();
    expect(ended).toBe(true);
  });

  test('who leaves ends the ticking, who fails fails alone, and who comes late is told that it is over', async () => {
    const clock = new VirtualTimeScheduler(undefined, 2500);
    const running = await edge.run(new FakeEngine(), { services: [...withFakeCompiler, override(Clock, clock)], statsIntervalMs: 1000 });
    const errors: unknown[] = [];
    let ticks = 0;
    const failing = map(() => {
      throw new RangeError('mine');
    });
    running.stats$.pipe(failing).subscribe({ error: (error) => errors.push(error) });
    const other = running.stats$.subscribe(() => {
      ticks += 1;
    });
    clock.flush();
    expect([errors, ticks]).toEqual([[new RangeError('mine')], 3]);
    other.unsubscribe();
    expect(clock.actions).toEqual([]);
    await running.stop();
    await expect(lastValueFrom(running.stats$, { defaultValue: 'over' })).resolves.toBe('over');
  });
});

describe('describe', () => {
  test('is the chain as data', async () => {
    await using running = await edge.run(new FakeEngine(), options);
    const { chains } = running.describe();
    expect(chains.xdp.first).toBe('counting');
    expect(chains.xdp.depth).toBe(3);
    expect(chains.xdp.stages.find(({ name }) => name === 'acl')).toEqual({
      name: 'acl',
      stage: 'acl',
      reads: [],
      reasons: [],
      writes: [],
      maps: [],
      edges: [
        { kind: 'next', label: 'next', to: 'last', slot: 1 },
        { kind: 'exit', label: 'odd', to: 'reject', slot: 2 },
      ],
    });
  });
});

interface Greeter {
  greet(): string;
}
const Greeter = token<Greeter>('Greeter');
class Controller implements AsyncDisposable {
  readonly greeter: Greeter;
  readonly table: { set(key: number, value: bigint): void };
  readonly #onStop: () => void;
  constructor(greeter: Greeter, table: Controller['table'], onStop: () => void) {
    this.greeter = greeter;
    this.table = table;
    this.#onStop = onStop;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.#onStop();
  }
}
const service = (name: string, log: string[] = []) => {
  const table = hash({ name: 'table', key: u32, value: u64, maxEntries: 8 });
  return {
    table,
    fn: defineFunction({
      name: 'service',
      stages: { xdp: [stage({ name: 'work', hook: 'xdp', uses: { table }, program: (ctx) => ctx.next() })] },
      controller: {
        needs: { table, greeter: Greeter },
        create: ({ table, greeter }) => new Controller(greeter, table, () => log.push(`${name} stopped`)),
      },
    }).as(name as 'east'),
  };
};

describe('controllers', () => {
  const greeter: Greeter = { greet: () => 'hello' };

  test('get handles and services, one for each function, and stop last first', async () => {
    const log: string[] = [];
    const east = service('east', log);
    const west = service('west', log);
    const engine = new FakeEngine();
    engine.onStep = (what) => {
      if (what.startsWith('attach')) log.push(what);
    };
    const running = await pipeline('two', { xdp: [east.fn, west.fn as unknown as ReturnType<typeof step<'other'>>] }).run(engine, {
      services: [...withFakeCompiler, override(Greeter, greeter)],
    });
    expect(engine.openNames).toEqual(expect.arrayContaining(['east/table', 'west/table']));
    const controller = running.controller(east.fn);
    expect(controller.greeter.greet()).toBe('hello');
    controller.table.set(1, 2n);
    expect(running.map(east.table).get(1)).toBe(2n);
    expect(running.map(west.table).get(1)).toBeUndefined();
    await running.stop();
    expect(log).toEqual(['attach two.root xdp', 'west stopped', 'east stopped']);
  });

  test('a map that only the controller names is made too, in the scope of its function', async () => {
    const settings = hash({ name: 'settings', key: u32, value: u64, maxEntries: 8 });
    const tuned = defineFunction({
      name: 'tuned',
      stages: { xdp: [step('work')] },
      controller: { needs: { settings }, create: ({ settings }) => ({ tune: (value: bigint) => settings.set(1, value) }) },
    });
    const engine = new FakeEngine();
    await using running = await pipeline('one', { xdp: [tuned] }).run(engine, options);
    running.controller(tuned).tune(5n);
    expect(running.map(settings).get(1)).toBe(5n);
    expect(engine.openNames).toContain('tuned/settings');
    await running.replace(tuned.stage(step('work')), step('other'));
    expect(running.map(settings).get(1)).toBe(5n);
  });

  test('a need that nothing provides is named, and nothing stays open', async () => {
    const { fn } = service('east');
    const engine = new FakeEngine();
    await expect(pipeline('one', { xdp: [fn] }).run(engine, options)).rejects.toMatchObject({
      code: 'chain',
      message: "the controller of 'east' needs Greeter, which nothing provides",
      hint: 'run(engine, { services: [override(Greeter, …)] })',
    });
    expect(engine.open$.size).toBe(0);
  });

  test('an override of nothing is an error', async () => {
    await expect(edge.run(new FakeEngine(), { services: [override(Greeter, greeter)] })).rejects.toThrow(
      'override of Greeter: nothing in this pipeline uses it',
    );
  });

  test('controllers are stopped where attaching fails', async () => {
    const log: string[] = [];
    const { fn } = service('east', log);
    const engine = new FakeEngine();
    engine.onStep = (what) => {
      if (what.startsWith('attach')) throw new PlannedFailure(what);
    };
    await expect(
      pipeline('one', { xdp: [fn] }).run(engine, { services: [...withFakeCompiler, override(Greeter, greeter)] }),
    ).rejects.toThrow(PlannedFailure);
    expect(log).toEqual(['east stopped']);
    expect(engine.open$.size).toBe(0);
  });
});
