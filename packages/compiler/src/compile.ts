/** The compiler's entry points: a stage, or the root of a chain, to a program spec. */
import { TailraceError, type ProgramSpec } from '@tailrace/bpf';
import type { AnyMap, AnyStage } from '@tailrace/stage';
import type { Placement, StatePlacement } from './placement.ts';

export interface CompileOptions {
  /** The program's full name; default the stage's. */
  readonly name?: string;
  /** Without it the stage stands alone: `next()` is the hook's pass, and so is every exit. */
  readonly placement?: Placement;
}

export interface CompiledStage {
  readonly program: ProgramSpec;
  /** Map reference name to declaration, without the chain's own array and state map. */
  readonly maps: ReadonlyMap<string, AnyMap>;
  readonly stackSize: number;
  /** Values that had to be kept on the stack. */
  readonly spills: number;
}

/** Compiles one stage. Throws CompileError with a place and a hint. */
export function compileStage(_stage: AnyStage, _options: CompileOptions = {}): CompiledStage {
  throw new TailraceError('compile', 'the compiler is not wired up yet');
}

/** Labels that a stage's body leaves through, sorted. Throws CompileError where the source cannot be read. */
export function exitsOf(_stage: AnyStage): readonly string[] {
  throw new TailraceError('compile', 'the compiler is not wired up yet');
}

export interface RootOptions {
  readonly name: string;
  /** Map reference name of the array whose slot 0 holds the chain's first stage. */
  readonly array: string;
  readonly state?: Pick<StatePlacement, 'map' | 'length'> & { /** Offset of a u64 that counts packets which found slot 0 empty. */ readonly misses: number };
}

/** The small stable program that is attached: notes the packet's length and jumps to slot 0; passes where that is empty. */
export function compileRoot(_options: RootOptions): ProgramSpec {
  throw new TailraceError('compile', 'the compiler is not wired up yet');
}
