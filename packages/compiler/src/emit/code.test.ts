/** The code of small graphs, and what emission refuses. */
import { disassemble } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import type { Graph, Place } from '../ir.ts';
import { interpret } from '../opt/interpret.ts';
import { optimise } from '../opt/optimise.ts';
import { parseGraph } from '../opt/parse-graph.ts';
import { SimulatedWorld } from '../opt/simulated-world.ts';
import { emit } from './emit.ts';
import { simulate } from './simulate.ts';
import { StackError } from './stack.ts';

function code(graph: Graph): string {
  return disassemble(emit(graph).instructions);
}

test('operands: immediates where they fit, the dying value overwritten, pointers on the left', () => {
  const graph = parseGraph(`
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load64 packet %2+0
      %4 = load64 packet %2+8
      %5 = add %3, %4
      %6 = and %3, 4294967296
      %7 = sub 10, %5
      %8 = lsh %7, 65
      %9 = zext32 %8
      %10 = sext16 %9
      %11 = swap32 %10
      %12 = neg %11
      %13 = add %2, %12 : packet
      store64 packet %13+0, 5000000000
      store8 packet %13+8, 511
      store32 packet %13+12, %6
      return %3`);
  expect(code(graph)).toMatchInlineSnapshot(`
    "0: r4 = *(u32 *)(r1 +0)
    1: r0 = *(u64 *)(r4 +0)
    2: r1 = *(u64 *)(r4 +8)
    3: r1 += r0
    4: r3 = 0x100000000 ll
    6: r2 = r0
    7: r2 &= r3
    8: r3 = 10
    9: r3 -= r1
    10: r3 <<= 1
    11: w1 = w3
    12: r1 <<= 48
    13: r1 s>>= 48
    14: r1 = be32 r1
    15: r1 = -r1
    16: r4 += r1
    17: r1 = 0x12a05f200 ll
    19: *(u64 *)(r4 +0) = r1
    20: *(u8 *)(r4 +8) = -1
    21: *(u32 *)(r4 +12) = r2
    22: exit"
  `);
});

test('conditions: the likely side follows, set keeps its sense, 32-bit constants have immediates', () => {
  const graph = parseGraph(`
    b0:
      %2 = load32 context ctx+12
      if %2 eq32 4026531840 then b3 else b4 likely else
    b3: <- b0
      return 1
    b4: <- b0
      if %2 set 6 then b5 else b6
    b5: <- b4
      %7 = call 7()
      jump b6
    b6: <- b4 b5
      %8 = phi 0, %7
      return %8`);
  expect(code(graph)).toMatchInlineSnapshot(`
    "0: r0 = *(u32 *)(r1 +12)
    1: if w0 == 0xf0000000 goto pc+5
    2: if r0 & 0x6 goto pc+2
    3: r0 = 0
    4: exit
    5: call bpf_get_prandom_u32#7
    6: goto pc-3
    7: r0 = 1
    8: exit"
  `);
});

test('phis that exchange their values', () => {
  const graph = parseGraph(`
    b0:
      %2 = load32 context ctx+12
      %3 = load32 context ctx+16
      jump b4
    b4: <- b0 b4
      %5 = phi %2, %6
      %6 = phi %3, %5
      %7 = phi 0, %8
      %8 = add %7, 1
      if %8 lt 3 then b4 else b9
    b9: <- b4
      %10 = lsh %5, 32
      %11 = or %10, %6
      return %11`);
  expect(simulate(emit(graph), new SimulatedWorld(new Uint8Array(20)))).toBe(interpret(graph, new SimulatedWorld(new Uint8Array(20))));
});

test('more values than registers live across a call', () => {
  const loads = Array.from({ length: 8 }, (_, i) => `%${10 + i} = load64 packet %2+${8 * i}`);
  const sums = Array.from({ length: 7 }, (_, i) => `%${30 + i} = add %${i === 0 ? 10 : 29 + i}, %${11 + i}`);
  const text = [
    'b0:',
    '%2 = load32 context ctx+0 : packet',
    ...loads,
    'store8 packet %2+0, 9',
    '%20 = call 7()',
    ...sums,
    '%40 = add %36, %20',
    'return %40',
  ];
  const graph = parseGraph(text.join('\n'));
  const program = emit(graph);
  expect({ spills: program.spills, stackSize: program.stackSize }).toMatchInlineSnapshot(`
    {
      "spills": 4,
      "stackSize": 32,
    }
  `);
  const packet = Uint8Array.from({ length: 64 }, (_, i) => 3 * i);
  expect(simulate(program, new SimulatedWorld(packet))).toBe(interpret(graph, new SimulatedWorld(packet)));
});

