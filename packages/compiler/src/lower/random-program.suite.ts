/** Random expressions and statements mean on an engine what they mean in JavaScript, at XDP and at TC. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { type AnyStage, array, arrayMap, i64, struct, u64 } from '@tailrace/stage';
import * as testing from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, test } from 'vitest';
import { lowered } from '../compile.ts';
import { CompileError } from '../diagnostic.ts';
import { agree, sameAtTc, stageOf } from '../fixture.ts';
import { Fields, RandomProgram } from './random-program.ts';

const RESULTS = 24;
/** Where the lines of a stage start in its text. */
const FIRST_LINE = 5;
const results = arrayMap({ name: 'results', value: struct({ n: array(i64, RESULTS), q: array(u64, RESULTS) }), maxEntries: 1 });
const around = (lines: readonly string[]): string => `const f = ctx.at(Fields, 0);
const o = results.lookup(0);
if (!f || !o) return ctx.drop();
${lines.join('\n')}
return ctx.pass();`;
const stageWith = (lines: readonly string[]) => stageOf(around(lines), { uses: { Fields, results } });

/** The stage of those lines that the compiler takes. */
function acceptedStage(lines: readonly string[]): AnyStage | undefined {
  const left = [...lines];
  while (left.length > 0) {
    const stage = stageWith(left);
    try {
      lowered(stage);
      return stage;
    } catch (error) {
      if (!(error instanceof CompileError) || !error.diagnostic.place) throw error;
      left.splice(error.diagnostic.place.line - FIRST_LINE, 1);
    }
  }
  return undefined;
}

const CORNERS = [0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe, 0x55];
const byte = fc.oneof(fc.constantFrom(...CORNERS), fc.nat(255));
const frame = fc.oneof(
  fc.array(byte, { minLength: 64, maxLength: 64 }).map((bytes) => Uint8Array.from(bytes)),
  fc.constantFrom(...CORNERS).map((b) => new Uint8Array(64).fill(b)),
);
const frames = fc.array(frame, { minLength: 4, maxLength: 8 });

/** The cases, on an engine; properties are tried so many times. */
export function randomProgramSuite(blueprint: Engine, runs = Number(process.env.TAILRACE_RUNS ?? 25)): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  test('expressions', async () => {
    const choices = fc.array(fc.array(fc.nat(1000), { minLength: 5, maxLength: 60, size: 'max' }), {
      minLength: 1,
      maxLength: RESULTS,
      size: 'max',
    });
    await fc.assert(
      fc.asyncProperty(choices, frames, async (lists, packets) => {
        const lines = lists.map((list, i) => {
          const random = new RandomProgram(list.slice(1));
          switch ((list[0] ?? 0) % 3) {
            case 0:
              return `o.n[${i}] = BigInt(${random.number(4)});`;
            case 1:
              return `o.q[${i}] = ${random.bigint(4)};`;
            default:
              return `o.n[${i}] = ${random.condition(3)} ? 1n : 0n;`;
          }
        });
        const stage = acceptedStage(lines);
        if (!stage) return;
        await agree(testing, engine, stage, packets);
        await sameAtTc(engine, stage, packets);
      }),
      { numRuns: runs, interruptAfterTimeLimit: 20_000 },
    );
  }, 600_000);

  test('statements', async () => {
    const choices = fc.array(fc.nat(1000), { minLength: 20, maxLength: 250, size: 'max' });
    await fc.assert(
      fc.asyncProperty(choices, frames, async (list, packets) => {
        let i = 0;
        const stage = acceptedStage([new RandomProgram(list).block((name) => `o.n[${i++}] = BigInt(${name});`).replaceAll('\n', ' ')]);
        if (!stage) return;
        await agree(testing, engine, stage, packets);
        await sameAtTc(engine, stage, packets);
      }),
      { numRuns: runs, interruptAfterTimeLimit: 20_000 },
    );
  }, 600_000);
}
