/** Random programs over memory leave on an engine what they leave in JavaScript, at XDP and at TC. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import * as testing from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, test } from 'vitest';
import { agree, sameAtTc, stageOf } from '../fixture.ts';
import { memoryUses, RandomMemory } from './random-memory.ts';

const byte = fc.oneof(fc.constantFrom(0, 1, 2, 3, 255), fc.nat(255));
const frame = fc.array(byte, { minLength: 50, maxLength: 50 }).map((bytes) => Uint8Array.from(bytes));

/** The cases, on an engine; properties are tried so many times. */
export function randomMemorySuite(blueprint: Engine, runs = Number(process.env.TAILRACE_RUNS ?? 20)): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  test('maps, literals and copies', async () => {
    const choices = fc.array(fc.nat(1000), { minLength: 30, maxLength: 300, size: 'max' });
    await fc.assert(
      fc.asyncProperty(choices, fc.array(frame, { minLength: 3, maxLength: 6 }), async (list, frames) => {
        const body = new RandomMemory(list).body();
        const uses = Object.fromEntries(Object.entries(memoryUses).filter(([name]) => new RegExp(`\\b${name}\\b`).test(body)));
        await agree(testing, engine, stageOf(body, { uses }), frames);
        // TC has no tx
        await sameAtTc(engine, stageOf(body.replaceAll('ctx.tx()', 'ctx.pass()'), { uses }), frames);
      }),
      { numRuns: runs, interruptAfterTimeLimit: 20_000 },
    );
  }, 60_000);
}
