/** The compiler's entry points: a stage, or the root of a chain, to a program spec. */
import type { ProgramSpec } from '@tailrace/bpf';
import { type AnyMap, type AnyStage, type Layout, perCpuArray, type Schema, struct, u64 } from '@tailrace/stage';
import { CompileError } from './diagnostic.ts';
import { emit } from './emit/emit.ts';
import { STACK_LIMIT, StackError } from './emit/stack.ts';
import { type HookModel, hookModel, hookModels } from './hook-model.ts';
import type { Graph } from './ir.ts';
import { longestWay } from './longest-way.ts';
import { type FusedPart, lowerFused } from './lower/fused.ts';
import { labelsOf } from './lower/label.ts';
import { type Lowered, lowerStage } from './lower/lower.ts';
import { compileObject, isObjectStage, objectOutcomes } from './object-stage.ts';
import { optimise } from './opt/optimise.ts';
import { CB_BYTES, type Placement } from './placement.ts';
import { lowerRoot, type RootOptions } from './root.ts';
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
  /** Instructions on the longest way through it, loops counted once. */
  readonly longest: number;
}

/** What the kernel takes, BPF_COMPLEXITY_LIMIT_INSNS aside (include/linux/bpf.h). */
const MAX_INSTRUCTIONS = 1_000_000;
const LICENSE = 'Dual MIT/GPL';

/** Compiles one stage. Throws CompileError with a place and a hint. */
export function compileStage(stage: AnyStage, options: CompileOptions = {}): CompiledStage {
  const hook = modelOf(stage);
  if (isObjectStage(stage)) return compileObject(stage, hook, options.name ?? stage.name, options.placement);
  const alone = options.placement ? undefined : standalone(stage);
  const { graph, maps } = lowerStage(stage, hook, options.placement ?? alone?.placement);
  const compiled = finish(graph, hook, options.name ?? stage.name, stage.name);
  return { ...compiled, maps: alone?.state ? new Map([...maps, [STATE, alone.state]]) : maps };
}

/**
 * Compiles stages into one program, whose edges by `part` are jumps; `parts` stand so that these lead forward, the first is
 * where packets come in. Throws CompileError for what `compileStage` refuses, for a stage out of an object, and where the
 * stages together are too large.
 */
export function compileFused(parts: readonly [FusedPart, ...FusedPart[]], { name }: { readonly name: string }): CompiledStage {
  const hook = modelOf(parts[0].stage);
  const object = parts.find(({ stage }) => isObjectStage(stage));
  if (object) {
    const message = 'the stage comes out of an object, which is a program of its own';
    throw new CompileError({ id: 'source', stage: object.stage.name, message, hint: 'leave it out of fuse()', length: 1 });
  }
  const { graph, maps } = lowerFused(name, parts, hook);
  return { ...finish(graph, hook, name, name, parts), maps };
}

/** Labels that a stage's body leaves through, sorted. Throws CompileError where the source cannot be read, or is refused. */
export function exitsOf(stage: AnyStage): readonly string[] {
  if (isObjectStage(stage)) return objectOutcomes(stage, modelOf(stage)).exits;
  const { labels, complete } = labelsOf(readSource(stage.program, stage.name), 'exit');
  const all = complete ? labels : labels.union(new Set(loweredAlone(stage).exits));
  return [...all].sort();
}

/** The reasons that a stage's body gives, as in `StageOutcomes`, sorted. Throws as `exitsOf` does. */
export function reasonsOf(stage: AnyStage): readonly string[] {
  if (isObjectStage(stage)) return [];
  const source = readSource(stage.program, stage.name);
  const given = (['drop', 'abort'] as const).map((verdict) => ({ verdict, ...labelsOf(source, verdict) }));
  if (!given.every(({ complete }) => complete)) return [...loweredAlone(stage).reasons].sort();
  return given.flatMap(({ verdict, labels }) => [...labels].map((reason) => `${verdict}:${reason}`)).sort();
}

/** The ways out of a stage, and what is known of a packet that takes one. */
export interface StageOutcomes {
  /** Labels, sorted. */
  readonly exits: readonly string[];
  /** True where some path leaves by `next()`. */
  readonly next: boolean;
  /** Why packets are dropped and aborted, where the body says so: `drop:` or `abort:` with the reason, sorted. */
  readonly reasons: readonly string[];
  /** Verdicts that some path returns, `redirect` in any form among them. */
  readonly verdicts: readonly string[];
  /**
   * The metadata fields that every path to an outcome has wholly written, sorted: by verdict, `next`, and `exit:` with the
   * label. A label that no path reaches has all of them.
   */
  readonly writes: Readonly<Record<string, readonly string[]>>;
}

const outcomes = new WeakMap<AnyStage, StageOutcomes>();

/** How a stage can end. Throws CompileError where it is refused. The same object for the same stage. */
export function outcomesOf(stage: AnyStage): StageOutcomes {
  const known = outcomes.get(stage);
  if (known) return known;
  if (isObjectStage(stage)) {
    const outcome = objectOutcomes(stage, modelOf(stage));
    outcomes.set(stage, outcome);
    return outcome;
  }
  const { exits: taken, reasons, writes } = loweredAlone(stage);
  const exits = [...labelsOf(readSource(stage.program, stage.name), 'exit').labels.union(new Set(taken))].sort();
  const verdicts = [...writes.keys()].filter((name) => name !== 'next' && !name.startsWith('exit:'));
  const names = [...writes.keys()].concat(exits.map((label) => `exit:${label}`).filter((name) => !writes.has(name)));
  const made: StageOutcomes = {
    exits,
    next: writes.has('next'),
    reasons: [...reasons].sort(),
    verdicts,
    writes: Object.fromEntries(names.map((name) => [name, [...(writes.get(name) ?? Object.keys(stage.writes))].sort()])),
  };
  outcomes.set(stage, made);
  return made;
}

