/** Records of a ring one at a time: what `consume` and iterators read from. */

/** Records that are read in a row, before everything else in the process gets its turn. */
export const SLICE = 1024;

/** A ring of one's own. */
export interface RecordSource {
  /** The next record in a box, or undefined where none is written yet. Throws ArgumentError for a record that is too short. */
  next(): { readonly value: unknown } | undefined;
  /** Asks for a call of `onReadable`, once there is a record. */
  arm(): void;
  /** Lets others read. Idempotent. */
  end(): void;
}

/** Takes the ring; gives nothing once the pipeline has stopped. Throws ArgumentError where somebody has it. */
export type BeginReading = (onReadable: () => void, onStop: () => void) => RecordSource | undefined;
