/**
 * Stages out of ELF objects: a program that clang made stands in a chain like any other. What its return values mean, beside
 * the kernel's verdicts, is said here; its maps are object-uses.ts. The compiler grafts the ways out of a chain onto it.
 */
import { ArgumentError, type ElfObject, type ObjectProgram, type ProgramSpec, readElf } from '@tailrace/bpf';
import { type Hook, type VerdictNames, verdictNames } from './hook.ts';
import type { StageObject } from './member.ts';
import { ObjectUses, type UsesOfObject } from './object-uses.ts';
import type { Empty } from './resource.ts';
import type { Stage } from './stage.ts';
import { checkHook, checkStageName, stageOf } from './stage-value.ts';
import type { Plain } from './traits.ts';
import { checkUses } from './uses.ts';

/** Hooks that programs of objects can stand at. */
export type ObjectHook = 'xdp' | 'tc' | 'tcIngress' | 'tcEgress';

/** Return values of a program, each a signed or unsigned number of 32 bits. */
export type ReturnValues = number | readonly number[];

/**
 * Declares a stage whose program is C, compiled by `clang -target bpf`, or whatever else is in an ELF object.
 * Throws ElfError for bytes that are no object, UnsupportedError for a program that does not run here, ConflictError for a map that
 * is not what the program was compiled for, ArgumentError for everything else that no pipeline can take.
 */
export function objectStage<
  const N extends string,
  H extends ObjectHook,
  const X extends string = never,
  U extends UsesOfObject = Empty,
>(definition: {
  /** As of `stage`. */
  readonly name: N;
  readonly hook: H;
  /**
   * Its bytes, or what `readElf` made of them. Stages of one ElfObject share those of its maps that they do not bind; bytes are
   * an object of their own each time.
   */
  readonly object: Uint8Array | ElfObject;
  /** The program's function, or its section where that holds one program; may be left out where the object has one for the hook. */
  readonly program?: string;
  /**
   * Maps of the object that are bound to declarations, by their names there: other stages and the control plane see the same map.
   * Kind, sizes, entries and flags must agree. Numbers, bigints and booleans are values of constants (`const volatile`).
   */
  readonly uses?: U;
  /**
   * What the program returns where the next stage is to have the packet: a verdict's name, or other numbers. `pass` unless said
   * otherwise: a program that knows nothing of chains lets packets go on. `never`: every verdict is the packet's last.
   */
  readonly next?: VerdictNames[H] | 'never' | ReturnValues;
  /** What it returns to leave through an exit, by label. */
  readonly exits?: { readonly [L in X]: ReturnValues };
  /** As of `stage`. */
  readonly onMiss?: 'pass' | 'drop';
}): Stage<N, H, X, Plain, U> {
  const { name, hook, object, onMiss = 'pass', next = 'pass', exits = {}, uses = {} } = definition;
  checkStageName(name);
  const owner = `stage '${name}'`;
  checkHook(owner, hook);
  programTypeOf(owner, hook);
  if (onMiss !== 'pass' && onMiss !== 'drop') throw new ArgumentError(`${owner}: onMiss is '${String(onMiss)}', expected 'pass' or 'drop'`);
  const elf = object instanceof Uint8Array ? readElf(object, { externMaps: true }) : object;
  if (!isElf(elf)) throw new ArgumentError(`${owner}: object is no ELF object, expected its bytes or what readElf gives`);
  const program = chosenProgram(owner, elf, hook, definition.program).spec();
  const source = new ObjectSource(program, waysOf(owner, hook, next, exits), new ObjectUses(elf, program, name));
  source.checkHook(owner, hook);
  return stageOf({
    name,
    hook,
    onMiss,
    program: () => {
      throw new ArgumentError(`${owner} is program ${program.name} of an object, which only engines can run`);
    },
    object: source,
    uses: Object.freeze(source.complete(owner, checkUses(owner, uses))),
    reads: Object.freeze({}),
    writes: Object.freeze({}),
    wiring: Object.freeze({}),
  }) as unknown as Stage<N, H, X, Plain, U>;
}

