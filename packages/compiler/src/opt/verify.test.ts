import { expect, test } from 'vitest';
import { append, createBlock, createGraph, createNode, printGraph, setTerminator } from '../ir.ts';
import { parseGraph } from './parse-graph.ts';
import { randomGraph } from './random-graph.ts';
import { GraphError, verifyGraph } from './verify.ts';

test.each<[string, string, string]>([
  ['a use before its definition', 'b0:\n%3 = add %2, 1\n%2 = load32 context ctx+0\nreturn %3', 'unknown value %2'],
  ['an open block', 'b0:\nopen', 'b0 has no terminator'],
  [
    'a use that its definition does not dominate',
    'b0:\nif 1 eq 2 then b3 else b4\nb3: <- b0\n%5 = load32 context ctx+0\njump b4\nb4: <- b0 b3\nreturn %5',
    'the end of b4 uses %5 of b3, which does not dominate b4',
  ],
  ['a phi with an input too few', 'b0:\njump b1\nb1: <- b0 b2\n%3 = phi 1\njump b2\nb2: <- b1\njump b1', 'phi %3 has 1 inputs, expected 2'],
])('%s', (_, text, message) => {
  expect(() => verifyGraph(parseGraph(text))).toThrow(message);
});

test('predecessors that do not mirror successors, and nodes that stand elsewhere', () => {
  const graph = createGraph('broken');
  const next = createBlock(graph);
  setTerminator(graph.entry, { kind: 'jump', target: next });
  setTerminator(next, { kind: 'return', value: graph.context });
  next.predecessors = [];
  const node = append(next, createNode(graph, { kind: 'unary', op: 'neg', operand: graph.context }));
  node.block = graph.entry;
  try {
    verifyGraph(graph);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(GraphError);
    expect((error as GraphError).problems).toMatchInlineSnapshot(`
      [
        "b2 does not list b0 once as predecessor",
        "%3 stands in b2 but names another block",
        "'%3 = neg ctx' of b2 uses %1 of b0, which does not dominate b2",
        "the end of b2 uses %1 of b0, which does not dominate b2",
      ]
    `);
  }
});

test('text and graph are one: what is printed is read back the same', () => {
  for (let seed = 1; seed < 60; seed++) {
    const choices = Array.from({ length: 200 }, (_, i) => (seed * 7919 + i * i * 31 + i * 17) % 256);
    const text = printGraph(randomGraph(choices));
    const graph = parseGraph(text);
    verifyGraph(graph);
    expect(printGraph(graph)).toBe(text);
  }
});

test.each(['b0:\nfoo 1', 'b0:\n%2 = foo 1\nreturn 0', 'b0:\njump b9', 'slots s1:4\nb0:\n%2 = load8 stack &s2+0\nreturn 0'])(
  'text that is no graph: %s',
  (text) => {
    expect(() => parseGraph(text)).toThrow(/graph text: unknown/);
  },
);
