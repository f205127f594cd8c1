/** Programs of objects with ways out: what is put onto them, what moves, what is refused. */
import { disassemble, insn, type LoadedMap, type ProgramSpec, readElf, slotCount } from '@tailrace/bpf';
import { type AnyStage, objectStage } from '@tailrace/stage';
import { type AssembledProgram, assembledObject } from '@tailrace/testing';
import { userspace } from '@tailrace/userspace';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compileStage, exitsOf, outcomesOf } from './compile.ts';
import { CompileError, formatDiagnostic } from './diagnostic.ts';
import { counterNames, hookVerdicts, type Placement } from './placement.ts';

const stageOf = (
  text: string,
  rest: Omit<AssembledProgram, 'name' | 'text'> & { readonly exits?: Record<string, number> } = {},
): AnyStage => {
  const { exits = {}, ...program } = rest;
  const object = assembledObject([{ name: 'main', text, ...program }]);
  return objectStage({ name: 'main', hook: program.type === 'schedCls' ? 'tc' : 'xdp', object, exits }) as AnyStage;
};
/** A stage whose linked program is something that no object can say. */
const unwritten = (change: Partial<ProgramSpec>) => {
  const elf = readElf(assembledObject([{ name: 'main', text: 'r0 = 2\nexit' }]));
  const spec = { ...elf.programs.get('main')?.spec(), ...change } as ProgramSpec;
  const programs = new Map([['main', { name: 'main', section: 'xdp', hook: 'xdp', spec: () => spec } as const]]);
  return objectStage({ name: 'main', hook: 'xdp', object: { ...elf, programs } }) as AnyStage;
};
const chain: Placement = {
  array: 'chain',
  next: { slot: 3 },
  exits: {},
  state: { map: 'state', length: 0, counters: 16 },
};
const code = ({ instructions }: ProgramSpec): string => `\n${disassemble(instructions)}\n`;
/** Names r6 to r9. */
const FULL = 'r6 = 1\nr7 = 2\nr8 = 3\nr9 = 4\n';

test('an edge that ends the chain asks for nothing but its verdict', () => {
  expect(
    code(compileStage(stageOf('if r1 == 0 goto out\nr0 = 5\nexit\nout:\nr0 = 2\nexit', { exits: { far: 5 } })).program),
  ).toMatchInlineSnapshot(`
    "
    0: if r1 == 0x0 goto pc+2
    1: r0 = 5
    2: goto pc+2
    3: r0 = 2
    4: goto pc+0
    5: w7 = w0
    6: if w7 == 0x2 goto pc+6
    7: if w7 == 0x1 goto pc+7
    8: if w7 == 0x3 goto pc+8
    9: if w7 == 0x4 goto pc+9
    10: if w7 == 0x5 goto pc+10
    11: r0 = 0
    12: exit
    13: r0 = 2
    14: exit
    15: r0 = 1
    16: exit
    17: r0 = 3
    18: exit
    19: r0 = 4
    20: exit
    21: r0 = 2
    22: exit
    "
  `);
});

test('at XDP: state, length, counters, an edge by its slot', () => {
  const { program, maps, stackSize } = compileStage(stageOf('r0 = 2\nexit'), { name: 'edge.main', placement: chain });
  expect(program).toMatchObject({ name: 'edge.main', type: 'xdp', frags: true, license: 'GPL', functions: [{ pc: 0, name: 'edge.main' }] });
  expect([program.mapReferences.map(({ map }) => map), [...maps], stackSize]).toEqual([['state', 'chain'], [], 8]);
  expect(code(program)).toMatchInlineSnapshot(`
    "
    0: r9 = r1
    1: r0 = 2
    2: goto pc+0
    3: r6 = r9
    4: w7 = w0
    5: *(u32 *)(r10 -4) = 0
    6: r2 = r10
    7: r2 += -4
    8: r1 = map[fd:0]
    10: call bpf_map_lookup_elem#1
    11: if r0 == 0x0 goto pc+42
    12: r8 = r0
    13: r0 = *(u64 *)(r8 +0)
    14: r1 = *(u64 *)(r8 +16)
    15: r1 += r0
    16: *(u64 *)(r8 +16) = r1
    17: if w7 == 0x2 goto pc+8
    18: if w7 == 0x1 goto pc+20
    19: if w7 == 0x3 goto pc+24
    20: if w7 == 0x4 goto pc+28
    21: r1 = *(u64 *)(r8 +32)
    22: r1 += 1
    23: *(u64 *)(r8 +32) = r1
    24: r0 = 0
    25: exit
    26: r1 = *(u64 *)(r8 +72)
    27: r1 += 1
    28: *(u64 *)(r8 +72) = r1
    29: r1 = r6
    30: r2 = map[fd:0]
    32: r3 = 3
    33: call bpf_tail_call#12
    34: r1 = *(u64 *)(r8 +24)
    35: r1 += 1
    36: *(u64 *)(r8 +24) = r1
    37: r0 = 2
    38: exit
    39: r1 = *(u64 *)(r8 +40)
    40: r1 += 1
    41: *(u64 *)(r8 +40) = r1
    42: r0 = 1
    43: exit
    44: r1 = *(u64 *)(r8 +56)
    45: r1 += 1
    46: *(u64 *)(r8 +56) = r1
    47: r0 = 3
    48: exit
    49: r1 = *(u64 *)(r8 +64)
    50: r1 += 1
    51: *(u64 *)(r8 +64) = r1
    52: r0 = 4
    53: exit
    54: r0 = 0
    55: exit
    "
  `);
});

