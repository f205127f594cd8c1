import { disassemble } from '@tailrace/bpf';
import { array, arrayMap, fn, hash, lruHash, stage, struct, u8, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { compileRoot, compileStage, exitsOf } from './compile.ts';
import { CompileError } from './diagnostic.ts';
import { functionOf, programStage, refusal, stageOf } from './fixture.ts';

test('a program is data that any engine can load', () => {
  const counts = arrayMap({ name: 'counts', value: u64, maxEntries: 1 });
  const { program, maps, stackSize, spills } = compileStage(
    stageOf('counts.lookup(0).value += 1n; return ctx.drop();', { name: 'count', uses: { counts } }),
    { name: 'l4lb.count' },
  );
  expect({ ...program, instructions: program.instructions.length, lines: program.lines.length }).toMatchInlineSnapshot(`
    {
      "frags": true,
      "functions": [
        {
          "name": "l4lb.count",
          "pc": 0,
        },
      ],
      "instructions": 5,
      "license": "Dual MIT/GPL",
      "lines": 1,
      "mapReferences": [
        {
          "map": "counts",
          "pc": 0,
          "valueOffset": 0,
        },
      ],
      "name": "l4lb.count",
      "type": "xdp",
    }
  `);
  expect([...maps]).toEqual([['counts', counts]]);
  expect({ stackSize, spills }).toEqual({ stackSize: 0, spills: 0 });
});

test('maps are named by the first way that leads to them', () => {
  const one = hash({ name: 'one', key: u32, value: u32, maxEntries: 1 });
  const two = hash({ name: 'two', key: u32, value: u32, maxEntries: 1 });
  const inner = fn([u32], u32, { one, two }, (key, { one, two }) => (one.lookup(key) || two.lookup(key) ? 1 : 0));
  const subject = stageOf('return inner(1) || direct.lookup(2) || again.lookup(3) ? ctx.drop() : ctx.pass();', {
    uses: { inner, direct: one, again: two },
  });
  const { maps, program } = compileStage(subject);
  expect([...maps]).toEqual([
    ['inner.one', one],
    ['inner.two', two],
  ]);
  expect(new Set(program.mapReferences.map(({ map }) => map))).toEqual(new Set(['inner.one', 'inner.two']));
});

test('a stage may have a map called state, and metadata', () => {
  const state = hash({ name: 'state', key: u32, value: u32, maxEntries: 1 });
  const { maps } = compileStage(
    stageOf('ctx.meta.mark = 1; state.update(1, 2); return ctx.next();', { uses: { state }, writes: { mark: u32 } }),
  );
  expect([...maps.keys()]).toEqual(['state', '(state)']);
});

test('labels', () => {
  const labels = (body: string, uses = {}): readonly string[] => exitsOf(stageOf(body, { uses }));
  expect(labels("return ctx.length > 9 ? ctx.exit('b') : ctx.exit('a');")).toEqual(['a', 'b']);
  expect(labels("return ctx.exit(ctx.length > 9 ? 'b' : ctx.length > 5 ? `c` : 'a');")).toEqual(['a', 'b', 'c']);
  expect(labels('return ctx.next();')).toEqual([]);
  expect(labels("const { exit } = ctx; return exit('a');")).toEqual(['a']);
  expect(labels("return ctx['exit']('a');")).toEqual(['a']);
  expect(labels("const c = ctx; if (c.length > 9) return c.exit('z'); return ctx.exit('exit');")).toEqual(['exit', 'z']);
  expect(
    labels('for (const l of list) if (ctx.length === l.at) return ctx.exit(l.out); return ctx.exit(other);', {
      list: [
        { at: 1, out: 'x' },
        { at: 2, out: 'y' },
      ],
      other: 'o',
    }),
  ).toEqual(['o', 'x', 'y']);
  expect(() => labels('return ctx.exit(ctx.length);')).toThrow(CompileError);
});

test('hooks that cannot be compiled', () => {
  expect(refusal(stage({ name: 'shaper', hook: 'skMsg', program: (ctx) => ctx.pass() }))).toMatchInlineSnapshot(
    `"stage 'shaper': hook 'skMsg' cannot be compiled, expected xdp, tc, tcIngress or tcEgress"`,
  );
});

test('constants that are no integers', () => {
  const refused = (body: string): string =>
    refusal(`${body}\nreturn ctx.next();`, { uses: { rate: 1.5, huge: 2 ** 60, nested: { deep: [0.5] }, fine: 5 } });
  expect(refused('if (ctx.length > rate) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:2:18: stage 'sample': the constant 'rate' is 1.5, expected an integer within ±2^53
     2 | if (ctx.length > rate) return ctx.drop();
       |                  ^^^^"
  `);
  expect(refused('const x = huge + 1;')).toMatchInlineSnapshot(`
    "stage.ts:2:11: stage 'sample': the constant 'huge' is 1152921504606847000, expected an integer within ±2^53
     2 | const x = huge + 1;
       |           ^^^^^^^^"
  `);
  expect(refused('const x = nested.deep[0] * 2;')).toMatchInlineSnapshot(`
    "stage.ts:2:11: stage 'sample': the constant 'nested.deep[0]' is 0.5, expected an integer within ±2^53
     2 | const x = nested.deep[0] * 2;
       |           ^^^^^^^^^^^^^^^^^^"
  `);
  compileStage(stageOf('return ctx.length > fine ? ctx.drop() : ctx.next();', { uses: { rate: 1.5, fine: 5 } }));
});

test('too much stack', () => {
  const wide = (name: string) => lruHash({ name, key: array(u8, 300), value: struct({ all: array(u64, 40) }), maxEntries: 1 });
  const Long = struct({ key: array(u8, 300), value: struct({ all: array(u64, 40) }) });
  const body = 'const p = ctx.at(Long, 0); if (!p) return ctx.drop(); one.update(p.key, p.value);\nreturn ctx.next();';
  expect(refusal(body, { uses: { Long, one: wide('one') } })).toMatchInlineSnapshot(`
    "stage.ts:2:55: stage 'sample': the program needs 624 bytes of stack at once (320, 300), expected at most 512
     2 | const p = ctx.at(Long, 0); if (!p) return ctx.drop(); one.update(p.key, p.value);
       |                                                       ^
       = hint: keep fewer or smaller structs alive, or move a part into a stage of its own"
  `);
});

test('a root jumps to the first stage', () => {
  const root = compileRoot({ name: 'edge', array: 'chain' });
  expect({ ...root, instructions: disassemble(root.instructions) }).toMatchInlineSnapshot(`
    {
      "frags": true,
      "functions": [
        {
          "name": "edge",
          "pc": 0,
        },
      ],
      "instructions": "0: r2 = map[fd:0]
    2: r3 = 0
    3: call bpf_tail_call#12
    4: r0 = 2
    5: exit",
      "license": "Dual MIT/GPL",
      "lines": [],
      "mapReferences": [
        {
          "map": "chain",
          "pc": 0,
        },
      ],
      "name": "edge",
      "type": "xdp",
    }
  `);
});

test('functions of the same text are compiled with their own uses', () => {
  const program = functionOf('(ctx, { limit }) => ctx.length > limit ? ctx.drop() : ctx.pass()');
  const [a, b] = [1, 2].map(
    (limit) => compileStage(stage({ name: 'limit', hook: 'xdp', uses: { limit }, program: program as never })).program.instructions,
  );
  expect(a).not.toEqual(b);
  expect(
    compileStage(programStage('(ctx, { limit }) => ctx.length > limit ? ctx.drop() : ctx.pass()', { uses: { limit: 1 } })).program
      .instructions,
  ).toEqual(a);
});