test('a packet field is loaded again instead of being kept, data is not', () => {
  const fields = Array.from({ length: 5 }, (_, i) => `%${10 + i} = load8 packet %2+${i}`);
  const before = Array.from({ length: 5 }, (_, i) => `store8 map %5+${i}, %${10 + i}`);
  const after = Array.from({ length: 5 }, (_, i) => `store8 map %5+${8 + i}, %${10 + i}`);
  const text = [
    'b0:',
    '%2 = load32 context ctx+0 : packet',
    '%5 = mapValue @counters+0',
    ...fields,
    ...before,
    '%20 = call 7()',
    ...after,
    '%30 = load8 packet %2+9',
    'return %30',
  ];
  expect(code(parseGraph(text.join('\n')))).toMatchInlineSnapshot(`
    "0: r9 = *(u32 *)(r1 +0)
    1: r8 = map[fd:0][0]+0
    3: r6 = *(u8 *)(r9 +0)
    4: r7 = *(u8 *)(r9 +1)
    5: *(u8 *)(r8 +0) = r6
    6: *(u8 *)(r8 +1) = r7
    7: r0 = *(u8 *)(r9 +2)
    8: *(u8 *)(r8 +2) = r0
    9: r0 = *(u8 *)(r9 +3)
    10: *(u8 *)(r8 +3) = r0
    11: r0 = *(u8 *)(r9 +4)
    12: *(u8 *)(r8 +4) = r0
    13: call bpf_get_prandom_u32#7
    14: *(u8 *)(r8 +8) = r6
    15: *(u8 *)(r8 +9) = r7
    16: r0 = *(u8 *)(r9 +2)
    17: *(u8 *)(r8 +10) = r0
    18: r0 = *(u8 *)(r9 +3)
    19: *(u8 *)(r8 +11) = r0
    20: r0 = *(u8 *)(r9 +4)
    21: *(u8 *)(r8 +12) = r0
    22: r0 = *(u8 *)(r9 +9)
    23: exit"
  `);
});

test('an index is not loaded again: the verifier knows the bounds of the value that was compared', () => {
  const keep = Array.from({ length: 4 }, (_, i) => `%${10 + i} = load64 map %5+${8 * i}`);
  const use = Array.from({ length: 4 }, (_, i) => `store64 map %5+${8 * i}, %${10 + i}`);
  const graph = parseGraph(
    [
      'b0:',
      '%2 = load32 context ctx+0 : packet',
      '%5 = mapValue @counters+0',
      '%3 = load8 packet %2+9',
      'if %3 lt 24 then b6 else b7',
      'b6: <- b0',
      ...keep,
      '%20 = call 7()',
      '%21 = add %5, %3 : map',
      '%22 = load8 map %21+0',
      ...use,
      '%23 = load8 packet %2+10',
      '%24 = add %22, %23',
      'return %24',
      'b7: <- b0',
      'return 0',
    ].join('\n'),
  );
  expect(code(graph).match(/\+9\)/g)).toHaveLength(1);
});

test('each tail call names its own slot', () => {
  const graph = parseGraph(`
    b0:
      %2 = load32 context ctx+12
      if %2 gt 5 then b3 else b4
    b3: <- b0
      %5 = call 12(ctx, @chain, 1)
      return 2
    b4: <- b0
      %6 = call 12(ctx, @chain, 2)
      return 2`);
  optimise(graph);
  expect(code(graph)).toMatchInlineSnapshot(`
    "0: r0 = *(u32 *)(r1 +12)
    1: if r0 <= 0x5 goto pc+6
    2: r2 = map[fd:0]
    4: r3 = 1
    5: call bpf_tail_call#12
    6: r0 = 2
    7: exit
    8: r2 = map[fd:0]
    10: r3 = 2
    11: call bpf_tail_call#12
    12: r0 = 2
    13: exit"
  `);
});

test('lines rise strictly from slot 0', () => {
  const graph = parseGraph(`
    b0:
      %2 = load32 context ctx+12
      %3 = add %2, 1
      %4 = mul %3, 3
      return %4`);
  const place = (line: number): Place => ({ file: 'a.ts', line, column: 1, text: `line ${line}` });
  graph.entry.nodes.forEach((node, i) => {
    node.place = i === 0 ? undefined : place(Math.ceil(i / 2));
  });
  if (graph.entry.terminator) graph.entry.terminator.place = place(9);
  expect(emit(graph).lines.map(({ pc, line }) => `${pc}: ${line}`)).toMatchInlineSnapshot(`
    [
      "0: 1",
      "2: 2",
      "3: 9",
    ]
  `);
});

test('slots that are not in use at once share their bytes', () => {
  const graph = parseGraph(`
    slots s1:16 s2:16 s3:8
    b0:
      store64 stack &s1+0, 1
      store64 stack &s1+8, 1
      store64 stack &s3+0, 3
      %4 = call 1(@flows, &s1+0) reads s1 : map
      store64 stack &s2+0, 2
      store64 stack &s2+8, 2
      %5 = call 1(@flows, &s2+0) reads s2 : map
      %6 = call 1(@counters, &s3+0) reads s3 : map
      return 0`);
  expect(emit(graph).stackSize).toBe(24);
});

test('more stack than there is', () => {
  const slots = Array.from({ length: 9 }, (_, i) => `s${i + 1}:${i === 0 ? 61 : 60}`).join(' ');
  const calls = Array.from({ length: 9 }, (_, i) => `%${20 + i} = call 1(@flows, &s${i + 1}+0) reads s${i + 1} : map`);
  const graph = parseGraph(
    [`slots ${slots}`, 'b0:', ...calls, ...calls.map((call) => call.replace('%', '%1')), 'return 0'].join('\n'),
    'greedy',
  );
  try {
    emit(graph);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(StackError);
    expect(String(error)).toMatchInlineSnapshot(
      `"StackError: greedy needs 576 bytes of stack (slots of 61, 60, 60, 60, 60, 60, 60, 60, 60), expected at most 512"`,
    );
    expect((error as StackError).total).toBe(576);
  }
});
