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
      "lines": 2,
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

test('metadata where there is no place for them', () => {
  expect(refusal(stage({ name: 'shaper', hook: 'skMsg', reads: { flow: u32 }, program: (ctx) => ctx.pass() }))).toMatchInlineSnapshot(`
    "stage 'shaper': its hook is skMsg, where there are no metadata
      hint: programs of sockets interrupt one another, and have no packet to keep them with: use a map"
  `);
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

test('a root at TC takes over what comes from XDP', () => {
  const state = { map: 'state', misses: 8, missing: 16 };
  const root = compileRoot({ hook: 'tc', name: 'edge', array: 'chain', state, imports: { tag: 0xc0ffee42, words: 2 } });
  expect({ type: root.type, frags: root.frags, instructions: disassemble(root.instructions) }).toMatchInlineSnapshot(`
    {
      "frags": false,
      "instructions": "0: r6 = r1
    1: r0 = *(u32 *)(r6 +140)
    2: r2 = *(u32 *)(r6 +76)
    3: r1 = r0
    4: r1 += 12
    5: if r1 > r2 goto pc+23
    6: r1 = *(u32 *)(r0 +0)
    7: if w1 != 0xc0ffee42 goto pc+21
    8: r1 = *(u32 *)(r0 +4)
    9: *(u32 *)(r6 +48) = r1
    10: r0 = *(u32 *)(r0 +8)
    11: *(u32 *)(r6 +52) = r0
    12: r1 = r6
    13: r2 = map[fd:0]
    15: r3 = 0
    16: call bpf_tail_call#12
    17: *(u32 *)(r10 -8) = 0
    18: r1 = map[fd:0]
    20: r2 = r10
    21: r2 += -8
    22: call bpf_map_lookup_elem#1
    23: if r0 == 0x0 goto pc+20
    24: r1 = *(u64 *)(r0 +8)
    25: r1 += 1
    26: *(u64 *)(r0 +8) = r1
    27: r0 = -1
    28: exit
    29: r0 = 0
    30: *(u32 *)(r6 +48) = r0
    31: r0 = 0
    32: *(u32 *)(r6 +52) = r0
    33: *(u32 *)(r10 -8) = 0
    34: r1 = map[fd:0]
    36: r2 = r10
    37: r2 += -8
    38: call bpf_map_lookup_elem#1
    39: if r0 == 0x0 goto pc+4
    40: r1 = *(u64 *)(r0 +16)
    41: r1 += 1
    42: *(u64 *)(r0 +16) = r1
    43: goto pc-32
    44: r0 = -1
    45: exit",
      "type": "schedCls",
    }
  `);
  expect(disassemble(compileRoot({ hook: 'tc', name: 'edge', array: 'chain' }).instructions)).toMatchInlineSnapshot(`
    "0: r2 = map[fd:0]
    2: r3 = 0
    3: call bpf_tail_call#12
    4: r0 = -1
    5: exit"
  `);
});

test('packets are told apart by the tag in front of them', () => {
  const gate = compileRoot({ hook: 'tc', name: 'gate', array: 'both', tagged: { tag: 0xc0ffee42, slot: 1 } });
  expect(disassemble(gate.instructions)).toMatchInlineSnapshot(`
    "0: r0 = *(u32 *)(r1 +140)
    1: r3 = *(u32 *)(r1 +76)
    2: r2 = r0
    3: r2 += 4
    4: if r2 > r3 goto pc+8
    5: r0 = *(u32 *)(r0 +0)
    6: if w0 != 0xc0ffee42 goto pc+6
    7: r2 = map[fd:0]
    9: r3 = 1
    10: call bpf_tail_call#12
    11: r0 = -1
    12: exit
    13: r2 = map[fd:0]
    15: r3 = 0
    16: call bpf_tail_call#12
    17: goto pc-7"
  `);
});

test('a stage whose packets pass with metadata', () => {
  const subject = stageOf('ctx.meta.a = 1; if (ctx.length > 60) return ctx.drop(); return ctx.next();', { writes: { a: u8, b: u32 } });
  const metadata = { a: { layout: u8.layout, offset: 16 }, b: { layout: u32.layout, offset: 20 } };
  const fields = [
    { name: 'b', from: 20, to: 0, size: 4 },
    { name: 'a', from: 16, to: 4, size: 1 },
  ];
  const { program } = compileStage(subject, {
    placement: {
      array: 'chain',
      next: { slot: 1 },
      exits: {},
      state: { map: 'state', length: 0 },
      metadata,
      crossing: { tag: 7, words: 2, fields },
    },
  });
  expect(disassemble(program.instructions)).toMatchInlineSnapshot(`
    "0: r7 = r1
    1: *(u32 *)(r10 -8) = 0
    2: r1 = map[fd:0]
    4: r2 = r10
    5: r2 += -8
    6: call bpf_map_lookup_elem#1
    7: if r0 == 0x0 goto pc+30
    8: *(u8 *)(r0 +16) = 1
    9: r0 = *(u64 *)(r0 +0)
    10: if r0 > 0x3c goto pc+29
    11: r1 = r7
    12: r2 = map[fd:0]
    14: r3 = 1
    15: call bpf_tail_call#12
    16: r1 = r7
    17: r2 = -12
    18: call bpf_xdp_adjust_meta#54
    19: if r0 != 0x0 goto pc+16
    20: r6 = *(u32 *)(r7 +8)
    21: r1 = *(u32 *)(r7 +0)
    22: r0 = r6
    23: r0 += 12
    24: if r0 > r1 goto pc+11
    25: *(u32 *)(r6 +0) = 7
    26: r1 = map[fd:0]
    28: r2 = r10
    29: r2 += -8
    30: call bpf_map_lookup_elem#1
    31: if r0 == 0x0 goto pc+6
    32: r1 = *(u32 *)(r0 +20)
    33: r0 = *(u8 *)(r0 +16)
    34: *(u32 *)(r6 +4) = r1
    35: *(u32 *)(r6 +8) = r0
    36: r0 = 2
    37: exit
    38: r0 = 0
    39: exit
    40: r0 = 1
    41: exit"
  `);
});

test('edges lead to verdicts of the hook', () => {
  const placement = { array: 'chain', next: { verdict: 'tx' }, exits: {} } as const;
  expect(() => compileStage(stageOf('return ctx.next();', { hook: 'tc' }), { placement })).toThrow(
    "an edge leads to 'tx', which is no verdict of tc",
  );
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