test('at TC: length and segments of the packet, what is no verdict goes on', () => {
  const { program } = compileStage(stageOf('r0 = 0\nexit', { type: 'schedCls' }), {
    placement: { array: 'chain', next: { verdict: 'pass' }, exits: {}, state: { map: 'state', counters: 16 } },
  });
  expect(code(program)).toMatchInlineSnapshot(`
    "
    0: r9 = r1
    1: r0 = 0
    2: goto pc+0
    3: r6 = r9
    4: w7 = w0
    5: *(u32 *)(r10 -4) = 0
    6: r2 = r10
    7: r2 += -4
    8: r1 = map[fd:0]
    10: call bpf_map_lookup_elem#1
    11: if r0 == 0x0 goto pc+27
    12: r8 = r0
    13: r0 = *(u32 *)(r6 +0)
    14: r1 = *(u64 *)(r8 +16)
    15: r1 += r0
    16: *(u64 *)(r8 +16) = r1
    17: r9 = *(u32 *)(r6 +164)
    18: r1 = r9
    19: r1 -= 1
    20: r1 >>= 63
    21: r9 |= r1
    22: if w7 == 0x2 goto pc+6
    23: if w7 == 0x7 goto pc+10
    24: r1 = *(u64 *)(r8 +56)
    25: r1 += r9
    26: *(u64 *)(r8 +56) = r1
    27: r0 = -1
    28: exit
    29: r1 = *(u64 *)(r8 +40)
    30: r1 += r9
    31: *(u64 *)(r8 +40) = r1
    32: r0 = 2
    33: exit
    34: r1 = *(u64 *)(r8 +48)
    35: r1 += r9
    36: *(u64 *)(r8 +48) = r1
    37: r0 = 7
    38: exit
    39: r0 = 2
    40: exit
    "
  `);
});

test('a pass takes metadata along, whoever gives it', () => {
  const crossing = {
    tag: 0x8765_4321,
    words: 2,
    fields: [
      { name: 'tenant', from: 10, to: 0, size: 2 },
      { name: 'flow', from: 16, to: 4, size: 4 },
    ],
  };
  const { program } = compileStage(stageOf('r0 = 2\nexit'), {
    placement: { array: 'chain', next: { verdict: 'pass' }, exits: {}, state: { map: 'state' }, crossing },
  });
  expect(code(program)).toMatchInlineSnapshot(`
    "
    0: r9 = r1
    1: r0 = 2
    2: goto pc+0
    3: r6 = r9
    4: w7 = w0
    5: *(u32 *)(r10 -4) = 0
    6: r2 = r10
    7: r2 += -4
    8: r1 = map[fd:0]
    10: call bpf_map_lookup_elem#1
    11: if r0 == 0x0 goto pc+32
    12: r8 = r0
    13: if w7 == 0x2 goto pc+5
    14: if w7 == 0x1 goto pc+5
    15: if w7 == 0x3 goto pc+6
    16: if w7 == 0x4 goto pc+7
    17: r0 = 0
    18: exit
    19: goto pc+6
    20: r0 = 1
    21: exit
    22: r0 = 3
    23: exit
    24: r0 = 4
    25: exit
    26: r1 = r6
    27: r2 = -12
    28: call bpf_xdp_adjust_meta#54
    29: if r0 != 0x0 goto pc+12
    30: r7 = *(u32 *)(r6 +8)
    31: r1 = *(u32 *)(r6 +0)
    32: r2 = r7
    33: r2 += 12
    34: if r2 > r1 goto pc+7
    35: *(u32 *)(r7 +0) = -2023406815
    36: r1 = *(u16 *)(r8 +10)
    37: *(u16 *)(r7 +4) = r1
    38: r1 = *(u32 *)(r8 +16)
    39: *(u32 *)(r7 +8) = r1
    40: *(u8 *)(r7 +6) = 0
    41: *(u8 *)(r7 +7) = 0
    42: r0 = 2
    43: exit
    44: r0 = 0
    45: exit
    "
  `);
});

