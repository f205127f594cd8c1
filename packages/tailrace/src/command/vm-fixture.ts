/** For tests: where the cases of the public conformance suite lie, which are not part of the project, and what each says. */
import { join } from 'node:path';

/** Absent where the cases are not there. */
export const casesFile = join(import.meta.dirname, '../../../../../shared/conformance/isa.json');

/** One case. */
export interface IsaCase {
  readonly name: string;
  /** Hex. */
  readonly program: string;
  /** Hex. */
  readonly memory: string;
  readonly expect: 'value' | 'reject';
  readonly result?: string;
  /** What Linux does: `pass`, or why its verifier refuses. */
  readonly kernel?: string;
}
