/** Emitted code on an engine, in the kernel under its verifier and JIT, held to the graph that it came from. */
import type { Engine, EngineInstance, LoadedMap, MapSpec, ProgramSpec } from '@tailrace/bpf';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Graph, printGraph } from '../ir.ts';
import { interpret } from '../opt/interpret.ts';
import { optimise } from '../opt/optimise.ts';
import { RANDOM_GRAPH_MAPS, randomGraph } from '../opt/random-graph.ts';
import { SimulatedWorld, VALUE_BYTES } from '../opt/simulated-world.ts';
import { emit } from './emit.ts';
import { StackError } from './stack.ts';

const specs: readonly MapSpec[] = [
  { name: 'flows', type: 'hash', keySize: 16, valueSize: VALUE_BYTES, maxEntries: 1024, flags: 0 },
  { name: 'counters', type: 'array', keySize: 4, valueSize: VALUE_BYTES, maxEntries: 1, flags: 0 },
  { name: 'chain', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 },
];

const packet = Uint8Array.from({ length: 70 }, (_, i) => (i * 37 + 11) & 0xff);

/** The cases, on an engine; so many graphs of each kind. */
export function emitSuite(blueprint: Engine, runs = Number(process.env.TAILRACE_RUNS ?? 60)): void {
  let engine: EngineInstance;
  const maps = new Map<string, LoadedMap>();
  beforeAll(async () => {
    engine = await blueprint.open();
    for (const spec of specs) maps.set(spec.name, engine.createMap(spec));
  });
  afterAll(() => engine.close());

  test.each(['as built', 'optimised'])('random graphs %s: the engine loads them and computes what they mean', async (variant) => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(255), { minLength: 20, maxLength: 300, size: 'max' }), async (choices) => {
        const graph = randomGraph(choices, []);
        const world = new SimulatedWorld(packet, RANDOM_GRAPH_MAPS);
        const expected = interpret(graph, world);
        if (variant === 'optimised') optimise(graph);
        const program = specOf(graph);
        if (!program) return;
        clear();
        const loaded = await engine.loadProgram(program, maps);
        try {
          const run = await loaded.testRun({ packet });
          expect(run.returnValue, printGraph(graph)).toBe(Number(BigInt.asUintN(32, expected)));
          expect(hex(run.packet)).toBe(hex(world.packet()));
          expect(contents('flows')).toEqual(world.contents('flows'));
          expect([...contents('counters').values()]).toEqual([world.contents('counters').get('') ?? '00'.repeat(VALUE_BYTES)]);
        } finally {
          loaded.close();
        }
      }),
      { numRuns: runs },
    );
  });

  function clear(): void {
    const flows = maps.get('flows');
    for (let key = flows?.nextKey(); key; key = flows?.nextKey()) flows?.delete(key);
    maps.get('counters')?.update(new Uint8Array(4), new Uint8Array(VALUE_BYTES));
  }

  function contents(name: string): Map<string, string> {
    const out = new Map<string, string>();
    const map = maps.get(name);
    for (let key = map?.nextKey(); key; key = map?.nextKey(key)) out.set(hex(key), hex(map?.lookup(key) ?? new Uint8Array()));
    return out;
  }
}

/** A program, or undefined where the graph needs more stack than there is. */
function specOf(graph: Graph): ProgramSpec | undefined {
  try {
    const { instructions, mapReferences } = emit(graph);
    return { name: 'random', type: 'xdp', frags: true, license: 'Dual MIT/GPL', instructions, mapReferences, functions: [], lines: [] };
  } catch (error) {
    if (error instanceof StackError) return undefined;
    throw error;
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