describe('what a program is made of', () => {
  const text = `${FULL}*(u64 *)(r10 -8) = r6\ncall sub\nr0 = 2\nexit\nsub:\nr2 = subprog[back]\nr0 = 1\nexit\nback:\nr0 = 0\nexit`;
  const subject = stageOf(text, { functions: ['sub', 'back'] });
  const { program, stackSize } = compileStage(subject, { placement: chain });
  const added = slotCount(program.instructions) - slotCount(subject.object?.spec.instructions ?? []);

  test('calls and callbacks reach functions that moved', () => {
    expect(stackSize).toBe(16);
    expect(program.functions).toEqual([
      { pc: 0, name: 'main' },
      { pc: 8 + added, name: 'sub' },
      { pc: 12 + added, name: 'back' },
    ]);
    const lines = disassemble(program.instructions).split('\n');
    expect(lines.find((line) => line.includes('call pc'))).toBe(`6: call pc+${1 + added}`);
    expect(lines.find((line) => line.includes('subprog'))).toBe(`${8 + added}: r2 = subprog[+3]`);
    expect(lines[0]).toBe('0: *(u64 *)(r10 -16) = r1');
  });

  test('lines stay with what they say, and the ways out are those of the last exit', () => {
    const at = (pc: number) => program.lines.findLast((line) => line.pc <= pc)?.line;
    expect([0, 1, 6, 8].map(at)).toEqual([1, 1, 6, 8]);
    expect([9, 8 + added - 1, 8 + added, 12 + added].map(at)).toEqual([8, 8, 9, 13]);
    expect(program.lines.map(({ pc }) => pc)).toEqual([...new Set(program.lines.map(({ pc }) => pc))].sort((a, b) => a - b));
  });

  test('names of its maps give way to those of the chain', () => {
    const spec = { name: 'state', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 } as const;
    const object = assembledObject([{ name: 'main', text: 'r1 = map[state]\nr0 = 2\nexit' }], [spec]);
    const own = objectStage({ name: 'main', hook: 'xdp', object });
    const compiled = compileStage(own, { placement: chain });
    expect(compiled.program.mapReferences.map(({ map }) => map)).toEqual(['object:state', 'state', 'chain']);
    expect([...compiled.maps]).toEqual([['object:state', own.uses['state' as keyof typeof own.uses]]]);
  });

  test('what cannot be relocated stays marked', () => {
    const own = unwritten({ poisons: [{ pc: 1, reason: 'no such field' }] });
    expect(compileStage(own, { placement: chain }).program.poisons).toEqual([{ pc: 2, reason: 'no such field' }]);
  });
});

test('outcomes: any verdict, what is mapped, no metadata', () => {
  const subject = stageOf('r0 = 2\nexit', { exits: { far: 5, drop: 1 } });
  expect(exitsOf(subject)).toEqual(['drop', 'far']);
  expect(outcomesOf(subject)).toEqual({
    exits: ['drop', 'far'],
    next: true,
    reasons: [],
    verdicts: ['abort', 'tx', 'redirect'],
    writes: { abort: [], 'exit:drop': [], 'exit:far': [], next: [], redirect: [], tx: [] },
  });
  expect(outcomesOf(subject)).toBe(outcomesOf(subject));
  expect(outcomesOf(stageOf('r0 = 0\nexit', { type: 'schedCls' }))).toMatchObject({ next: true, verdicts: ['drop', 'redirect'] });
  const own = objectStage({
    name: 'own',
    hook: 'tc',
    object: assembledObject([{ name: 'm', type: 'schedCls', text: 'r0 = 0\nexit' }]),
    next: 'never',
  });
  expect(outcomesOf(own)).toMatchObject({ next: false, verdicts: ['pass', 'drop', 'redirect'] });
});

