/** What sends the packets of a capture through something: a pipeline or a program of an object file, in userspace or by test runs. */
import type { Engine, Redirect } from '@tailrace/bpf';
import { kernel } from '@tailrace/kernel';
import { userspace } from '@tailrace/userspace';
import type { ReplayOptions } from './arguments.ts';

/** One stage on a packet's way. */
export interface Step {
  /** Absent where a program is for no hook. */
  readonly hook?: string;
  readonly stage: string;
  /** `next`, `exit`, or the verdict that the stage gave. */
  readonly verdict: string;
  readonly exit?: string;
  readonly missed?: true;
}

/** What came of a packet. */
export interface Outcome {
  readonly verdict: string;
  /** As it is then; good until the next outcomes are asked for. */
  readonly packet: Uint8Array;
  readonly redirect?: Redirect;
  /** Its stages in order; undefined where nobody asked, or where the counters do not tell it. */
  readonly path: readonly Step[] | undefined;
}

/** Sends packets through something that is loaded; dispose of it to take that out again. */
export interface PacketRunner extends AsyncDisposable {
  /** What runs. */
  readonly title: string;
  /** What is to be known of these runs; absent: nothing. */
  readonly note?: string;
  /** Outcomes come one at a time. */
  readonly isOneByOne: boolean;
  /** Runs Ethernet frames, and gives the outcomes in their order, as many at a time as it has. Throws what programs throw. */
  run(frames: readonly Uint8Array[]): AsyncIterable<readonly Outcome[]>;
  /** Counters of its stages so far, as a table. */
  table(): string;
}

/** Verdicts with which a packet goes on, or back out. */
const leaving: ReadonlySet<string> = new Set(['pass', 'tx', 'redirect']);

/** Whether a packet leaves with this verdict. */
export function leaves(verdict: string): boolean {
  return leaving.has(verdict);
}

/** The engine of that name; the kernel's is attached to nothing. */
export function engineOf(name: ReplayOptions['engine']): Engine {
  if (name === 'kernel') return kernel({ interfaces: [] });
  return userspace({ mode: name === 'interpreter' ? 'interpreter' : 'wasm' });
}
