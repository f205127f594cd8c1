/**
 * What the verifier has against a program, as data: its message, the instruction, the source line, and what the
 * registers of that instruction held. The log (kernel/bpf/verifier.c and log.c, level 2) reads so:
 *
 *     ; const word = ip.saddr; @ acl.ts:12          a source mark
 *     7: (61) r2 = *(u32 *)(r1 +26)    ; R1=pkt(r=14) R2_w=scalar()    an instruction, and registers it changed
 *     from 3 to 9: R0=0 R10=fp0        all registers, where another path begins
 *     invalid access to packet, off=26 size=4, R1(id=0,off=26,r=14)    the message
 *     processed 8 insns (limit 1000000) ...
 */
import { type LineInfo, type ProgramSpec, TailraceError } from '@tailrace/bpf';

/** Where in the source a rejected instruction comes from. */
export interface SourceLine {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1; 1 where only the log's own mark was there to go by. */
  readonly column: number;
  /** The line's text. */
  readonly text: string;
}

/** A register, and what the verifier knew of it before the instruction. */
export interface RegisterState {
  /** `R0` to `R10`. */
  readonly name: string;
  /** In the verifier's words, e.g. `pkt(off=14,r=14)` or `scalar(umax=255)`; `not readable` for one never written. */
  readonly state: string;
}

/** What VerifierError carries. */
export interface Rejection {
  readonly program: string;
  /** The verifier's message as the kernel wrote it; two lines of it are joined by `; `. */
  readonly reason: string;
  /** Instruction slot, undefined where the program was rejected as a whole. */
  readonly pc?: number | undefined;
  /** The instruction in the kernel's syntax. */
  readonly instruction?: string | undefined;
  readonly source?: SourceLine | undefined;
  /** Registers that the instruction reads or the message names. */
  readonly registers: readonly RegisterState[];
  /** The log; its last 16 MiB where it is longer. */
  readonly log: string;
}

/** The kernel's verifier rejected a program. */
export class VerifierError extends TailraceError implements Rejection {
  readonly program: string;
  readonly reason: string;
  readonly pc: number | undefined;
  readonly instruction: string | undefined;
  readonly source: SourceLine | undefined;
  readonly registers: readonly RegisterState[];
  readonly log!: string;

  constructor(rejection: Rejection, cause?: unknown) {
    const { source } = rejection;
    const place = source ? ` at ${source.file}:${source.line}:${source.column}` : '';
    const pc = rejection.pc === undefined ? '' : ` (pc ${rejection.pc})`;
    super('verifier', `verifier rejected ${rejection.program}${place}${pc}: ${rejection.reason}`, {
      cause,
      hint: 'formatVerifierError shows the line and the registers',
    });
    this.program = rejection.program;
    this.reason = rejection.reason;
    this.pc = rejection.pc;
    this.instruction = rejection.instruction;
    this.source = source;
    this.registers = rejection.registers;
    // Hidden from console.log and util.inspect: it can have a million lines.
    Object.defineProperty(this, 'log', { value: rejection.log, enumerable: false });
  }
}

/**
 * Makes the error for a program from the verifier's log. `cause` is the failed system call. Where a path reaches an
 * instruction that could not be relocated, why it could not is the reason.
 */
export function verifierError(spec: ProgramSpec, log: string, cause?: unknown): VerifierError {
  const reading = readLog(log, spec.lines);
  const poison = spec.poisons?.find(({ pc }) => pc === reading.pc);
  return new VerifierError({ program: spec.name, log, ...reading, ...(poison ? { reason: poison.reason } : {}) }, cause);
}

/** True where a log goes up to the verifier's summary, so that it holds the reason. */
export function logIsWhole(log: string): boolean {
  return /^processed \d+ insns/m.test(log.slice(-1000));
}

/**
 * The error for people: message, place with the source line and a caret, the instruction, its registers, and what it
 * is caused by. The full log follows only if asked for.
 */
export function formatVerifierError(error: VerifierError, options: { readonly log?: boolean } = {}): string {
  const lines = [`verifier rejected ${error.program}: ${error.reason}`];
  const { source } = error;
  if (source) {
    const number = String(source.line);
    const margin = ' '.repeat(number.length);
    // Tabs stay tabs, so that the caret stands under its column.
    const lead = source.text.slice(0, source.column - 1).replace(/[^\t]/g, ' ');
    lines.push(
      `${margin} --> ${source.file}:${source.line}:${source.column}`,
      `${margin} |`,
      `${number} | ${source.text}`,
      `${margin} | ${lead}^`,
    );
  }
  if (error.instruction !== undefined) lines.push(`  instruction ${error.pc}: ${error.instruction}`);
  for (const { name, state } of error.registers) lines.push(`  ${name} = ${state}`);
  if (error.cause instanceof TailraceError) lines.push(`  caused by: ${error.cause.message}`);
  if (options.log) lines.push('  verifier log:', error.log.trimEnd().replace(/^/gm, '    '));
  return lines.join('\n');
}

