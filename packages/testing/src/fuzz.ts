/**
 * node packages/testing/src/fuzz.ts [--seed N] [--count N] [--minutes N] [--kind NAME] [--no-kernel]: random programs on the interpreter, as
 * WebAssembly and in the kernel, until an engine differs or the time is over. Seeds count up from the first one, which is
 * printed; default one minute. Needs root, unless without the kernel.
 */
import { parseArgs } from 'node:util';
import { ArgumentError, TailraceError } from '@tailrace/bpf';
import { kernel } from '@tailrace/kernel';
import { userspace } from '@tailrace/userspace';
import { FUZZ_KINDS, type FuzzCount, type FuzzKind, fuzzOnce } from './fuzz-campaign.ts';

/** Programs of a kind in a row before the next kind has its turn. */
const ROUND = 25;
/** So that a reader's machine is not filled by one engine's leftovers, engines are opened anew now and then. */
const REOPEN = 500;

try {
  await main();
} catch (error) {
  if (!(error instanceof TailraceError)) throw error;
  process.stderr.write(`${error.message}\n${error.hint === undefined ? '' : `${error.hint}\n`}`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  const { seed, count, minutes, kinds, withKernel } = options();
  process.stdout.write(
    `seeds from ${seed} on, ${count === Number.POSITIVE_INFINITY ? `${minutes} min` : `${count} programs of each kind`}\n`,
  );
  const deadline = performance.now() + minutes * 60_000;
  const counts = new Map(kinds.map((kind) => [kind, { ran: 0, refused: 0, none: 0 } satisfies FuzzCount]));
  let next = seed;
  const isOver = (): boolean => next >= seed + count || performance.now() >= deadline;
  while (!isOver()) {
    await using open = new AsyncDisposableStack();
    const interpreter = open.use(await userspace({ mode: 'interpreter', turnLimit: 5000, now: () => 1n, seed: 1n }).open());
    const wasm = open.use(await userspace({ compile: 'quickly', turnLimit: 5000, now: () => 1n, seed: 1n }).open());
    const theirs = withKernel ? open.use(await kernel({ interfaces: [] }).open()) : undefined;
    const sides = [
      ['interpreter', interpreter],
      ['wasm', wasm],
    ] as const;
    for (const end = next + REOPEN; next < end && !isOver(); next += ROUND)
      for (const kind of kinds)
        for (let at = next; at < Math.min(next + ROUND, seed + count); at++) {
          const all = kind === 'valid' && theirs !== undefined ? [...sides, ['kernel', theirs] as const] : sides;
          await fuzzOnce(all, kind, at, counts.get(kind) as FuzzCount);
        }
  }
  for (const [kind, { ran, refused, none }] of counts)
    process.stdout.write(`${kind}: ${ran} ran, ${refused} were refused${none > 0 ? `, ${none} were no programs` : ''}\n`);
}

interface Options {
  readonly seed: number;
  readonly count: number;
  readonly minutes: number;
  readonly kinds: readonly FuzzKind[];
  readonly withKernel: boolean;
}

function options(): Options {
  const values = parsed();
  const seed = values.seed === undefined ? Math.floor(Math.random() * 0x7fff_ffff) : numberOf('seed', values.seed);
  const count = values.count === undefined ? Number.POSITIVE_INFINITY : numberOf('count', values.count);
  const minutes =
    values.minutes === undefined ? (values.count === undefined ? 1 : Number.POSITIVE_INFINITY) : numberOf('minutes', values.minutes);
  const kinds = values.kind === undefined ? FUZZ_KINDS : FUZZ_KINDS.filter((kind) => kind === values.kind);
  if (kinds.length === 0) throw new ArgumentError(`--kind is ${values.kind}, expected one of ${FUZZ_KINDS.join(', ')}`);
  return { seed, count, minutes, kinds, withKernel: values['no-kernel'] !== true };
}

function parsed() {
  const text = { type: 'string' } as const;
  try {
    return parseArgs({ options: { seed: text, count: text, minutes: text, kind: text, 'no-kernel': { type: 'boolean' } } }).values;
  } catch (cause) {
    throw new ArgumentError((cause as Error).message.toLowerCase(), { cause });
  }
}

function numberOf(name: string, text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value >= 0) return value;
  throw new ArgumentError(`--${name} is ${text}, expected a number`);
}