/** A stage as if each of its ways out ended the chain. */
function loweredAlone(stage: AnyStage): Lowered {
  return lowerStage(stage, modelOf(stage), standalone(stage, [])?.placement);
}

/** A stage's IR before and after optimisation, for tests and for looking at. */
export function lowered(stage: AnyStage, options: CompileOptions = {}): Graph {
  return lowerStage(stage, modelOf(stage), options.placement ?? standalone(stage)?.placement).graph;
}

/**
 * A small program in front of a chain's stages, first of all the stable one that is attached: notes the packet's length (XDP),
 * takes over metadata that cross or sorts packets by their tag (TC), and jumps through one slot; passes where that is empty.
 */
export function compileRoot(options: RootOptions): ProgramSpec {
  return finish(lowerRoot(options), hookModels[options.hook ?? 'xdp'], options.name, options.name).program;
}

/** Throws CompileError for metadata where there is no place for them. */
function modelOf(stage: AnyStage): HookModel {
  const model = hookModel(stage.hook);
  if (model.socket === undefined || Object.keys({ ...stage.reads, ...stage.writes }).length === 0) return model;
  throw new CompileError({
    id: 'limit',
    stage: stage.name,
    message: `its hook is ${stage.hook}, where there are no metadata`,
    hint: 'programs of sockets interrupt one another, and have no packet to keep them with: use a map',
    length: 1,
  });
}

function finish(graph: Graph, hook: HookModel, name: string, stage: string, parts: readonly FusedPart[] = []): Omit<CompiledStage, 'maps'> {
  optimise(graph);
  const { instructions, mapReferences, lines, stackSize, spills } = emitted(graph, stage, parts);
  if (instructions.length > MAX_INSTRUCTIONS) {
    throw new CompileError({
      id: 'limit',
      stage,
      message: `the program has ${instructions.length} instructions, expected at most ${MAX_INSTRUCTIONS}`,
      hint: parts.length > 1 ? 'fuse fewer stages' : 'split the stage',
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
  return { program, stackSize, spills, longest: longestWay(instructions) };
}

/** Emits; a stack that is too small is the source's fault, where it fills the largest struct. */
function emitted(graph: Graph, stage: string, parts: readonly FusedPart[]): ReturnType<typeof emit> {
  try {
    return emit(graph);
  } catch (error) {
    if (!(error instanceof StackError)) throw error;
    const { total, sizes } = error;
    const place = graph.blocks
      .flatMap(({ nodes }) => nodes)
      .find((n) => n.kind === 'store' && n.base.kind === 'stackAddress' && n.base.slot.size === sizes[0])?.place;
    const isFused = parts.length > 1;
    const each = isFused ? parts.map((part) => `'${part.name}' ${stackAlone(part)}`) : sizes;
    const message = `the program needs ${total} bytes of stack at once (${each.join(', ')}), expected at most ${STACK_LIMIT}`;
    const hint = isFused ? 'fuse fewer stages' : error.hint;
    throw new CompileError({ id: 'limit', stage, message, hint, place, length: 1 }, error);
  }
}

/** What a part of a fused program needs where it is a program of its own. */
function stackAlone({ stage }: FusedPart): number {
  return compileStage(stage).stackSize;
}

/** A map of the stage's own cannot have this name. */
const STATE = '(state)';

/** A stage that stands alone keeps its metadata in a map of its own at XDP, and in the packet's control block at TC. */
function standalone(stage: AnyStage, labels = exitsOf(stage)): { placement: Placement; state?: AnyMap } | undefined {
  const fields: Record<string, Schema<unknown>> = { ...stage.reads, ...stage.writes };
  if (Object.keys(fields).length === 0) return undefined;
  const isTc = modelOf(stage).kind === 'tc';
  // where there is little room, the widest first: then no field leaves a gap
  const widest = Object.entries(fields).sort(([, a], [, b]) => b.layout.align - a.layout.align);
  const value = struct(isTc ? Object.fromEntries(widest) : { length: u64, ...fields });
  const layout = value.layout as Extract<Layout, { kind: 'struct' }>;
  const metadata = Object.fromEntries(Object.keys(fields).map((name) => [name, layout.fields[name] as { layout: Layout; offset: number }]));
  const exits = Object.fromEntries(labels.map((label) => [label, { verdict: 'pass' as const }]));
  const placement: Placement = { array: '', next: { verdict: 'pass' }, exits, metadata };
  if (isTc) {
    const size = Math.max(...Object.values(metadata).map((field) => field.offset + field.layout.size));
    if (size <= CB_BYTES) return { placement };
    const message = `its metadata take ${size} bytes, expected at most ${CB_BYTES}, which is what TC has`;
    throw new CompileError({ id: 'limit', stage: stage.name, message, length: 1 });
  }
  return {
    placement: { ...placement, state: { map: STATE } },
    state: perCpuArray({ name: 'state', value, maxEntries: 1 }),
  };
}
