import type { LoadedMap, LoadedProgram } from '@tailrace/bpf';
import { defineFunction, stage } from '@tailrace/stage';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ChainVerdict } from './chain-hook.ts';
import { FakeEngine, fakeCompiler, PlannedFailure } from './fake-engine.ts';
import { edgesOf, placeIn } from './graph.ts';
import { type PathStep, pathOf } from './path.ts';
import { pipeline } from './pipeline.ts';
import { planPipeline } from './pipeline-plan.ts';
import type { ChainPlan } from './plan.ts';
import { bounce, type dynamic, fork, packetOf, step, withFakeCompiler } from './sample.ts';
import { layoutState, MISSES_OFFSET, type StateLayout } from './state.ts';

const options = { services: withFakeCompiler };

/** Ends with a verdict of its own, leaves through `odd` or goes on, by the packet's length. */
const judge = <const N extends string>(name: N) =>
  stage({
    name,
    hook: 'xdp',
    onMiss: 'drop',
    program: (ctx) => (ctx.length > 99 ? ctx.drop() : ctx.length % 2 === 1 ? ctx.exit('odd') : ctx.next()),
  });

/** `a → b odd → c tx`: the stages with how they were left, `next` unsaid. */
function shown(path: readonly PathStep[] | undefined): string | undefined {
  return path
    ?.map(({ stage, verdict, exit, missed }) =>
      [stage, ...(verdict === 'next' ? [] : [exit ?? verdict]), ...(missed ? ['(missed)'] : [])].join(' '),
    )
    .join(' → ');
}

const named = <T extends LoadedMap | LoadedProgram>(engine: FakeEngine, name: string): T =>
  [...engine.open$].find((thing) => 'spec' in thing && thing.spec.name === name) as unknown as T;

const reject = bounce('reject');
const lb = defineFunction({ name: 'lb', stages: { xdp: [fork('pick').on({ odd: [step('new'), 'next'] }), step('send')] } });