describe('refused', () => {
  const refusal = (subject: AnyStage, placement = chain): string => {
    try {
      compileStage(subject, { placement });
    } catch (error) {
      if (error instanceof CompileError) return formatDiagnostic(error.diagnostic);
      throw error;
    }
    return expect.unreachable('it was compiled');
  };

  test('no room for the context', () => {
    expect(refusal(stageOf(`${FULL}*(u64 *)(r10 -512) = r6\nr0 = 2\nexit`))).toMatchInlineSnapshot(`
      "assembled.c:1:3: stage 'main': the program has no room to keep its context: it names r6 to r9 and uses 512 bytes of stack
       1 |   line 1;
         |   ^
         = hint: leave one of the registers, or 8 of 512 bytes with those of the functions that it calls"
    `);
    // a stack that cannot be followed counts as full
    expect(refusal(stageOf(`${FULL}r1 = r10\nback:\nr1 -= 8\nif r1 != 7 goto back\nr0 = 2\nexit`))).toContain('uses 512 bytes of stack');
    // nor is there any where those that are called need it
    const deep = `${FULL}*(u64 *)(r10 -256) = 1\ncall sub\nr0 = 2\nexit\nsub:\n*(u64 *)(r10 -256) = 1\nr0 = 1\nexit`;
    expect(refusal(stageOf(deep, { functions: ['sub'] }))).toContain('uses 256 bytes of stack');
    expect(compileStage(stageOf(deep.replace('-256', '-240'), { functions: ['sub'] }), { placement: chain }).stackSize).toBe(248);
    // without an edge that needs it there is nothing to keep
    const ends: Placement = { ...chain, next: { verdict: 'pass' } };
    expect(compileStage(stageOf(`${FULL}*(u64 *)(r10 -512) = r6\nr0 = 2\nexit`), { placement: ends }).stackSize).toBe(512);
  });

  test('other ways out than exits', () => {
    expect(refusal(stageOf('r6 = r1\nr0 = *(u16 *)skb[12]\nexit', { type: 'schedCls' }))).toContain(
      'pc 1 is a legacy packet load, which ends the program where the packet is too short',
    );
    const recursive = [insn.callSubprogram(1), insn.exit(), insn.callSubprogram(-3), insn.exit()];
    const functions = [
      { pc: 0, name: 'main' },
      { pc: 2, name: 'sub' },
    ];
    expect(refusal(unwritten({ instructions: recursive, functions, lines: [] }))).toBe("stage 'main': pc 2 calls the program itself");
    expect(refusal(stageOf('goto sub\nr0 = 2\nexit\nsub:\nr0 = 1\nexit', { functions: ['sub'] }))).toContain(
      'pc 0 leads to pc 3, out of its function',
    );
    expect(refusal(stageOf('r0 = 2\nif r0 == 7 goto sub\nexit\nsub:\nr0 = 1\nexit', { functions: ['sub'] }))).toContain(
      'pc 1 leads to pc 3',
    );
    expect(refusal(stageOf('r0 = 2\nexit\nr0 = 1'))).toContain('pc 2 leads to pc 3, out of its function');
    expect(refusal(stageOf('again:\ngoto again'))).toContain('pc 0 begins a program that never returns');
  });

  test('exits out of reach', () => {
    const far = (gap: number) => {
      const rest = Array.from({ length: gap }, () => insn.mov(0, 2));
      const instructions = [insn.mov(0, 2), insn.jump('eq', 0, 0, 1), insn.exit(), ...rest, insn.exit()];
      return unwritten({ instructions, lines: [] });
    };
    expect(refusal(far(40_000))).toBe(
      "stage 'main': an exit of the program is more than 32767 instructions before its end, with none between",
    );
    const { program } = compileStage(far(32_766), { placement: chain });
    expect(program.instructions[3]).toEqual(insn.ja(32_767));
  });
});

/** A program of blocks that a byte of the packet tells apart: each uses registers and stack, calls or not, and leaves. */
const blocks = fc.record({
  kept: fc.subarray([6, 7, 8, 9]),
  depth: fc.integer({ min: 0, max: 30 }),
  returns: fc.array(fc.record({ value: fc.integer({ min: -1, max: 9 }), calls: fc.boolean() }), { minLength: 1, maxLength: 5 }),
  exits: fc.subarray([0, 2, 5, 6, 7, 0xffff_ffff]),
  nextIs: fc.constantFrom('pass', 'never', 'tx', 8),
});