const instructionLine = /^(\d+): \(([0-9a-f]{2})\) (.*)$/;
const stateLine = /^(?:from \d+ to )?(\d+):(?: safe$| frame\d+:)?((?: (?:R\d+|fp-\d+)(?:_[rwDP]+)?=.*)?)$/;
const sourceMark = /^; (.*) @ (.*):(\d+)$/;
const noise =
  /^(?:processed \d+ insns|verification time|stack depth|peak_states|func#\d+ @|mark_precise:|last_idx|first_idx|regs=|parent |returning from callee|caller:|to caller at|Live regs before insn|\s*\d+: [.0-9]{11} |arg#|Validating |Func#\d+ is safe|from \d+ to \d+: safe|\s*$)/;

interface Reading {
  readonly reason: string;
  readonly pc: number | undefined;
  readonly instruction: string | undefined;
  readonly source: SourceLine | undefined;
  readonly registers: readonly RegisterState[];
}

/** Follows the log to its end; the message is the last line that is none of the log's own forms. */
function readLog(log: string, lines: readonly LineInfo[]): Reading {
  let state = new Map<string, string>();
  let before: ReadonlyMap<string, string> = state;
  let pc: number | undefined;
  let instruction: string | undefined;
  let mark: SourceLine | undefined;
  let messages: string[] = [];
  for (const line of log.split('\n')) {
    const source = sourceMark.exec(line);
    if (source) {
      mark = { text: source[1] ?? '', file: source[2] ?? '', line: Number(source[3]), column: 1 };
      continue;
    }
    const step = instructionLine.exec(line);
    if (step) {
      const [, slot, , rest = ''] = step;
      const comment = rest.search(/\s+; (?:R\d|fp-|frame\d)/);
      before = new Map(state);
      pc = Number(slot);
      instruction = (comment < 0 ? rest : rest.slice(0, comment)).trimEnd();
      messages = [];
      if (comment >= 0) for (const [name, value] of readState(rest.slice(comment))) state.set(name, value);
      continue;
    }
    const path = stateLine.exec(line);
    if (path) {
      state = new Map(readState(path[2] ?? ''));
      continue;
    }
    if (!noise.test(line)) messages.push(line.trim());
  }
  const reason = messages.slice(-2).join('; ') || 'the log gives no reason';
  // Messages about the whole program come before the first instruction was walked, and name their place themselves.
  const place = pc ?? placeIn(reason);
  return {
    reason,
    pc: place,
    instruction,
    source: (place === undefined ? undefined : lineAt(lines, place)) ?? mark,
    registers: relevant(before, instruction ?? '', reason),
  };
}

/** `unreachable insn 3`, `jump out of range from insn 4 to 9`, `back-edge from insn 5 to 2`. */
function placeIn(reason: string): number | undefined {
  const match = /\binsn (\d+)/.exec(reason);
  return match ? Number(match[1]) : undefined;
}

function lineAt(lines: readonly LineInfo[], pc: number): SourceLine | undefined {
  const line = lines.findLast((candidate) => candidate.pc <= pc);
  return line && { file: line.file, line: line.line, column: line.column, text: line.text };
}

/** Splits `R1_w=pkt(off=14, r=14) R2=1` at spaces outside of brackets. */
function* readState(text: string): Generator<[name: string, state: string]> {
  const start = /(?:^|\s)(R\d+|fp-\d+)(?:_[a-zA-Z]+)?=/g;
  for (let match = start.exec(text); match; match = start.exec(text)) {
    const from = start.lastIndex;
    let depth = 0;
    let end = from;
    for (; end < text.length; end += 1) {
      const character = text[end];
      if (character === '(' || character === '[' || character === '{') depth += 1;
      else if (character === ')' || character === ']' || character === '}') depth -= 1;
      else if (character === ' ' && depth <= 0) break;
    }
    yield [match[1] ?? '', text.slice(from, end)];
    start.lastIndex = end;
  }
}

function relevant(state: ReadonlyMap<string, string>, instruction: string, reason: string): RegisterState[] {
  const names = new Set<string>();
  // What is only written does not matter.
  const read = instruction.replace(/^[rw]\d+ = /, '');
  for (const [, number] of read.matchAll(/\b[rw](10|\d)\b/g)) names.add(`R${number}`);
  for (const [, number] of reason.matchAll(/\bR(10|\d)\b/g)) names.add(`R${number}`);
  // A helper takes its arguments in R1 to R5.
  const helper = /^call (?!pc)/.test(instruction);
  if (helper) for (const name of ['R1', 'R2', 'R3', 'R4', 'R5']) if (state.has(name)) names.add(name);
  return [...names].sort((a, b) => Number(a.slice(1)) - Number(b.slice(1))).map((name) => ({ name, state: stateOf(name, state, reason) }));
}

/** A packet bound learnt in a branch is not logged for every register; the message's own `R2(id=0,off=26,r=14)` has it. */
function stateOf(name: string, state: ReadonlyMap<string, string>, reason: string): string {
  const known = state.get(name) ?? 'not readable';
  const told = new RegExp(`\\b${name}\\((id=[^)]*)\\)`).exec(reason)?.[1];
  const kind = /^[a-z_]+(?=\()/.exec(known)?.[0];
  return told !== undefined && kind !== undefined ? `${kind}(${told})` : known;
}