describe('the path of a test run', () => {
  test.each([
    ['a line', [step('a'), step('b'), step('c')], 60, 'pass', 'a → b → c'],
    ['one stage', [bounce('a')], 60, 'tx', 'a tx'],
    ['an exit that is a verdict', [fork('a').on({ odd: 'abort' }), step('b')], 61, 'abort', 'a odd'],
    ['an exit to a stage', [fork('a').on({ odd: reject }), step('b')], 61, 'tx', 'a odd → reject tx'],
    ['an exit to where next leads', [fork('a').on({ odd: 'next' }), step('b')], 61, 'pass', 'a odd → b'],
    ['a sub-chain', [fork('a').on({ odd: [step('x'), step('y')] }), step('b')], 61, 'pass', 'a odd → x → y'],
    ['a sub-chain that rejoins', [fork('a').on({ odd: [step('x'), 'next'] }), step('b')], 61, 'pass', 'a odd → x → b'],
    ['a sub-chain that ends in a verdict', [fork('a').on({ odd: [step('x'), 'drop'] }), step('b')], 61, 'drop', 'a odd → x'],
    ['a verdict in the middle', [step('a'), judge('b').on({ odd: 'pass' }), step('c')], 100, 'drop', 'a → b drop'],
    ['a function', [step('a'), lb, step('b')], 61, 'pass', 'a → lb.pick odd → lb.new → lb.send → b'],
    ['a stage behind two exits', [fork('a').on({ odd: 'next' }), fork('b').on({ odd: reject })], 61, 'tx', 'a odd → b odd → reject tx'],
  ] as const)('%s', async (_what, members, length, verdict, path) => {
    await using running = await pipeline('edge', { xdp: members as never }).run(new FakeEngine(), options);
    const result = await running.run(packetOf(length));
    expect([result.verdict, shown(result.path)]).toEqual([verdict, path]);
    // counts of packets before do not matter
    expect((await running.run(packetOf(length))).path).toEqual(result.path);
  });

  test('steps say how a stage was left', async () => {
    await using running = await pipeline('edge', { xdp: [step('a'), fork('b').on({ odd: reject })] }).run(new FakeEngine(), options);
    expect((await running.run(packetOf(61))).path).toEqual([
      { stage: 'a', verdict: 'next' },
      { stage: 'b', verdict: 'exit', exit: 'odd' },
      { stage: 'reject', verdict: 'tx' },
    ]);
  });

  test('ends where a slot is empty, with what onMiss says', async () => {
    const engine = new FakeEngine();
    await using running = await pipeline('edge', { xdp: [step('a'), judge('b').on({ odd: reject }), step('c')] }).run(engine, options);
    const array = named<LoadedMap>(engine, 'edge/xdp.array');
    await array.clearProgram(1);
    await array.clearProgram(2);
    const [next, exit] = [await running.run(packetOf(60)), await running.run(packetOf(61))];
    expect([next.verdict, shown(next.path)]).toEqual(['drop', 'a → b (missed)']);
    expect([exit.verdict, shown(exit.path)]).toEqual(['drop', 'a → b odd (missed)']);
    await array.clearProgram(0);
    const early = await running.run(packetOf(60));
    expect(early).toMatchObject({ verdict: 'pass', path: [{ stage: 'a', verdict: 'next', missed: true }] });
    await named<LoadedMap>(engine, 'edge/xdp.entry').clearProgram(0);
    expect(await running.run(packetOf(60))).toMatchObject({ verdict: 'pass', path: [] });
  });

  test('packets that are sent together have each their own', async () => {
    await using running = await pipeline('edge', { xdp: [fork('a').on({ odd: reject }), step('b')] }).run(new FakeEngine(), options);
    const results = await Promise.all(Array.from({ length: 20 }, (_, i) => running.run(packetOf(60 + i))));
    expect(results.map(({ path }) => shown(path))).toEqual(Array.from({ length: 20 }, (_, i) => (i % 2 ? 'a odd → reject tx' : 'a → b')));
  });

  test('the packet is taken as it is when run is called, and stop waits for it', async () => {
    const engine = new FakeEngine();
    const running = await pipeline('edge', { xdp: [judge('a').on({ odd: 'tx' })] }).run(engine, options);
    const packet = packetOf(61);
    const results = [running.run(packetOf(60)), running.run(packet)] as const;
    packet.fill(7);
    await running.stop();
    expect((await results[1]).packet).toEqual(packetOf(61));
    expect((await Promise.all(results)).map(({ path }) => shown(path))).toEqual(['a', 'a odd']);
  });

  test('a run that fails leaves the next one whole', async () => {
    const engine = new FakeEngine();
    await using running = await pipeline('edge', { xdp: [step('a')] }).run(engine, options);
    engine.onRun = () => {
      throw new PlannedFailure('told to fail');
    };
    const failed = running.run(packetOf(60));
    await expect(failed).rejects.toThrow('told to fail');
    engine.onRun = () => undefined;
    expect(shown((await running.run(packetOf(60))).path)).toBe('a');
  });
});

describe('where other packets pass meanwhile', () => {
  const started = async () => {
    const engine = new FakeEngine();
    const running = await pipeline('edge', { xdp: [step('a'), fork('b').on({ odd: reject }), step('c')] }).run(engine, options);
    const root = named<LoadedProgram>(engine, 'edge.root');
    /** Runs a packet while another one passes. */
    const meeting = async (length: number, other: number) => {
      engine.onRun = async () => {
        engine.onRun = () => undefined;
        await root.testRun({ packet: packetOf(other) });
      };
      return running.run(packetOf(length));
    };
    return { running, meeting };
  };

  test('on the same way, the path is still the one', async () => {
    const { running, meeting } = await started();
    expect(shown((await meeting(60, 62)).path)).toBe('a → b → c');
    expect(shown((await meeting(61, 63)).path)).toBe('a → b odd → reject tx');
    expect(running.stats().xdp.a.packets).toBe(4n);
  });

  test('on another way, there is none', async () => {
    const { running, meeting } = await started();
    expect(await meeting(60, 61)).toMatchObject({ verdict: 'pass', path: undefined });
    expect(await meeting(61, 60)).toMatchObject({ verdict: 'tx', path: undefined });
    expect(shown((await running.run(packetOf(61))).path)).toBe('a → b odd → reject tx');
  });
});

