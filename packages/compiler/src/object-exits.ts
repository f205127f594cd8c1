/**
 * The ways out of a foreign program, as lower/verdict.ts makes them for stages in TypeScript: its return value is looked at, the
 * packet counted, and then it follows an edge or gets its verdict.
 */
import { ArgumentError, Helper, insn, reg } from '@tailrace/bpf';
import type { StageObject } from '@tailrace/stage';
import { CodeWriter, type Label, label } from './code-writer.ts';
import { type HookModel, SK_BUFF, XDP_MD } from './hook-model.ts';
import { alignment, chunk } from './lower/access.ts';
import { crossingSize, unusedBytes } from './lower/crossing.ts';
import type { ContextHome, GraftedCode } from './object-graft.ts';
import { writeDrop, writeTrace } from './object-observe.ts';
import { type Crossing, counterNames, type Edge, type Placement } from './placement.ts';

/** What ways out are made of. */
export interface ExitOptions {
  readonly object: StageObject;
  readonly hook: HookModel;
  readonly placement: Placement;
  readonly onMiss: 'pass' | 'drop';
  /** Whether the program moves the packet's ends. */
  readonly resizes: boolean;
}

/** What return values come to: outcomes by the names of their counters. */
export interface ReturnMeaning {
  /** By value, as an unsigned number of 32 bits. */
  readonly cases: ReadonlyMap<number, string>;
  /** Of all other values. */
  readonly otherwise: string;
}

/**
 * What a program's return values mean. Values that are no verdict end as the kernel has it: at XDP they are errors
 * (bpf_warn_invalid_xdp_action), at TC the packet goes on (tcx_action_code; include/net/tcx.h).
 */
export function returnMeaning({ ways, next }: StageObject, hook: HookModel): ReturnMeaning {
  const meaning = (verdict: string): string => (verdict === next ? 'next' : verdict);
  const cases = new Map(Object.entries(hook.verdicts).map(([verdict, number]) => [number >>> 0, meaning(verdict)]));
  for (const [value, way] of ways) cases.set(value, way);
  return { cases, otherwise: meaning(hook.kind === 'xdp' ? 'abort' : 'pass') };
}

/** Whether the ways out need the program's context. */
export function needsContext({ hook, placement, resizes }: ExitOptions): boolean {
  const { state, observe, crossing, next, exits } = placement;
  if (crossing || observe || [next, ...Object.values(exits)].some((edge) => 'slot' in edge)) return true;
  const counts = state?.counters !== undefined;
  if (hook.kind === 'tc') return counts;
  return (resizes && state?.length !== undefined) || (counts && state?.length === undefined);
}

/** Writes the ways out. `home` is where the context is, if they need it. */
export function exitCode(options: ExitOptions, home: ContextHome | undefined): GraftedCode {
  return new ExitWriter(options).write(home);
}

function verdictNumber(hook: HookModel, verdict: string): number {
  const number = hook.verdicts[verdict];
  if (number === undefined) throw new ArgumentError(`an edge leads to '${verdict}', which is no verdict of ${hook.kind}`);
  return number;
}

/** RETURNED and SEGMENTS are free once a way out is found and counted. */
const [CONTEXT, RETURNED, STATE, SEGMENTS, FRAME_POINTER] = [6, 7, 8, 9, 10];

class ExitWriter {
  readonly #options: ExitOptions;
  readonly #code = new CodeWriter();
  readonly #names: readonly string[];
  readonly #lost = label();
  readonly #crossing = label();
  #crosses = false;

  constructor(options: ExitOptions) {
    this.#options = options;
    // an object gives no reasons
    this.#names = counterNames(options.hook.kind, Object.keys(options.placement.exits));
  }

  write(home: ContextHome | undefined): GraftedCode {
    const code = this.#code;
    if (home && 'offset' in home) code.push(insn.load(8, CONTEXT, FRAME_POINTER, home.offset));
    else if (home && home.register !== CONTEXT) code.push(insn.mov(CONTEXT, reg(home.register)));
    code.push(insn.mov32(RETURNED, reg(0)));
    const hasState = this.#needsState();
    if (hasState) this.#lookUpState();
    this.#countBytes();
    this.#dispatch();
    if (this.#crosses) this.#cross();
    if (hasState) {
      code.place(this.#lost);
      this.#return(this.#options.hook.lost);
    }
    return code.finish();
  }

  #needsState(): boolean {
    const { placement, resizes } = this.#options;
    const { state, crossing, observe } = placement;
    return (
      state !== undefined &&
      (observe !== undefined || state.counters !== undefined || crossing !== undefined || (resizes && state.length !== undefined))
    );
  }

  /** The frame is the program's no more: its bytes are free. */
  #lookUpState(): void {
    const code = this.#code;
    code.push(insn.storeImm(4, FRAME_POINTER, -4, 0), insn.mov(2, reg(FRAME_POINTER)), insn.alu64('add', 2, -4));
    code.map(1, this.#options.placement.state?.map ?? '');
    code.push(insn.call(Helper.map_lookup_elem));
    code.jump('eq', 0, 0, this.#lost);
    code.push(insn.mov(STATE, reg(0)));
  }

  #countBytes(): void {
    const { hook, placement, resizes } = this.#options;
    const { state } = placement;
    if (!state) return;
    const code = this.#code;
    const counts = state.counters !== undefined;
    if (hook.kind === 'tc') {
      if (!counts) return;
      code.push(insn.load(4, 0, CONTEXT, SK_BUFF.len));
      this.#add('bytes', 0);
      // as state.ts has it: 0 segments are one
      code.push(insn.load(4, SEGMENTS, CONTEXT, SK_BUFF.gsoSegments), insn.mov(1, reg(SEGMENTS)), insn.alu64('sub', 1, 1));
      code.push(insn.alu64('rsh', 1, 63), insn.alu64('or', SEGMENTS, reg(1)));
      return;
    }
    if (resizes || state.length === undefined) {
      if (!counts && state.length === undefined) return;
      code.push(insn.mov(1, reg(CONTEXT)), insn.call(Helper.xdp_get_buff_len));
      if (state.length !== undefined) code.push(insn.store(8, STATE, state.length, 0));
    } else if (counts) code.push(insn.load(8, 0, STATE, state.length));
    if (counts) this.#add('bytes', 0);
  }

  /** Adds to a counter: a register, or 1. */
  #add(name: string, register?: number): void {
    const counters = this.#options.placement.state?.counters;
    if (counters === undefined) return;
    const offset = counters + 8 * this.#names.indexOf(name);
    this.#code.push(insn.load(8, 1, STATE, offset), insn.alu64('add', 1, register === undefined ? 1 : reg(register)));
    this.#code.push(insn.store(8, STATE, offset, 1));
  }