function textOf({ kept, depth, returns }: typeof blocks extends fc.Arbitrary<infer T> ? T : never): string {
  const set = kept.map((register) => `r${register} = ${register}\n`).join('');
  const fill = Array.from({ length: depth }, (_, slot) => `*(u64 *)(r10 -${8 * (slot + 1)}) = ${slot}\n`).join('');
  const arms = returns.map(({ value, calls }, arm) => {
    const rest = `${calls ? 'r1 = 1\ncall sub\n' : ''}${kept.map((register) => `if r${register} != ${register} goto wrong\n`).join('')}`;
    const stack = depth > 0 ? `r1 = *(u64 *)(r10 -${8 * depth})\nif r1 != ${depth - 1} goto wrong\n` : '';
    return `arm${arm}:\n${rest}${stack}w0 = ${value}\nexit\n`;
  });
  const choices = returns.map((_, arm) => `if r5 == ${arm} goto arm${arm}\n`).join('');
  const byte = 'r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr4 = r2\nr4 += 15\nr5 = 0\nif r4 > r3 goto pc+1\nr5 = *(u8 *)(r2 +14)\n';
  return `${byte}${set}${fill}${choices}goto arm0\n${arms.join('')}wrong:\nr0 = 77\nexit\nsub:\nr6 = 99\nr9 = 98\n*(u64 *)(r10 -8) = 97\nr0 = 0\nexit`;
}

test('whatever a program does, its return value comes to what it means, and is counted once', async () => {
  await using engine = await userspace({ mode: 'interpreter' }).open();
  const array = engine.createMap({ name: 'chain', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 });
  await fc.assert(
    fc.asyncProperty(blocks, async (made) => {
      const object = readElf(assembledObject([{ name: 'main', text: textOf(made), functions: ['sub'] }]));
      const exits = Object.fromEntries(made.exits.filter((value) => value !== made.nextIs).map((value) => [`x${value}`, value]));
      const subject = objectStage({ name: 'main', hook: 'xdp', object, exits, next: made.nextIs as 'pass' }) as AnyStage;
      const labels = [...exitsOf(subject)];
      const { program } = compileStage(subject, {
        placement: {
          array: 'chain',
          next: { slot: 1 },
          exits: Object.fromEntries(labels.map((label) => [label, { verdict: 'tx' as const }])),
          state: { map: 'state', counters: 0 },
        },
      });
      const state = engine.createMap({ name: 'state', type: 'perCpuArray', keySize: 4, valueSize: 256, maxEntries: 1, flags: 0 });
      const plain = await engine.loadProgram(object.programs.get('main')?.spec() as ProgramSpec, new Map());
      const grafted = await engine.loadProgram(
        program,
        new Map<string, LoadedMap>([
          ['chain', array],
          ['state', state],
        ]),
      );
      const names = counterNames('xdp', labels);
      const verdicts = Object.keys(hookVerdicts.xdp);
      for (const arm of made.returns.keys()) {
        const packet = new Uint8Array(60);
        packet[14] = arm;
        state.update(new Uint8Array(4), new Uint8Array(256));
        const { returnValue: value } = await plain.testRun({ packet });
        expect(value).toBe((made.returns[arm]?.value ?? 0) >>> 0);
        const { returnValue } = await grafted.testRun({ packet });
        const counters = new BigUint64Array((state.lookup(new Uint8Array(4)) as Uint8Array).slice().buffer);
        const counted = Object.fromEntries(names.map((name, i) => [name, counters[i]]).filter(([, count]) => count !== 0n));
        const label = Object.keys(exits).find((name) => exits[name] === value);
        const verdict = verdicts[value] ?? 'abort';
        const isNext = made.nextIs === verdict || made.nextIs === value;
        const outcome = label ? `exit:${label}` : isNext ? 'next' : verdict;
        expect(counted).toEqual({ bytes: 60n, [outcome]: 1n, ...(outcome === 'next' ? { misses: 1n } : {}) });
        expect(verdicts[returnValue]).toBe(label ? 'tx' : isNext ? 'pass' : verdict);
      }
      for (const thing of [plain, grafted, state]) thing.close();
    }),
    { numRuns: 40 },
  );
});
