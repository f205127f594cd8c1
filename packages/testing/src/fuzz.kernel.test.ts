/** A few seconds of fuzzing with the kernel: programs that are valid come to the same end on every engine. */
import { type KernelInstance, kernel } from '@tailrace/kernel';
import { type UserspaceInstance, userspace } from '@tailrace/userspace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type FuzzCount, fuzzOnce } from './fuzz-campaign.ts';

const SEED = 20261122;
const PROGRAMS = 120;

let theirs: KernelInstance;
let interpreter: UserspaceInstance;
let wasm: UserspaceInstance;
beforeAll(async () => {
  theirs = await kernel({ interfaces: [] }).open();
  interpreter = await userspace({ mode: 'interpreter', now: () => 1n, seed: 1n }).open();
  wasm = await userspace({ compile: 'quickly', now: () => 1n, seed: 1n }).open();
});
afterAll(async () => {
  for (const engine of [theirs, interpreter, wasm]) await engine.close();
});

test('valid programs', async () => {
  const count: FuzzCount = { ran: 0, refused: 0, none: 0 };
  const sides = [
    ['kernel', theirs],
    ['interpreter', interpreter],
    ['wasm', wasm],
  ] as const;
  for (let seed = SEED; seed < SEED + PROGRAMS; seed++) await fuzzOnce(sides, 'valid', seed, count);
  // what the verifier does not take, for all that they are valid, is compared without it
  expect(count.ran).toBeGreaterThan(PROGRAMS * 0.9);
});
