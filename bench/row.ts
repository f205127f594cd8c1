/** What the bench puts out: rows, and suites that make them. */
import type { AttachHook } from '@tailrace/bpf';

/**
 * Who did the work: ours, a C twin with the same algorithm, a C twin with the maps that C authors use, C whose stages are called by
 * variable slots or as functions; or JavaScript that
 * somebody wrote by hand. In the suite `userspace` ours is WebAssembly, beside the interpreter and the kernel's JIT. Where sockets are
 * measured, ours with all bytes left to the kernel whatever waits there, a proxy with Node's `pipe`, haproxy, or TCP without anything between.
 */
export type Variant =
  | 'tailrace'
  | 'c-same'
  | 'c-lru'
  | 'c-variable'
  | 'c-calls'
  | 'by-hand'
  | 'interpreter'
  | 'kernel'
  | 'pipe'
  | 'haproxy'
  | 'direct';

/** One measurement. */
export interface Row {
  readonly suite: string;
  /** Where the programs run; null for what runs in Node. */
  readonly hook: AttachHook | null;
  readonly name: string;
  readonly variant: Variant;
  /** Median, in nanoseconds; kernel suites: a packet, net of the empty program. */
  readonly ns: number;
  /** Tailrace's ns divided by this variant's: below 1 Tailrace is the faster. Null where there is nothing to compare. */
  readonly ratio: number | null;
  /** That of the ratio, where it was taken round by round; the ratio is their median then. */
  readonly ratioSpread?: number;
  /** Half the distance between the quartiles, in nanoseconds. */
  readonly spread: number;
  /** Instruction slots of all programs a packet may pass; null for what runs in Node. */
  readonly insns: number | null;
}

/** How much to measure. */
export interface Effort {
  /** Packets in one test run. */
  readonly repeats: number;
  /** Interleaved rounds. */
  readonly rounds: number;
  /** Seconds for each function that benchmark.js measures. */
  readonly seconds: number;
  /** Pause behind each round: the kernel frees what a round has closed this long after, on the CPUs that the next one is measured on. */
  readonly settleMs: number;
}

/** What a suite hands back: rows, and why some are missing. */
export interface Outcome {
  readonly rows: readonly Row[];
  readonly notes: readonly string[];
}

/** A set of measurements that are shown together. */
export interface Suite {
  readonly name: string;
  /** The hook of all its rows. */
  readonly hook: AttachHook | null;
  /** One line for the reader of the table. */
  readonly about: string;
  /** The names of its rows, for `--filter`. */
  readonly cases: readonly string[];
  /** Measures those of its cases that `wanted` takes. Throws what the engine throws (no privilege, no eBPF). */
  run(effort: Effort, wanted: (name: string) => boolean): Promise<Outcome>;
}

/** The full effort: rounds of a million, so that the clock resolves a tenth of a nanosecond. */
export const FULL: Effort = { repeats: 1_000_000, rounds: 9, seconds: 1, settleMs: 50 };

/** Enough to see that everything works; its figures mean little. */
export const QUICK: Effort = { repeats: 20_000, rounds: 2, seconds: 0.05, settleMs: 0 };

/** Fills in the ratios of rows that share suite, hook and name. */
export function withRatios(rows: readonly Row[]): readonly Row[] {
  const key = ({ suite, hook, name }: Row) => `${suite}/${hook}/${name}`;
  const ours = new Map(rows.filter(({ variant }) => variant === 'tailrace').map((row) => [key(row), row.ns]));
  return rows.map((row) => {
    const ns = ours.get(key(row));
    return row.variant === 'tailrace' || ns === undefined || row.ns <= 0 ? row : { ...row, ratio: ns / row.ns };
  });
}