describe('around a replacement', () => {
  const guard = fork('guard');
  const last = step('last');
  const edge = pipeline('edge', { xdp: [guard.on({ odd: 'next' }), last] });

  test('the new stage goes by the name of its place', async () => {
    await using running = await edge.run(new FakeEngine(), options);
    await running.replace(guard, step('open')); // an exit less: a block of counters of its own
    expect(shown((await running.run(packetOf(61))).path)).toBe('guard → last');
    await running.replace(last, bounce('answer'));
    expect(shown((await running.run(packetOf(61))).path)).toBe('guard → last tx');
    const more = stage({ name: 'more', hook: 'xdp', program: (ctx) => (ctx.length > 70 ? ctx.exit('long') : ctx.exit('odd')) });
    await running.replace(guard, more.on({ long: [step('extra'), 'next'] }));
    expect(shown((await running.run(packetOf(60))).path)).toBe('guard odd → last tx');
    expect(shown((await running.run(packetOf(71))).path)).toBe('guard long → extra → last tx');
  });

  // the old plan would take the new way for one that ends at once
  const short = pipeline('short', { xdp: [guard.on({ odd: 'pass' }), last] });
  const detour = guard.as('detour').on({ odd: [step('x')] });

  test('there is none until the old stage is out of use', async () => {
    const engine = new FakeEngine();
    await using running = await short.run(engine, options);
    const during: unknown[] = [];
    engine.onGrace = async () => void during.push(await running.run(packetOf(61)));
    await running.replace(guard, detour);
    expect(during).toMatchObject([{ verdict: 'pass', path: undefined }]);
    expect(shown((await running.run(packetOf(61))).path)).toBe('guard odd → x');
  });

  test('there is none for a packet that comes to its chain while that changes', async () => {
    const engine = new FakeEngine();
    await using running = await short.run(engine, options);
    engine.onRun = async () => {
      engine.onRun = () => undefined;
      await running.replace(guard, detour);
    };
    expect(await running.run(packetOf(61))).toMatchObject({ verdict: 'pass', path: undefined });
    expect(shown((await running.run(packetOf(61))).path)).toBe('guard odd → x');
  });

  test('a replacement that fails leaves paths as they were', async () => {
    const whole = new FakeEngine();
    const steps = await edge.run(whole, options).then(async (running) => {
      const before = whole.steps;
      await running.replace(last, bounce('answer'));
      return [before, whole.steps] as const;
    });
    for (let failAt = steps[0]; failAt < steps[1]; failAt++) {
      const engine = new FakeEngine();
      engine.failAt = failAt;
      await using running = await edge.run(engine, options);
      await expect(running.replace(last, bounce('answer'))).rejects.toThrow(PlannedFailure);
      // the grace period comes last, and the new stage stays where it fails
      const now = failAt === steps[1] - 1 ? 'guard → last tx' : 'guard → last';
      expect(shown((await running.run(packetOf(60))).path)).toBe(now);
    }
  });

  test('a switch that can be neither made everywhere nor undone leaves packets without a path', async () => {
    const both = stage({ name: 'both', hook: 'tc', program: (ctx) => ctx.next() });
    const engine = new FakeEngine();
    await using running = await pipeline('two', { tcIngress: [both], tcEgress: [both] }).run(engine, options);
    let switches = 0;
    engine.onStep = (what) => {
      // one chain is switched, the other fails, and so does switching back
      if (what.startsWith('slot') && switches++ > 0) throw new PlannedFailure(what);
    };
    await expect(running.replace(both, stage({ name: 'quiet', hook: 'tc', program: (ctx) => ctx.drop() }))).rejects.toMatchObject({
      code: 'rollback',
      cause: expect.any(PlannedFailure),
    });
    expect(await running.run(packetOf(60), { hook: 'tcEgress' })).toMatchObject({ verdict: 'drop', path: undefined });
    expect(shown((await running.run(packetOf(60), { hook: 'tcIngress' })).path)).toBe('both');
  });
});

