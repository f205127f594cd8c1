/** Paths through a program: what each knows, and the points where they meet. */
import type { Block } from '../ir.ts';
import type { Epoch, Operand, Variable } from './operand.ts';

/** What is known along one path. */
export interface Environment {
  readonly values: Map<Variable, Operand>;
  epoch: Epoch;
}

/** A point where paths meet; `value` is the result where it has one. */
export interface Join {
  readonly block: Block;
  readonly incoming: { readonly from: Block; readonly environment: Environment; readonly value: Operand | undefined }[];
}
