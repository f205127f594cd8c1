/** Steps that are all made, or none. */

/** One step, and how it is taken back. */
export interface Step {
  make(): Promise<void>;
  undo(): Promise<void>;
}

/**
 * Makes steps in their order. Where one fails, those before it are taken back, last first, each whatever becomes of the others;
 * throws what that one threw.
 */
export async function makeAll(steps: readonly Step[]): Promise<void> {
  const made: Step[] = [];
  try {
    for (const step of steps) {
      await step.make();
      made.push(step);
    }
  } catch (error) {
    // what cannot be taken back stays as it is; whoever made the steps knows which
    for (const step of made.reverse()) await step.undo().catch(() => undefined);
    throw error;
  }
}