/** A chain to be named and wired: what a member does at `odd`, and how a sub-chain ends. */
type Shape = readonly { readonly judges: boolean; readonly odd: 'drop' | 'next' | 'tx' | { readonly list: Shape; readonly end: string } }[];
const { shape } = fc.letrec<{ shape: Shape }>((tie) => ({
  shape: fc.array(
    fc.record({
      judges: fc.boolean(),
      odd: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constantFrom('drop' as const, 'next' as const, 'tx' as const),
        fc.record({ list: tie('shape'), end: fc.constantFrom('', 'next', 'drop') }),
      ),
    }),
    { minLength: 1, maxLength: 3, depthIdentifier: 'chain' },
  ),
}));

function planOf(whole: Shape): ChainPlan {
  let made = 0;
  const members = (list: Shape): ReturnType<typeof dynamic> =>
    list.map(({ judges, odd }) => {
      const name = `s${made++}`;
      const bare = judges ? judge(name) : fork(name);
      const target = typeof odd === 'string' ? odd : [...members(odd.list), ...(odd.end === '' ? [] : [odd.end])];
      return bare.on({ odd: target as never });
    });
  return planPipeline('edge', { xdp: members(whole) as never }, fakeCompiler).chains.get('xdp') as ChainPlan;
}

const CPUS = 2;
const wayOf = (outcome: string) => (outcome.startsWith('exit:') ? { verdict: 'exit', exit: outcome.slice(5) } : { verdict: outcome });
const offsetOf = (state: StateLayout, place: string, name: string): number => {
  const block = state.counters.get(place);
  return (block?.offset ?? Number.NaN) + 8 * (block?.names.indexOf(name) ?? Number.NaN);
};

/** Takes a way through a plan by chance; tells its steps, its verdict and the counters that it adds to. */
function wander(plan: ChainPlan, state: StateLayout, dice: readonly number[]) {
  let thrown = 0;
  const pick = <T>(items: readonly T[]): T => items[(dice[thrown++ % dice.length] ?? 0) % items.length] as T;
  const [path, counted]: [unknown[], number[]] = [[], []];
  const done = (verdict: ChainVerdict) => ({ path, counted, verdict });
  const misses = () => pick([false, false, false, false, true]);
  if (misses()) {
    counted.push(MISSES_OFFSET);
    return done('pass');
  }
  for (let name = plan.first; ; ) {
    const place = placeIn(plan.places, name);
    const edges = edgesOf(place).map(({ label, to }) => ({ outcome: label, to }));
    const own = place.outcomes.verdicts.map((verdict) => ({ outcome: verdict as string, to: { verdict: verdict as ChainVerdict } }));
    const { outcome, to } = pick([...edges, ...own]);
    counted.push(offsetOf(state, name, 'bytes'), offsetOf(state, name, outcome));
    const missed = 'place' in to && misses();
    path.push({ stage: name, ...wayOf(outcome), ...(missed ? { missed } : {}) });
    if ('verdict' in to) return done(to.verdict);
    if (missed) {
      counted.push(offsetOf(state, name, 'misses'));
      return done(place.stage.onMiss);
    }
    name = to.place;
  }
}

