/** What is wrong with a pipeline as a whole: found while it is planned, before anything is loaded. */
import { type ErrorOptions, TailraceError } from '@tailrace/bpf';

/** What a chain gets wrong. */
export type ChainProblem =
  | 'empty' // no members
  | 'hook' // a stage or function that does not fit the chain
  | 'open' // an exit that leads nowhere
  | 'exit' // a wiring of an exit that the body does not have
  | 'duplicate' // two stages of one name
  | 'unreachable' // a member that no packet can get to
  | 'cycle' // a stage that leads back to itself
  | 'depth' // more tail calls than the kernel allows
  | 'metadata' // a field that is read before it is written, or has two schemas
  | 'sockets' // a chain on sockets that no map of sockets leads to
  | 'state' // counters and metadata take more room than there is
  | 'fused' // a stage in a fused group that can only be a program of its own
  | 'absent'; // a stage, function or map that is not in this pipeline

/** A pipeline that cannot be built or changed. */
export class ChainError extends TailraceError {
  readonly problem: ChainProblem;

  constructor(problem: ChainProblem, message: string, options?: ErrorOptions) {
    super('chain', message, options);
    this.problem = problem;
  }
}
