/**
 * Random expressions and statements keep their meaning on the way: as JavaScript, as the graph that the lowering makes, as
 * the optimised graph, and as instructions. Runs anywhere; what the kernel says of such programs is in the kernel's tests.
 */
import { array, i64, packed, struct, u64 } from '@tailrace/stage';
import { simulate } from '@tailrace/testing';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { lowered } from '../compile.ts';
import { CompileError } from '../diagnostic.ts';
import { emit } from '../emit/emit.ts';
import { simulate as runInstructions } from '../emit/simulate.ts';
import { stageOf } from '../fixture.ts';
import { interpret } from '../opt/interpret.ts';
import { optimise } from '../opt/optimise.ts';
import { SimulatedWorld } from '../opt/simulated-world.ts';
import { Fields, RandomProgram } from './random-program.ts';

const START = 64;
const Out = packed({ n: array(struct({ v: i64 }), 24), q: array(struct({ v: u64 }), 24) });

/** Compares all forms of a body that writes its results into the packet, `o.n[0].v = …`. Refused ones mean nothing. */
function compare(body: string, start: Uint8Array): void {
  const text = `const f = ctx.at(Fields, 0); const o = ctx.at(Out, ${START}); if (!f || !o) return ctx.drop();\n${body}\nreturn ctx.pass();`;
  const stage = stageOf(text, { uses: { Fields, Out } });
  const graph = acceptedGraph(() => lowered(stage));
  if (!graph) return;
  const frame = new Uint8Array(START + Out.layout.size);
  frame.set(start);
  const wanted = Buffer.from(simulate(stage, frame).packet).toString('hex');
  const left = (run: (world: SimulatedWorld) => void): string => {
    const world = new SimulatedWorld(frame);
    run(world);
    return Buffer.from(world.packet()).toString('hex');
  };
  const shown = `${Buffer.from(start).toString('hex')}\n${body}`;
  expect(
    left((world) => interpret(graph, world)),
    `lowered: ${shown}`,
  ).toBe(wanted);
  optimise(graph);
  expect(
    left((world) => interpret(graph, world)),
    `optimised: ${shown}`,
  ).toBe(wanted);
  expect(
    left((world) => runInstructions(emit(graph), world)),
    `emitted: ${shown}`,
  ).toBe(wanted);
}

function acceptedGraph<G>(lower: () => G): G | undefined {
  try {
    return lower();
  } catch (error) {
    if (error instanceof CompileError) return undefined;
    throw error;
  }
}

const byte = fc.oneof(fc.constantFrom(0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe, 0x55), fc.nat(255));
const packet = fc.array(byte, { minLength: START, maxLength: START }).map((bytes) => Uint8Array.from(bytes));
const numRuns = Number(process.env.TAILRACE_RUNS ?? 150);

test('expressions', () => {
  fc.assert(
    fc.property(fc.nat(2), fc.array(fc.nat(1000), { minLength: 5, maxLength: 60, size: 'max' }), packet, (kind, choices, bytes) => {
      const random = new RandomProgram(choices);
      if (kind === 0) compare(`o.n[0].v = BigInt(${random.number(4)});`, bytes);
      else if (kind === 1) compare(`o.q[0].v = ${random.bigint(4)};`, bytes);
      else compare(`o.n[0].v = ${random.condition(3)} ? 1n : 0n;`, bytes);
    }),
    { numRuns },
  );
});

test('statements', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(1000), { minLength: 20, maxLength: 250, size: 'max' }), packet, (choices, bytes) => {
      let i = 0;
      compare(
        new RandomProgram(choices).block((name) => `o.n[${i++}].v = BigInt(${name});`),
        bytes,
      );
    }),
    { numRuns },
  );
});
