import { disassemble } from '@tailrace/bpf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { interpret } from '../opt/interpret.ts';
import { parseGraph } from '../opt/parse-graph.ts';
import { RANDOM_GRAPH_MAPS, randomGraph } from '../opt/random-graph.ts';
import { SimulatedWorld } from '../opt/simulated-world.ts';
import { verifyGraph } from '../opt/verify.ts';
import { emit } from './emit.ts';
import { simulate } from './simulate.ts';

const packet = Uint8Array.from({ length: 60 }, (_, i) => (i * 37 + 11) & 0xff);

test('emitted code means what its graph means', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(255), { minLength: 20, maxLength: 300, size: 'max' }), fc.constantFrom(20, 40, 60), (choices, length) => {
      const graph = randomGraph(choices);
      verifyGraph(graph);
      const expected = new SimulatedWorld(packet.subarray(0, length), RANDOM_GRAPH_MAPS);
      const actual = new SimulatedWorld(packet.subarray(0, length), RANDOM_GRAPH_MAPS);
      const result = interpret(graph, expected);
      expect(simulate(emit(graph), actual)).toBe(result);
      expect(actual.observe()).toBe(expected.observe());
    }),
    { numRuns: 120 },
  );
});

test('a lookup and a tail call', () => {
  const graph = parseGraph(`
    slots s1:4
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 context ctx+4 : packet
      check %2 +14 <= %3 ok b4 fail b8
    b4: <- b0
      %13 = load16 packet %2+12
      store32 stack &s1+0, %13
      %17 = call 1(@flows, &s1+0) reads s1 : map
      if %17 eq 0 then b8 else b18
    b18: <- b4
      atomicAdd64 map %17+0, 1
      %24 = call 12(ctx, @chain, 3)
      return 1
    b8: <- b0 b4
      return 2`);
  verifyGraph(graph);
  const { instructions, mapReferences, stackSize, spills } = emit(graph);
  expect({ mapReferences, stackSize, spills }).toMatchInlineSnapshot(`
    {
      "mapReferences": [
        {
          "map": "flows",
          "pc": 8,
        },
        {
          "map": "chain",
          "pc": 17,
        },
      ],
      "spills": 0,
      "stackSize": 8,
    }
  `);
  expect(disassemble(instructions)).toMatchInlineSnapshot(`
    "0: r6 = r1
    1: r0 = *(u32 *)(r6 +0)
    2: r2 = *(u32 *)(r6 +4)
    3: r1 = r0
    4: r1 += 14
    5: if r1 > r2 goto pc+17
    6: r0 = *(u16 *)(r0 +12)
    7: *(u32 *)(r10 -8) = r0
    8: r1 = map[fd:0]
    10: r2 = r10
    11: r2 += -8
    12: call bpf_map_lookup_elem#1
    13: if r0 == 0x0 goto pc+9
    14: r1 = 1
    15: lock *(u64 *)(r0 +0) += r1
    16: r1 = r6
    17: r2 = map[fd:0]
    19: r3 = 3
    20: call bpf_tail_call#12
    21: r0 = 1
    22: exit
    23: r0 = 2
    24: exit"
  `);
});
