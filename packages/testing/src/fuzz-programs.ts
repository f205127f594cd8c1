/** Makers of random programs, for tests inside of this workspace. */
export { mutated } from './fuzz-mutation.ts';
export { pointerProgram } from './fuzz-pointers.ts';
export { FUZZ_MAPS, type FuzzProgram, fuzzProgram } from './fuzz-program.ts';
export { Random } from './fuzz-random.ts';
