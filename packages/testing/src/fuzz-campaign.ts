/** Fuzzing of engines against each other: programs from seeds, one after the other, until one of them shows a difference. */
import { type EngineInstance, encode, type MapSpec, type ProgramSpec, type ProgramType, TailraceError } from '@tailrace/bpf';
import { assembled, decoded, mutated, randomInstructions } from './fuzz-mutation.ts';
import { pointerProgram } from './fuzz-pointers.ts';
import { FUZZ_MAPS, fuzzProgram } from './fuzz-program.ts';
import { Random } from './fuzz-random.ts';
import { type FuzzRun, functionsOf, fuzzOutcome } from './fuzz-side.ts';

/** What programs are made of: valid ones, some that were, a mess of pointers, instructions in a row, bytes. */
export const FUZZ_KINDS = ['valid', 'mutated', 'pointers', 'instructions', 'bytes'] as const;
export type FuzzKind = (typeof FUZZ_KINDS)[number];

/** Engines by the names that differences bear; what the first one does is right. */
export type FuzzSides = readonly (readonly [name: string, engine: EngineInstance])[];

/** Two engines came to different ends. */
export class FuzzError extends TailraceError {
  readonly seed: number;

  constructor(kind: FuzzKind, seed: number, message: string) {
    super('trap', message, { hint: `node packages/testing/src/fuzz.ts --kind ${kind} --seed ${seed} --count 1` });
    this.seed = seed;
  }
}

/** What became of the programs so far. */
export interface FuzzCount {
  /** That were run on all sides. */
  ran: number;
  /** That some engine refused, so that only the others were compared. */
  refused: number;
  /** That were no program, so that nobody saw them. */
  none: number;
}

/**
 * Makes the program of a seed, runs it on all sides and counts it. The kernel refuses what its verifier cannot prove, and the
 * userspace engine stops what goes wrong, so a kernel takes valid programs only, and where it refuses one the others are still
 * compared. Throws FuzzError with the program where they differ.
 */
export async function fuzzOnce(sides: FuzzSides, kind: FuzzKind, seed: number, count: FuzzCount): Promise<void> {
  const made = runOf(kind, new Random(seed));
  if (made === undefined) {
    count.none++;
    return;
  }
  const { text, run } = made;
  const difference = await differenceOf(sides, run, count);
  if (difference !== undefined) throw new FuzzError(kind, seed, `${kind} program of seed ${seed}: ${difference}\n${text}`);
}

async function differenceOf(sides: FuzzSides, run: FuzzRun, count: FuzzCount): Promise<string | undefined> {
  const outcomes = [];
  for (const [name, engine] of sides) {
    const outcome = await fuzzOutcome(engine, run);
    // what a verifier cannot prove is no difference
    if (outcome.refused?.code !== 'verifier') outcomes.push({ name, outcome });
  }
  const isRefused = outcomes.length < sides.length || outcomes.some(({ outcome }) => outcome.refused !== undefined);
  if (isRefused) count.refused++;
  else count.ran++;
  const [reference, ...others] = outcomes;
  for (const { name, outcome } of others) {
    const { lines } = reference?.outcome ?? outcome;
    const at = Array.from({ length: Math.max(lines.length, outcome.lines.length) }).findIndex(
      (_, index) => lines[index] !== outcome.lines[index],
    );
    if (at >= 0) return `${reference?.name} and ${name} differ:\n  ${lines[at] ?? 'nothing'}\n  ${outcome.lines[at] ?? 'nothing'}`;
  }
  return undefined;
}

function runOf(kind: FuzzKind, random: Random): { readonly text: string; readonly run: FuzzRun } | undefined {
  const { type, text, packets } = kind === 'pointers' ? pointerProgram(random) : fuzzProgram(random);
  if (kind === 'valid' || kind === 'mutated' || kind === 'pointers') {
    const written = kind === 'mutated' ? mutated(text, random) : text;
    const assembly = assembled(written);
    return assembly && { text: written, run: { spec: specOf(type, assembly), maps: FUZZ_MAPS, packets } };
  }
  const instructions = kind === 'bytes' ? decoded(randomBytes(random)) : randomInstructions(random);
  const maps: Readonly<Record<string, MapSpec>> = {};
  return instructions && { text: JSON.stringify(instructions), run: { spec: specOf(type, { instructions }), maps, packets } };
}

function specOf(type: ProgramType, rest: Pick<ProgramSpec, 'instructions'> & Partial<Pick<ProgramSpec, 'mapReferences'>>): ProgramSpec {
  return {
    name: 'fuzz',
    type,
    frags: false,
    license: 'Dual MIT/GPL',
    mapReferences: [],
    functions: functionsOf(rest.instructions),
    lines: [],
    ...rest,
  };
}

/** Bytes, or those of instructions of which some bits are wrong. */
function randomBytes(random: Random): Uint8Array {
  if (random.chance(20)) return random.bytes(random.below(100));
  const bytes = encode(randomInstructions(random));
  for (let left = random.below(4); left > 0; left--) {
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
  }
  return bytes;
}