  #dispatch(): void {
    const { object, hook } = this.#options;
    const { cases, otherwise } = returnMeaning(object, hook);
    const labels = new Map<string, Label>();
    // most packets go on
    const sorted = [...cases].sort(([, a], [, b]) => Number(b === 'next') - Number(a === 'next'));
    for (const [value, outcome] of sorted) {
      if (outcome === otherwise) continue;
      const to = labels.get(outcome) ?? label();
      labels.set(outcome, to);
      this.#code.jump32('eq', RETURNED, value | 0, to);
    }
    this.#leave(otherwise);
    for (const [outcome, at] of labels) {
      this.#code.place(at);
      this.#leave(outcome);
    }
  }

  #leave(outcome: string): void {
    const { hook, placement } = this.#options;
    this.#add(outcome, hook.kind === 'tc' ? SEGMENTS : undefined);
    if (outcome === 'next') this.#follow(outcome, placement.next);
    else if (outcome.startsWith('exit:')) this.#follow(outcome, placement.exits[outcome.slice('exit:'.length)] ?? { verdict: 'pass' });
    else this.#end(outcome, outcome);
  }

  #follow(outcome: string, edge: Edge): void {
    if ('part' in edge) throw new ArgumentError(`an edge leads to '${edge.part}' of the same program, and an object's is whole`);
    if ('verdict' in edge) return this.#end(outcome, edge.verdict);
    const code = this.#code;
    this.#tell(outcome);
    code.push(insn.mov(1, reg(CONTEXT)));
    code.map(2, this.#options.placement.array);
    code.push(insn.mov(3, edge.slot), insn.call(Helper.tail_call));
    this.#add('misses');
    this.#end('misses', this.#options.onMiss);
  }

  #end(outcome: string, verdict: string): void {
    const { hook, placement } = this.#options;
    this.#tell(outcome, verdict);
    if (verdict === 'pass' && placement.crossing) {
      this.#crosses = true;
      return this.#code.goto(this.#crossing);
    }
    this.#return(verdictNumber(hook, verdict));
  }

  /** As `Exits` has it in lower/verdict.ts. */
  #tell(outcome: string, verdict?: string): void {
    const { hook, placement } = this.#options;
    if (!placement.observe) return;
    const number = verdict === undefined ? undefined : verdictNumber(hook, verdict);
    const parts = { hook, state: placement.state, registers: { context: CONTEXT, state: STATE, record: RETURNED, size: SEGMENTS } };
    const way = { outcome: this.#names.indexOf(outcome), verdict: number };
    writeTrace(this.#code, parts, placement.observe, way);
    if (verdict === 'drop' || verdict === 'abort') writeDrop(this.#code, parts, placement.observe, way);
  }

  #return(number: number): void {
    this.#code.push(insn.mov(0, number), insn.exit());
  }

  /** As lower/crossing.ts. */
  #cross(): void {
    const { hook, placement } = this.#options;
    const crossing = placement.crossing as Crossing;
    const code = this.#code;
    const size = crossingSize(crossing);
    const [done, start] = [label(), RETURNED];
    code.place(this.#crossing);
    code.push(insn.mov(1, reg(CONTEXT)), insn.mov(2, -size), insn.call(Helper.xdp_adjust_meta));
    code.jump('ne', 0, 0, done);
    code.push(insn.load(4, start, CONTEXT, XDP_MD.dataMeta), insn.load(4, 1, CONTEXT, XDP_MD.data));
    code.push(insn.mov(2, reg(start)), insn.alu64('add', 2, size));
    code.jump('gt', 2, reg(1), done);
    code.push(insn.storeImm(4, start, 0, crossing.tag | 0));
    for (const { from, to, size: bytes } of crossing.fields)
      for (let at = 0; at < bytes; ) {
        const part = chunk(Math.min(bytes - at, alignment(from + at), alignment(to + at)));
        code.push(insn.load(part, 1, STATE, from + at), insn.store(part, start, 4 + to + at, 1));
        at += part;
      }
    for (const at of unusedBytes(crossing)) code.push(insn.storeImm(1, start, 4 + at, 0));
    code.place(done);
    this.#return(hook.verdicts.pass as number);
  }
}
