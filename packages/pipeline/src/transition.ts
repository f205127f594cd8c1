/** Steps that are all made, or none. */
import { TailraceError } from '@tailrace/bpf';
import type { PreparedChange } from './chain.ts';
import { hookTitle } from './chain-hook.ts';
import { takenBack } from './rollback.ts';

/** One step, and how it is taken back. */
export interface Step {
  make(): Promise<void>;
  undo(): Promise<void>;
  /** What stays as `make` left it where `undo` fails, e.g. `the next chain at XDP`. */
  readonly left: string;
}

/**
 * Makes steps in their order. Where one fails, those before it are taken back, last first, each whatever becomes of the others;
 * throws what that one threw, or RollbackError with what is left where one cannot be taken back.
 */
export async function makeAll(steps: readonly Step[]): Promise<void> {
  const made: Step[] = [];
  try {
    for (const step of steps) {
      await step.make();
      made.push(step);
    }
  } catch (error) {
    throw await takenBack(error, ...made.reverse().map((step) => () => undone(step)));
  }
}

/** Leads packets over to the next chain of a hook, of those that change together. */
export function changeStep(one: PreparedChange, all: readonly PreparedChange[]): Step {
  return {
    make: () => one.commit(),
    undo: async () => {
      // the front there knows both kinds of packets, the present chain only its own
      if (one.hook === 'tcIngress' && one.hasFront && all.some(({ hook, leads }) => hook === 'xdp' && leads))
        throw new TailraceError('rollback', 'packets come from the next chain at XDP');
      await one.revert();
    },
    left: `the next chain at ${hookTitle[one.hook]}`,
  };
}

async function undone({ undo, left }: Step): Promise<void> {
  try {
    await undo();
  } catch (cause) {
    throw new TailraceError('rollback', `${left} stays: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
