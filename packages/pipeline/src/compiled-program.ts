/** The programs that a pipeline becomes, compiled and not loaded: to look at, or to load by other means. */
import type { ProgramSpec } from '@tailrace/bpf';
import type { AnyMap } from '@tailrace/stage';
import type { ChainHook } from './chain-hook.ts';
import type { PipelineBlueprint } from './live-pipeline.ts';

/** Names the root among the places of a chain; no stage can be called so. */
export const ROOT_PLACE = '(root)';
/** Names the program at TC ingress that takes over what XDP sends. */
export const IMPORT_PLACE = '(import)';

/** One program of a pipeline. */
export interface CompiledProgram {
  readonly hook: ChainHook;
  /**
   * The name of the place that it begins at, as in stats; ROOT_PLACE for the program that is attached, IMPORT_PLACE for one
   * between it and the first stage.
   */
  readonly place: string;
  /** All its places: several where they are fused, none for the root. */
  readonly places: readonly string[];
  readonly program: ProgramSpec;
  /** Bytes of stack that it uses. */
  readonly stackSize: number;
  /** The stage's maps by the name that the program refers to them by; the chain's own are not among them. */
  readonly maps: ReadonlyMap<string, AnyMap>;
}

/** The programs of each chain, its root first, in the order in which packets meet them. */
export function programsOf({ compiled: { chains }, roots }: PipelineBlueprint): readonly CompiledProgram[] {
  return [...chains].flatMap(([hook, { plan, programs, lead }]) => {
    const own = (place: string, program: ProgramSpec | undefined): readonly CompiledProgram[] =>
      program ? [{ hook, place, places: [], program, stackSize: stackBytes(program), maps: new Map() }] : [];
    const stages = [...programs].map(([place, { compiled }]) => {
      const { program, stackSize, maps } = compiled;
      return { hook, place, places: plan.programs.get(place) ?? [], program, stackSize, maps };
    });
    return [...own(ROOT_PLACE, roots.get(hook)), ...own(IMPORT_PLACE, lead), ...stages];
  });
}

/** BPF_ST and BPF_STX (RFC 9669, section 3). */
const stores: readonly number[] = [2, 3];
const FRAME_POINTER = 10;

/** How far below the frame pointer a program stores. A root has no other way to its stack. */
function stackBytes({ instructions }: ProgramSpec): number {
  const offsets = instructions.flatMap(({ opcode, dst, offset }) =>
    stores.includes(opcode & 7) && dst === FRAME_POINTER ? [-offset] : [],
  );
  return Math.max(0, ...offsets);
}
