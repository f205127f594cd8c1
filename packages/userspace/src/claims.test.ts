/** Random programs, valid and not: whatever the analyser claims of a register or a stack slot is so when a program comes there. */
import { assemble, TailraceError } from '@tailrace/bpf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { mutated } from '../../testing/src/fuzz-mutation.ts';
import { pointerProgram } from '../../testing/src/fuzz-pointers.ts';
import { FUZZ_MAPS, type FuzzProgram, fuzzProgram } from '../../testing/src/fuzz-program.ts';
import { Random } from '../../testing/src/fuzz-random.ts';
import { ClaimError, checkClaims } from './claims-fixture.ts';

const kinds: readonly (readonly [name: string, make: (random: Random) => FuzzProgram])[] = [
  ['valid programs', fuzzProgram],
  ['programs that were valid', (random) => ({ ...fuzzProgram(random), text: mutated(fuzzProgram(random).text, random) })],
  ['a mess of pointers', pointerProgram],
];

test.each(kinds)('%s', (_name, make) => {
  let steps = 0;
  fc.assert(
    fc.property(fc.nat(0x7fff_ffff), (seed) => {
      const { type, text, packets } = make(new Random(seed));
      try {
        assemble(text);
        steps += checkClaims({ type, text, maps: FUZZ_MAPS, turnLimit: 200 }, packets);
      } catch (error) {
        // what is no program, or is refused, claims nothing
        if (error instanceof ClaimError || !(error instanceof TailraceError)) throw error;
      }
    }),
    { numRuns: 60 },
  );
  expect(steps).toBeGreaterThan(2000);
});
