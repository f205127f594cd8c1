/** Stages out of objects: a program that was compiled elsewhere, with the ways out that its place in a chain asks for. */
import { EncodingError, Helper, type LineInfo, type ProgramSpec } from '@tailrace/bpf';
import type { AnyMap, AnyStage, StageObject } from '@tailrace/stage';
import { CompileError, type DiagnosticId } from './diagnostic.ts';
import { STACK_LIMIT } from './emit/stack.ts';
import type { HookModel } from './hook-model.ts';
import { longestWay } from './longest-way.ts';
import { ProgramCode } from './object-code.ts';
import { exitCode, needsContext, returnMeaning } from './object-exits.ts';
import { contextHome, graft } from './object-graft.ts';
import type { Placement } from './placement.ts';

/** A stage of an object. */
export type ObjectStage = AnyStage & { readonly object: StageObject };

/** True for stages out of objects. */
export function isObjectStage(stage: AnyStage): stage is ObjectStage {
  return stage.object !== undefined;
}

/** A stage's program as it stands in a chain; see `CompiledStage`. */
export interface LinkedStage {
  readonly program: ProgramSpec;
  readonly maps: ReadonlyMap<string, AnyMap>;
  readonly stackSize: number;
  readonly spills: number;
  readonly longest: number;
}

const RESIZING = [Helper.xdp_adjust_head, Helper.xdp_adjust_tail];
/** Room for the key that the state is looked up by. */
const KEY_BYTES = 8;

/**
 * Grafts the ways out of a chain onto a stage's program. Throws CompileError where the program has other ways out than its exits,
 * or no room for its context.
 */
export function compileObject(stage: ObjectStage, hook: HookModel, name: string, place: Placement | undefined): LinkedStage {
  const { object, onMiss } = stage;
  const placement = place ?? standing(object);
  const spec = withOwnNames(object.spec, placement);
  const code = new ProgramCode(spec);
  const fault = code.fault();
  if (fault) throw refusal(stage, 'source', `pc ${fault.pc} ${fault.message}`, { pc: fault.pc });
  const options = { object, hook, placement, onMiss, resizes: hook.kind === 'xdp' && code.calls(RESIZING) };
  const home = needsContext(options) ? contextHome(code) : undefined;
  if (needsContext(options) && !home)
    throw refusal(stage, 'limit', `the program has no room to keep its context: it names r6 to r9 and uses ${code.depth} bytes of stack`, {
      hint: `leave one of the registers, or 8 of ${STACK_LIMIT} bytes with those of the functions that it calls`,
    });
  const grafted = graft(
    spec,
    code,
    home,
    exits(stage, () => exitCode(options, home)),
  );
  if (!grafted) throw refusal(stage, 'limit', 'an exit of the program is more than 32767 instructions before its end, with none between');
  const stackSize = Math.max(code.depth, home && 'offset' in home ? -home.offset : 0, placement.state ? KEY_BYTES : 0);
  const program: ProgramSpec = {
    name,
    type: hook.programType,
    frags: hook.frags,
    license: spec.license,
    ...grafted,
    functions: grafted.functions.map((record) => (record.pc === 0 ? { pc: 0, name } : record)),
  };
  return { program, maps: mapsOf(stage, placement), stackSize, spills: 0, longest: longestWay(program.instructions) };
}

/** See `StageOutcomes`: an object's stage writes no metadata, and any verdict may be what it returns. */
export function objectOutcomes({ object }: ObjectStage, hook: HookModel) {
  const { cases, otherwise } = returnMeaning(object, hook);
  const names = [...new Set([...cases.values(), otherwise])];
  const exits = names.flatMap((name) => (name.startsWith('exit:') ? [name.slice('exit:'.length)] : [])).sort();
  return {
    exits,
    next: names.includes('next'),
    reasons: [],
    verdicts: names.filter((name) => name !== 'next' && !name.startsWith('exit:')),
    writes: Object.fromEntries(names.map((name): [string, readonly string[]] => [name, []])),
  };
}

/** A stage that stands alone: every way on is a pass. */
function standing({ ways }: StageObject): Placement {
  const labels = [...ways.values()].filter((way) => way.startsWith('exit:')).map((way) => way.slice('exit:'.length));
  return { array: '', next: { verdict: 'pass' }, exits: Object.fromEntries(labels.map((label) => [label, { verdict: 'pass' as const }])) };
}

/** The name of a map in the program: another one where the chain's own maps are called so. */
function ownName(map: string, { array, state }: Placement): string {
  return map === array || map === state?.map ? `object:${map}` : map;
}

function withOwnNames(spec: ProgramSpec, placement: Placement): ProgramSpec {
  return { ...spec, mapReferences: spec.mapReferences.map((reference) => ({ ...reference, map: ownName(reference.map, placement) })) };
}

function mapsOf({ object, uses }: ObjectStage, placement: Placement): ReadonlyMap<string, AnyMap> {
  return new Map(object.spec.mapReferences.map(({ map }) => [ownName(map, placement), uses[map] as AnyMap]));
}

/** Ways out whose jumps do not reach are too many. */
function exits<T>(stage: ObjectStage, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof EncodingError)) throw error;
    throw refusal(stage, 'limit', 'it has too many ways out', {}, error);
  }
}

/** At the line of C, where the program has lines. */
function refusal(
  { name, object }: ObjectStage,
  id: DiagnosticId,
  message: string,
  { pc = 0, hint }: { readonly pc?: number; readonly hint?: string } = {},
  cause?: unknown,
): CompileError {
  const line: LineInfo | undefined = object.spec.lines.findLast((other) => other.pc <= pc);
  const place = line && { file: line.file, line: line.line, column: line.column, text: line.text };
  return new CompileError({ id, stage: name, message, hint, place, length: 1 }, cause);
}