const cases = fc.record({
  whole: shape,
  dice: fc.array(fc.nat(), { minLength: 8, maxLength: 40 }),
  segments: fc.integer({ min: 1, max: 45 }),
  cpu: fc.nat(CPUS - 1),
});

type Case = typeof cases extends fc.Arbitrary<infer C> ? C : never;

/** The entry's bytes with something added to the counters at these offsets. */
function added(bytes: Uint8Array, offsets: readonly { readonly offset: number; readonly by: bigint }[]): Uint8Array {
  const after = Uint8Array.from(bytes);
  const view = new DataView(after.buffer);
  for (const { offset, by } of offsets) view.setBigUint64(offset, view.getBigUint64(offset, true) + by, true);
  return after;
}

describe('a path from counters', () => {
  const prepared = ({ whole, dice, segments, cpu }: Case) => {
    const plan = planOf(whole);
    const state = layoutState(plan);
    const before = Uint8Array.from({ length: state.size * CPUS }, (_, i) => (i % 8 < 4 ? i % 251 : 0));
    const { path, counted, verdict } = wander(plan, state, dice);
    const own = counted.map((offset) => ({ offset: offset + cpu * state.size, by: BigInt(segments) }));
    return { plan, state, before, path, verdict, own };
  };

  test('is the way that was counted, however often and in what steps', () => {
    fc.assert(
      fc.property(cases, fc.integer({ min: 1, max: 3 }), (one, times) => {
        const { plan, state, before, path, verdict, own } = prepared(one);
        const after = added(before, Array.from({ length: times }, () => own).flat());
        expect(pathOf({ plan, state }, verdict, before, after)).toEqual(path);
      }),
      { numRuns: 300 },
    );
  });

  test('is that one or none, whatever others count meanwhile', () => {
    const outcomes = { same: 0, none: 0 };
    fc.assert(
      fc.property(
        cases,
        fc.array(fc.record({ place: fc.nat(), word: fc.nat(), cpu: fc.nat(CPUS - 1) }), { maxLength: 6 }),
        (one, extra) => {
          const { plan, state, before, path, verdict, own } = prepared(one);
          const blocks = [{ offset: MISSES_OFFSET, names: ['misses'] }, ...state.counters.values()];
          const others = extra.map(({ place, word, cpu }) => {
            const { offset, names } = blocks[place % blocks.length] as (typeof blocks)[number];
            return { offset: offset + 8 * (word % names.length) + cpu * state.size, by: 1n };
          });
          const found = pathOf({ plan, state }, verdict, before, added(before, [...own, ...others]));
          if (found !== undefined) expect(found).toEqual(path);
          outcomes[found ? 'same' : 'none']++;
        },
      ),
      { numRuns: 500 },
    );
    expect(outcomes.same).toBeGreaterThan(50);
    expect(outcomes.none).toBeGreaterThan(50);
  });

  test('is none where a stage does not count, nothing was counted, or the verdict is another', () => {
    const plan = planPipeline('edge', { xdp: [step('a'), step('b')] }, fakeCompiler).chains.get('xdp') as ChainPlan;
    const state = layoutState(plan);
    const before = new Uint8Array(state.size * CPUS);
    const at = (place: string) => ({ offset: offsetOf(state, place, 'next'), by: 1n });
    const whole = added(before, [at('a'), at('b')]);
    expect(pathOf({ plan, state }, 'pass', before, whole)).toHaveLength(2);
    expect(pathOf({ plan, state }, 'drop', before, whole)).toBeUndefined();
    expect(pathOf({ plan, state }, 'pass', before, before)).toBeUndefined();
    expect(pathOf({ plan, state }, 'pass', before, added(before, [at('a')]))).toBeUndefined();
    const silent = { ...state, counters: new Map([...state.counters].filter(([name]) => name !== 'b')) };
    expect(pathOf({ plan, state: silent }, 'pass', before, whole)).toBeUndefined();
  });
});