/** The program of a stage, with what its return values mean. */
class ObjectSource implements StageObject {
  readonly spec: ProgramSpec;
  readonly ways: ReadonlyMap<number, string>;
  readonly next: string | undefined;
  readonly #uses: ObjectUses;

  constructor(spec: ProgramSpec, { ways, next }: Ways, uses: ObjectUses) {
    this.spec = spec;
    this.ways = ways;
    this.next = next;
    this.#uses = uses;
  }

  checkHook(owner: string, hook: Hook): void {
    const { name, type } = this.spec;
    if (type !== programTypeOf(owner, hook))
      throw new ArgumentError(`${owner}: program ${name} is of type ${type}, which hook '${hook}' does not run`);
  }

  complete(owner: string, bound: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
    return this.#uses.complete(owner, bound);
  }
}

interface Ways {
  readonly ways: ReadonlyMap<number, string>;
  readonly next: string | undefined;
}

function waysOf(
  owner: string,
  hook: ObjectHook,
  next: VerdictNames[ObjectHook] | 'never' | ReturnValues,
  exits: Readonly<Record<string, ReturnValues>>,
): Ways {
  const ways = new Map<number, string>();
  const add = (values: ReturnValues, way: string) => {
    const list = typeof values === 'number' ? [values] : values;
    if (list.length === 0) throw new ArgumentError(`${owner}: ${way} has no return value, expected at least one`);
    for (const value of list) {
      if (!Number.isInteger(value) || value < -0x8000_0000 || value > 0xffff_ffff)
        throw new ArgumentError(`${owner}: ${way} is return value ${String(value)}, expected an integer of 32 bits`);
      const known = ways.get(value >>> 0);
      if (known !== undefined) throw new ArgumentError(`${owner}: return value ${value} is ${known} and ${way}, expected one of them`);
      ways.set(value >>> 0, way);
    }
  };
  for (const [label, values] of Object.entries(exits)) add(values, `exit:${label}`);
  if (typeof next !== 'string') add(next, 'next');
  else if (next !== 'never' && !verdictNames[hook].some((verdict) => verdict === next))
    throw new ArgumentError(`${owner}: next is '${next}', expected ${verdictNames[hook].join(', ')}, never or return values`);
  return { ways, next: typeof next === 'string' && next !== 'never' ? next : undefined };
}

/** Throws ArgumentError for hooks that objects have no programs for. */
function programTypeOf(owner: string, hook: Hook): ProgramSpec['type'] {
  if (hook === 'xdp') return 'xdp';
  if (hook === 'tc' || hook === 'tcIngress' || hook === 'tcEgress') return 'schedCls';
  throw new ArgumentError(`${owner}: hook is '${hook}', expected xdp, tc, tcIngress or tcEgress`);
}

/** By function, by section, or the only one there is for the hook. */
function chosenProgram(owner: string, { programs }: ElfObject, hook: Hook, wanted: string | undefined): ObjectProgram {
  const all = [...programs.values()];
  const found = wanted === undefined ? all.filter((program) => fits(program, hook)) : all.filter(({ section }) => section === wanted);
  const named = wanted === undefined ? undefined : programs.get(wanted);
  const [only, ...others] = named ? [named] : found;
  if (only && others.length === 0) return only;
  const what = wanted === undefined ? `programs for hook '${hook}'` : `programs '${wanted}'`;
  const has = all.map(({ name, section }) => `${name} (${section})`).join(', ') || 'none';
  throw new ArgumentError(`${owner}: the object has ${only ? found.length : 'no'} ${what}, expected one`, { hint: `it has ${has}` });
}

/** Whether a program's section is one for the hook; those that Tailrace does not run fit nowhere. */
function fits({ section, hook: own }: ObjectProgram, hook: Hook): boolean {
  const isTc = /^\??(tcx?|classifier)([/_]|$)/.test(section);
  if (hook === 'xdp') return own === 'xdp';
  return isTc && (own === undefined || hook === 'tc' || own === hook);
}

function isElf(value: unknown): value is ElfObject {
  return typeof value === 'object' && value !== null && 'programs' in value && 'maps' in value && value.programs instanceof Map;
}
