/** Programs of objects as stages of chains: edges, maps, counters, swaps. */
import { BtfBuilder, type Engine, type EngineInstance, type LoadedMap, MapFlag, readElf } from '@tailrace/bpf';
import { type AnyStage, arrayMap, defineFunction, hash, objectStage, stage, struct, u16, u32, u64 } from '@tailrace/stage';
import { assembledObject, run, simulate } from '@tailrace/testing';
import { describe, expect, test } from 'vitest';
import { watched } from './live.suite.ts';
import { pipeline } from './pipeline.ts';

const flowsSpec = { name: 'flows', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 16, flags: 0 } as const;
const flows = hash({ name: 'flows', key: u32, value: u64, maxEntries: 16 });

/** Adds one to flows[1], then returns the packet's byte 14. `data` is where the context has the packet's start. */
const counting = (data: number, mask = 0xff) => `
  r6 = r1
  r2 = *(u32 *)(r6 +${data})
  r3 = *(u32 *)(r6 +${data + 4})
  r4 = r2
  r4 += 15
  r7 = 2
  if r4 > r3 goto count
  r7 = *(u8 *)(r2 +14)
count:
  *(u32 *)(r10 -4) = 1
  r2 = r10
  r2 += -4
  r1 = map[flows]
  call bpf_map_lookup_elem#1
  if r0 == 0 goto fresh
  r1 = 1
  lock *(u64 *)(r0 +0) += r1
  goto out
fresh:
  *(u64 *)(r10 -16) = 1
  r1 = map[flows]
  r2 = r10
  r2 += -4
  r3 = r10
  r3 += -16
  r4 = 0
  call bpf_map_update_elem#2
out:
  r0 = r7
  r0 &= ${mask}
  exit`;
const count = assembledObject([{ name: 'count', text: counting(0) }], [flowsSpec]);
const countTc = assembledObject([{ name: 'countTc', type: 'schedCls', text: counting(76) }], [flowsSpec]);

/** The same in TypeScript, but that every packet goes on. */
const typed = stage({
  name: 'typed',
  hook: 'xdp',
  uses: { flows },
  program(ctx, { flows }) {
    const seen = flows.lookup(1);
    if (seen) seen.value += 1n;
    else flows.update(1, 1n);
    return ctx.next();
  },
});
const last = stage({ name: 'last', hook: 'xdp', program: (ctx) => (ctx.length > 100 ? ctx.drop() : ctx.tx()) });
const behind = stage({ name: 'behind', hook: 'xdp', program: (ctx) => ctx.drop() });

/** A frame with a byte behind its Ethernet header. */
function frame(byte: number, bytes = 60): Uint8Array {
  const made = new Uint8Array(bytes);
  made[14] = byte;
  return made;
}

/** Puts values into all registers that calls keep. */
const holding = 'r6 = 61\nr7 = 62\nr8 = 63\nr9 = 64\n';
const sum = 'r0 = r6\nr0 += r7\nr0 += r8\nr0 += r9\n';

/** `const volatile int limit = 1; const volatile long long wide = 0;`: returns the first, if the second is 0 or -1. */
function limited(): Uint8Array {
  const builder = new BtfBuilder();
  const limit = builder.var('limit', builder.int('int', 4, 'signed'), 'global');
  const wide = builder.var('wide', builder.int('long long', 8, 'signed'), 'global');
  const valueTypeId = builder.datasec('.rodata', 16, [
    { type: limit, offset: 0, size: 4 },
    { type: wide, offset: 8, size: 8 },
  ]);
  const text = `
    r1 = map[.rodata][0]+0
    r0 = *(u32 *)(r1 +0)
    r2 = *(u64 *)(r1 +8)
    if r2 == 0 goto out
    if r2 != -1 goto wrong
    goto out
  wrong:
    r0 = 0
  out:
    exit`;
  const value = new Uint8Array(16);
  value[0] = 1;
  return assembledObject(
    [{ name: 'limited', text }],
    [
      {
        spec: {
          name: '.rodata',
          type: 'array',
          keySize: 4,
          valueSize: 16,
          maxEntries: 1,
          flags: MapFlag.readOnlyProgram,
          btf: { blob: builder.toBytes(), keyTypeId: 0, valueTypeId },
        },
        contents: [{ key: new Uint8Array(4), value }],
        programs: [],
        maps: [],
        pinByName: false,
      },
    ],
  );
}

