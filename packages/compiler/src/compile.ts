/** The compiler's entry points: a stage, or the root of a chain, to a program spec. */
import type { ProgramSpec } from '@tailrace/bpf';
import { type AnyMap, type AnyStage, type Layout, perCpuArray, type Schema, struct, u64 } from '@tailrace/stage';
import { CompileError } from './diagnostic.ts';
import { emit } from './emit/emit.ts';
import { STACK_LIMIT, StackError } from './emit/stack.ts';
import { type HookModel, hookModel, hookModels } from './hook-model.ts';
import type { Graph } from './ir.ts';
import { exitLabels } from './lower/label.ts';
import { lowerStage } from './lower/lower.ts';
import { optimise } from './opt/optimise.ts';
import type { Placement, StatePlacement } from './placement.ts';
import { lowerRoot } from './root.ts';
import { readSource } from './source.ts';

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
  /** Bytes of stack. */
  readonly stackSize: number;
  /** Values that had to be kept on the stack. */
  readonly spills: number;
}

/** What the kernel takes, BPF_COMPLEXITY_LIMIT_INSNS aside (include/linux/bpf.h). */
const MAX_INSTRUCTIONS = 1_000_000;
const LICENSE = 'Dual MIT/GPL';

/** Compiles one stage. Throws CompileError with a place and a hint. */
export function compileStage(stage: AnyStage, options: CompileOptions = {}): CompiledStage {
  const hook = modelOf(stage);
  const alone = options.placement ? undefined : standalone(stage);
  const { graph, maps } = lowerStage(stage, hook, options.placement ?? alone?.placement);
  const compiled = finish(graph, hook, options.name ?? stage.name, stage.name);
  return { ...compiled, maps: alone?.state ? new Map([...maps, [STATE, alone.state]]) : maps };
}

/** Labels that a stage's body leaves through, sorted. Throws CompileError where the source cannot be read, or is refused. */
export function exitsOf(stage: AnyStage): readonly string[] {
  const { labels, complete } = exitLabels(readSource(stage.program, stage.name));
  const all = complete ? labels : labels.union(new Set(lowerStage(stage, modelOf(stage), standalone(stage, [])?.placement).exits));
  return [...all].sort();
}

/** A stage's IR before and after optimisation, for tests and for looking at. */
export function lowered(stage: AnyStage, options: CompileOptions = {}): Graph {
  return lowerStage(stage, modelOf(stage), options.placement ?? standalone(stage)?.placement).graph;
}

export interface RootOptions {
  readonly name: string;
  /** Map reference name of the array whose slot 0 holds the chain's first stage. */
  readonly array: string;
  readonly state?: Pick<StatePlacement, 'map'> & {
    /** Offset of the packet's length, u64. */
    readonly length: number;
    /** Offset of a u64 that counts packets which found slot 0 empty. */ readonly misses: number;
  };
}

/** The small stable program that is attached: notes the packet's length and jumps to slot 0; passes where that is empty. */
export function compileRoot(options: RootOptions): ProgramSpec {
  return finish(lowerRoot(options), hookModels.xdp, options.name, options.name).program;
}

/** Throws CompileError for a stage of a hook that cannot be compiled. */
function modelOf(stage: AnyStage): HookModel {
  const model = hookModel(stage.hook);
  if (model) return model;
  const message = `hook '${stage.hook}' cannot be compiled, expected xdp, tc, tcIngress or tcEgress`;
  throw new CompileError({ id: 'limit', stage: stage.name, message, length: 1 });
}

function finish(graph: Graph, hook: HookModel, name: string, stage: string): Omit<CompiledStage, 'maps'> {
  optimise(graph);
  const { instructions, mapReferences, lines, stackSize, spills } = emitted(graph, stage);
  if (instructions.length > MAX_INSTRUCTIONS) {
    throw new CompileError({
      id: 'limit',
      stage,
      message: `the program has ${instructions.length} instructions, expected at most ${MAX_INSTRUCTIONS}`,
      hint: 'split the stage',
      length: 1,
    });
  }
  const program: ProgramSpec = {
    name,
    type: hook.programType,
    frags: hook.frags,
    license: LICENSE,
    instructions,
    mapReferences,
    functions: [{ pc: 0, name }],
    lines,
  };
  return { program, stackSize, spills };
}

/** Emits; a stack that is too small is the source's fault, where it fills the largest struct. */
function emitted(graph: Graph, stage: string): ReturnType<typeof emit> {
  try {
    return emit(graph);
  } catch (error) {
    if (!(error instanceof StackError)) throw error;
    const { total, sizes, hint } = error;
    const place = graph.blocks
      .flatMap(({ nodes }) => nodes)
      .find((n) => n.kind === 'store' && n.base.kind === 'stackAddress' && n.base.slot.size === sizes[0])?.place;
    const message = `the program needs ${total} bytes of stack at once (${sizes.join(', ')}), expected at most ${STACK_LIMIT}`;
    throw new CompileError({ id: 'limit', stage, message, hint, place, length: 1 }, error);
  }
}

/** A map of the stage's own cannot have this name. */
const STATE = '(state)';

/** A stage that stands alone keeps its metadata in a map of its own. */
function standalone(stage: AnyStage, labels = exitsOf(stage)): { placement: Placement; state: AnyMap } | undefined {
  const fields: Record<string, Schema<unknown>> = { ...stage.reads, ...stage.writes };
  if (Object.keys(fields).length === 0) return undefined;
  const value = struct({ length: u64, ...fields });
  const layout = value.layout as Extract<Layout, { kind: 'struct' }>;
  const places = Object.fromEntries(Object.keys(fields).map((name) => [name, layout.fields[name] as { layout: Layout; offset: number }]));
  const exits = Object.fromEntries(labels.map((label) => [label, { verdict: 'pass' as const }]));
  return {
    placement: { array: '', next: { verdict: 'pass' }, exits, state: { map: STATE }, metadata: places },
    state: perCpuArray({ name: 'state', value, maxEntries: 1 }),
  };
}
