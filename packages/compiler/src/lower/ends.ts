/** Where paths end beside their own tail calls and verdicts: in what all parts of one program share. */
import { ArgumentError } from '@tailrace/bpf';
import { cross } from './crossing.ts';
import { isFact } from './fact.ts';
import type { Lowering } from './lowering.ts';
import type { Join } from './path.ts';
import type { Program } from './program.ts';

export class Ends {
  /** Where the paths to each part meet. */
  readonly #parts: ReadonlyMap<string, Join>;
  /** Packets that pass with metadata: those that do anyway, and those that missed, which have lost the state's address. */
  readonly #crossings = new Map<'pass' | 'miss', { readonly join: Join; readonly program: Program }>();

  constructor(parts: ReadonlyMap<string, Join> = new Map()) {
    this.#parts = parts;
  }

  /** Leads the path into another part, with what it knows of the packet and without the variables of its own part. */
  lead(lowering: Lowering, part: string): void {
    const join = this.#parts.get(part);
    if (!join) throw new ArgumentError(`an edge leads to '${part}', which is no part of the program`);
    const { values } = lowering.environment;
    for (const variable of values.keys()) if (!isFact(variable) && !variable.ofPath) values.delete(variable);
    lowering.jump(join);
  }

  /** Ends the path with a pass that takes metadata along. All parts cross alike. */
  cross(program: Program, way: 'pass' | 'miss'): void {
    const { lowering } = program;
    const entry = this.#crossings.get(way) ?? { join: lowering.newJoin(), program };
    this.#crossings.set(way, entry);
    lowering.jump(entry.join);
  }

  /** Emits what the ends share, when all parts have ended. */
  finish(): void {
    for (const { join, program } of this.#crossings.values()) {
      const { lowering, placement } = program;
      lowering.enter(join);
      if (placement?.crossing) cross(program, placement.crossing);
      lowering.return(lowering.constant(lowering.hook.verdicts.pass ?? 0));
    }
  }
}