/** The cases, on an engine. */
export function objectStageSuite(engine: Engine): void {
  describe('TypeScript, C, TypeScript', () => {
    const c = objectStage({ name: 'count', hook: 'xdp', object: count, uses: { flows }, exits: { big: 5, odd: [7, -1] } });
    const edge = pipeline('edge', { xdp: [typed, c.on({ big: [behind], odd: 'pass' }), last] });

    test('one map, exits, verdicts, counters', async () => {
      await using running = await edge.run(engine);
      const run = async (byte: number) => {
        const { verdict, path } = await running.run(frame(byte));
        return [verdict, ...(path ?? []).map(({ stage, verdict, exit }) => `${stage} ${exit ?? verdict}`)].join(', ');
      };
      expect(await run(2)).toBe('tx, typed next, count next, last tx');
      expect(await run(5)).toBe('drop, typed next, count big, behind drop');
      expect(await run(7)).toBe('pass, typed next, count odd');
      expect(await run(1)).toBe('drop, typed next, count drop');
      expect(await run(3)).toBe('tx, typed next, count tx');
      expect(await run(0)).toBe('abort, typed next, count abort');
      expect(await run(99)).toBe('abort, typed next, count abort');
      expect(running.map(flows).get(1)).toBe(14n);
      expect(running.stats().xdp.count).toEqual({
        packets: 7n,
        bytes: 420n,
        verdicts: { abort: 2n, drop: 1n, pass: 0n, tx: 1n, redirect: 0n },
        next: 1n,
        exits: { big: 1n, odd: 1n },
        drops: {},
        misses: 0n,
      });
    });

    test('one takes the place of the other while the chain runs, and back', async () => {
      await using running = await edge.run(engine);
      const verdicts = async () => [(await running.run(frame(1))).verdict, (await running.run(frame(2))).verdict];
      expect(await verdicts()).toEqual(['drop', 'tx']);
      await running.replace(c, typed);
      expect(await verdicts()).toEqual(['tx', 'tx']);
      await running.replace(c, c.on({ big: 'drop', odd: 'drop' }));
      expect(await verdicts()).toEqual(['drop', 'tx']);
      await running.replace(typed, c.as('again').on({ big: 'next', odd: 'next' }).with({}));
      expect(await verdicts()).toEqual(['drop', 'tx']);
      expect(running.map(flows).get(1)).toBe(15n);
      expect(running.stats().xdp.count).toMatchObject({ packets: 7n, next: 5n, verdicts: { drop: 2n }, bytes: 420n });
      expect(running.stats().xdp.typed).toMatchObject({ packets: 8n, next: 7n, verdicts: { drop: 1n } });
    });

    test('an empty slot is a miss', async () => {
      const arrays: LoadedMap[] = [];
      const watching: Engine = {
        kind: engine.kind,
        open: async () =>
          watched(await engine.open(), (name, result) => {
            const map = result as ReturnType<EngineInstance['createMap']>;
            if (name === 'createMap' && map.spec.name === 'miss/xdp.array') arrays.push(map);
          }),
      };
      const strict = objectStage({ name: 'strict', hook: 'xdp', object: count, onMiss: 'drop' });
      await using running = await pipeline('miss', { xdp: [strict, last] }).run(watching);
      await arrays[0]?.clearProgram(0);
      expect((await running.run(frame(2))).verdict).toBe('drop');
      expect(running.stats().xdp.strict).toMatchObject({ packets: 1n, next: 1n, misses: 1n });
    });
  });

  test('a single program is a whole pipeline, and its verdicts can be its own', async () => {
    for (const next of ['pass', 'never'] as const) {
      const alone = objectStage({ name: 'alone', hook: 'xdp', object: count, next });
      await using running = await pipeline('one', { xdp: [alone] }).run(engine);
      const verdicts: string[] = [];
      for (const byte of [0, 1, 2, 3, 4, 5]) verdicts.push((await running.run(frame(byte, 80))).verdict);
      expect(verdicts).toEqual(['abort', 'drop', 'pass', 'tx', 'redirect', 'abort']);
      const { verdicts: counted, next: went, bytes } = running.stats().xdp.alone;
      expect([went, counted.pass, counted.redirect, bytes]).toEqual([next === 'pass' ? 1n : 0n, next === 'pass' ? 0n : 1n, 1n, 480n]);
      expect(alone.uses).toHaveProperty('flows');
    }
  });

  test('at TC: what is no verdict goes on, segments are counted, metadata stay', async () => {
    const writer = stage({
      name: 'writer',
      hook: 'tc',
      writes: { tenant: u16 },
      program(ctx) {
        ctx.meta.tenant = 77;
        return ctx.next();
      },
    });
    const reader = stage({
      name: 'reader',
      hook: 'tc',
      reads: { tenant: u16 },
      program: (ctx) => (ctx.meta.tenant === 77 ? ctx.pass() : ctx.drop()),
    });
    const c = objectStage({ name: 'count', hook: 'tc', object: countTc, uses: { flows }, exits: { far: 9 } });
    await using running = await pipeline('edge', {
      tcIngress: [writer, c.on({ far: 'drop' }), reader],
      tcEgress: [writer, c.on({ far: 'next' }), reader],
    }).run(engine);
    for (const hook of ['tcIngress', 'tcEgress'] as const) {
      const verdicts: string[] = [];
      for (const byte of [0, 1, 2, 4, 7, 9, 255])
        verdicts.push((await running.run(frame(byte), { hook, skb: { gsoSegments: 3, gsoSize: 20 } })).verdict);
      expect(verdicts).toEqual(['pass', 'pass', 'drop', 'pass', 'redirect', hook === 'tcIngress' ? 'drop' : 'pass', 'pass']);
      expect(running.stats()[hook].count).toMatchObject({
        packets: 21n,
        bytes: 420n,
        next: 12n,
        exits: { far: 3n },
        verdicts: { pass: 0n, drop: 3n, redirect: 3n },
      });
    }
    expect(running.map(flows).get(1)).toBe(14n);
  });

  test('functions, callbacks and variables move along', async () => {
    const text = `
      r6 = r1
      r1 = 5
      call twice
      r7 = r0
      r8 = map[.data][0]+4
      r9 = *(u32 *)(r8 +0)
      *(u32 *)(r10 -8) = 0
      r1 = 3
      r2 = subprog[add]
      r3 = r10
      r3 += -8
      r4 = 0
      call bpf_loop#181
      r0 = *(u32 *)(r10 -8)
      r0 += r7
      r0 += r9
      r1 = map[.rodata][0]+0
      r1 = *(u32 *)(r1 +0)
      r0 += r1
      r1 = map[.bss][0]+8
      lock *(u64 *)(r1 +0) += r0
      exit
    twice:
      r0 = r1
      r0 += r0
      exit
    add:
      r3 = *(u32 *)(r2 +0)
      r3 += 1
      r3 += r1
      *(u32 *)(r2 +0) = r3
      r0 = 0
      exit`;
    const variables = (name: string, bytes?: Uint8Array, flags = 0) => ({
      spec: { name, type: 'array' as const, keySize: 4, valueSize: bytes?.length ?? 16, maxEntries: 1, flags },
      contents: bytes ? [{ key: new Uint8Array(4), value: bytes }] : [],
      programs: [],
      maps: [],
      pinByName: false,
    });
    const words = (...list: readonly number[]) => new Uint8Array(Uint32Array.from(list).buffer);
    const object = readElf(
      assembledObject(
        [{ name: 'main', text, functions: ['twice', 'add'] }],
        [variables('.data', words(0, 100)), variables('.rodata', words(1000), MapFlag.readOnlyProgram), variables('.bss')],
      ),
    );
    // twice 5, three turns that add 1, 2 and 3, and what the variables hold
    const total = 10 + 6 + 100 + 1000;
    const globals = arrayMap({ name: 'globals', value: struct({ unused: u64, total: u64 }), maxEntries: 1 });
    const c = objectStage({ name: 'main', hook: 'xdp', object, uses: { '.bss': globals }, exits: { right: total } });
    const other = objectStage({ name: 'other', hook: 'xdp', object, exits: { right: total } });
    expect(other.uses).toMatchObject({ '.data': c.uses['.data' as keyof typeof c.uses], '.bss': { kind: 'map' } });
    await using running = await pipeline('vars', { xdp: [c.on({ right: [other.on({ right: 'tx' })] })] }).run(engine);
    expect((await running.run(frame(1))).verdict).toBe('tx');
    expect(running.map(globals).get(0)).toEqual({ unused: 0n, total: BigInt(total) });
  });

  test('the context is kept in a register, or on the stack where none is free', async () => {
    const register = assembledObject([{ name: 'main', text: 'r6 = 1\nr8 = 2\nr9 = 3\nr0 = 2\nexit' }]);
    const stack = assembledObject([
      {
        name: 'main',
        text: `*(u64 *)(r10 -8) = 7\n${holding}r1 = r10\nr1 += -64\n*(u64 *)(r1 +0) = 9\nr1 = 1\ncall sub\n${sum}r0 += -248\nexit\nsub:\n*(u64 *)(r10 -8) = 3\nr0 = 0\nexit`,
        functions: ['sub'],
      },
    ]);
    for (const object of [register, stack]) {
      const c = objectStage({ name: 'main', hook: 'xdp', object });
      await using running = await pipeline('home', { xdp: [c, last] }).run(engine);
      expect((await running.run(frame(1))).verdict).toBe('tx');
      expect(running.stats().xdp.main).toMatchObject({ next: 1n, misses: 0n });
    }
  });

  test('later stages see the length of a packet whose end was moved, and it is that which counts', async () => {
    const text = 'r6 = r1\nr2 = 90\ncall bpf_xdp_adjust_tail#65\nr0 = 2\nexit';
    const longer = objectStage({ name: 'longer', hook: 'xdp', object: assembledObject([{ name: 'longer', text }]) });
    await using running = await pipeline('length', { xdp: [longer, last] }).run(engine);
    expect(await running.run(frame(1))).toMatchObject({ verdict: 'drop' });
    const { longer: first, last: second } = running.stats().xdp;
    expect([first.bytes, second.bytes]).toEqual([150n, 150n]);
  });

  test('constants get their values before the program runs', async () => {
    const one = objectStage({ name: 'limited', hook: 'xdp', object: limited() });
    const two = objectStage({ name: 'limited', hook: 'xdp', object: limited(), uses: { limit: 3, wide: -1n } });
    const verdict = async (subject: AnyStage) => {
      await using running = await pipeline('limits', { xdp: [subject] }).run(engine);
      return (await running.run(frame(0))).verdict;
    };
    expect(await verdict(one)).toBe('drop');
    expect(await verdict(two)).toBe('tx');
    expect(await verdict(two.with({ limit: 1 }))).toBe('drop');
  });

  test('two in a function, each with its variables', async () => {
    const own = (name: string) => objectStage({ name, hook: 'xdp', object: variables() });
    const both = defineFunction({ name: 'both', stages: { xdp: [own('one'), own('two'), typed] } });
    await using running = await pipeline('pair', { xdp: [both, last] }).run(engine);
    for (const byte of [1, 2]) expect((await running.run(frame(byte))).verdict).toBe('tx');
    expect(running.stats().xdp['both.two']).toMatchObject({ next: 2n, bytes: 120n });
    expect(running.describe().chains.xdp.stages.map(({ maps }) => maps)).toEqual([['one.bss'], ['two.bss'], ['flows'], []]);
  });

  test('one stage by itself, as tests run it', async () => {
    const c = objectStage({ name: 'count', hook: 'xdp', object: count, uses: { flows }, exits: { big: 5 } });
    const results: unknown[] = [];
    for (const byte of [1, 2, 5]) {
      const { verdict, exit } = await run(c, frame(byte), { engine });
      results.push(exit ?? verdict);
    }
    expect(results).toEqual(['drop', 'next', 'big']);
    expect(() => simulate(c, frame(1))).toThrow("stage 'count' is program count of an object, which only engines can run");
  });
}

/** `u64 seen;`: counts there. */
function variables(): Uint8Array {
  const text = 'r1 = map[.bss][0]+0\nr2 = 1\nlock *(u64 *)(r1 +0) += r2\nr0 = 2\nexit';
  return assembledObject([{ name: 'seen', text }], [{ name: '.bss', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 }]);
}
