/** A few seconds of fuzzing, interpreter against WebAssembly, from a seed that stays; `fuzz.ts` goes on from others. */
import { type UserspaceInstance, userspace } from '@tailrace/userspace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FUZZ_KINDS, type FuzzCount, FuzzError, fuzzOnce } from './fuzz-campaign.ts';
import { mutated } from './fuzz-mutation.ts';
import { pointerProgram } from './fuzz-pointers.ts';
import { fuzzProgram } from './fuzz-program.ts';
import { Random } from './fuzz-random.ts';

const SEED = 20261122;
const PROGRAMS = 40;

let interpreter: UserspaceInstance;
let wasm: UserspaceInstance;
beforeAll(async () => {
  interpreter = await userspace({ mode: 'interpreter', turnLimit: 500, now: () => 1n, seed: 1n }).open();
  wasm = await userspace({ compile: 'quickly', turnLimit: 500, now: () => 1n, seed: 1n }).open();
});
afterAll(async () => {
  await interpreter.close();
  await wasm.close();
});

test.each(FUZZ_KINDS)('%s', async (kind) => {
  const count: FuzzCount = { ran: 0, refused: 0, none: 0 };
  const sides = [
    ['interpreter', interpreter],
    ['wasm', wasm],
  ] as const;
  for (let seed = SEED; seed < SEED + PROGRAMS; seed++) await fuzzOnce(sides, kind, seed, count);
  expect(count.ran + count.refused + count.none).toBe(PROGRAMS);
  expect(count.ran).toBeGreaterThan(kind === 'bytes' ? 3 : PROGRAMS / 3);
  if (kind === 'valid') expect(count.ran).toBe(PROGRAMS);
});

test('a difference is told with the program and how to see it again', async () => {
  const other = await userspace({ mode: 'interpreter', turnLimit: 1, now: () => 1n, seed: 1n }).open();
  const sides = [
    ['wasm', wasm],
    ['one turn', other],
  ] as const;
  const count: FuzzCount = { ran: 0, refused: 0, none: 0 };
  const all = async (): Promise<void> => {
    for (let seed = 1; seed < 50; seed++) await fuzzOnce(sides, 'valid', seed, count);
  };
  const error: unknown = await all().catch((failure: unknown) => failure);
  await other.close();
  expect(error).toBeInstanceOf(FuzzError);
  const { message, hint, seed } = error as FuzzError;
  expect(message).toContain(`valid program of seed ${seed}: wasm and one turn differ:\n  returned `);
  expect(message).toMatch(/\n {2}trap: program fuzz, pc \d+: too many turns of loops, expected the program to end\nr6 = r1\n/);
  expect(hint).toBe(`node packages/testing/src/fuzz.ts --kind valid --seed ${seed} --count 1`);
});

test('a seed makes the same program again', () => {
  for (const make of [fuzzProgram, pointerProgram]) expect(make(new Random(7))).toEqual(make(new Random(7)));
  const { text } = fuzzProgram(new Random(7));
  expect(mutated(text, new Random(3))).toBe(mutated(text, new Random(3)));
  expect(text).not.toBe(fuzzProgram(new Random(8)).text);
});

test('random numbers: every number of a range comes, and none beyond it', () => {
  const random = new Random(1);
  const seen = new Set(Array.from({ length: 500 }, () => random.between(-3, 3)));
  expect([...seen].sort((a, b) => a - b)).toEqual([-3, -2, -1, 0, 1, 2, 3]);
  for (let i = 0; i < 200; i++) {
    expect(random.edge()).toBeLessThan(1n << 64n);
    const immediate = random.immediate();
    expect(immediate | 0).toBe(immediate);
  }
});
