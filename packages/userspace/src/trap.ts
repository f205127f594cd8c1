/** Traps: what a program did that it must not do, and where. */
import { type LineInfo, type ProgramSpec, TailraceError } from '@tailrace/bpf';
import {
  CONTEXT_SIZE,
  FRAME_LIMIT,
  RECORD_LIMIT,
  TAG_CONTEXT,
  TAG_FUNCTION,
  TAG_KEY,
  TAG_MAP,
  TAG_MAPS,
  TAG_PACKET,
  TAG_RECORD,
  TAG_STACK,
  TRAP_BYTES,
  TRAP_PC,
  TRAP_POINTER,
  TRAP_PROGRAM,
  TRAP_REASON,
  WORKER_TRAP,
} from './layout.ts';

/** Why a program was stopped. Numbers are what TRAP_REASON holds. */
export const TrapReason = {
  /** A load outside of what the pointer may touch. */
  read: 1,
  /** A store there, or where programs read only. */
  write: 2,
  /** An atomic access to an address that is no multiple of its size. */
  alignment: 3,
  /** Too many turns of loops. */
  limit: 4,
  /** A helper was given something else than a map of the kind that it takes. */
  map: 5,
  /** A helper was given something else than the context. */
  context: 6,
  /** A tail call out of a subprogram, to a program whose frames do not fit behind those that are there. */
  depth: 7,
  /** A helper was given something else than a record that is reserved. */
  record: 8,
  /** A spin lock was taken twice, or given back by who does not hold it. */
  lock: 9,
  /** What a CO-RE relocation did not find is used. */
  poison: 10,
} as const;
export type TrapReason = keyof typeof TrapReason;

/** A program was stopped: it did what a verifier would not have let through. The packet is as it left it. */
export class TrapError extends TailraceError {
  readonly reason: TrapReason;
  readonly program: string;
  /** Slot of the instruction. */
  readonly pc: number;
  /** The pointer: its region's tag above, an address below. */
  readonly pointer: bigint;
  /** Bytes that were to be touched. */
  readonly bytes: number;
  /** The line of source, where the program has lines. */
  readonly line: LineInfo | undefined;

  constructor(spec: Pick<ProgramSpec, 'name' | 'lines' | 'poisons'>, trap: Trap) {
    const line = lineAt(spec.lines, trap.pc);
    const where = line ? ` (${line.file}:${line.line}:${line.column})` : '';
    const poison = trap.reason === 'poison' ? spec.poisons?.find(({ pc }) => pc === trap.pc) : undefined;
    super('trap', `program ${spec.name}, pc ${trap.pc}${where}: ${poison?.reason ?? messageOf(trap)}`);
    this.reason = trap.reason;
    this.program = spec.name;
    this.pc = trap.pc;
    this.pointer = trap.pointer;
    this.bytes = trap.bytes;
    this.line = line;
  }
}

/** A trap as data. */
export interface Trap {
  readonly reason: TrapReason;
  readonly pc: number;
  readonly pointer: bigint;
  readonly bytes: number;
}

const REASONS: ReadonlyMap<number, TrapReason> = new Map(Object.entries(TrapReason).map(([name, number]) => [number, name as TrapReason]));

/** What a worker's area says of the trap that stopped it, and the number of the program; undefined where nothing trapped. */
export function readTrap(view: DataView, worker: number): (Trap & { readonly program: number }) | undefined {
  const at = worker + WORKER_TRAP;
  const reason = REASONS.get(view.getUint32(at + TRAP_REASON, true));
  if (reason === undefined) return undefined;
  return {
    reason,
    pc: view.getUint32(at + TRAP_PC, true),
    program: view.getUint32(at + TRAP_PROGRAM, true),
    pointer: view.getBigUint64(at + TRAP_POINTER, true),
    bytes: view.getUint32(at + TRAP_BYTES, true),
  };
}

/** The line that an instruction belongs to. */
export function lineAt(lines: readonly LineInfo[], pc: number): LineInfo | undefined {
  return lines.findLast((line) => line.pc <= pc);
}

function messageOf({ reason, pointer, bytes }: Trap): string {
  const place = regionName(pointer);
  switch (reason) {
    case 'read':
    case 'write':
      return `${reason} of ${bytes} bytes outside ${place}`;
    case 'alignment':
      return `atomic access of ${bytes} bytes at an address that is no multiple of ${bytes}, in ${place}`;
    case 'limit':
      return 'too many turns of loops, expected the program to end';
    case 'map':
      return `a helper takes a map of its kind, got ${place}`;
    case 'context':
      return `a helper takes the context, got ${place}`;
    case 'depth':
      return `a tail call to a program with more frames than are left, of ${FRAME_LIMIT}`;
    case 'poison':
      return 'uses what a CO-RE relocation did not find';
    case 'lock':
      return 'a spin lock is taken while one is held, or given back while it is not';
    case 'record':
      return `a helper takes a record that is reserved, got ${place}`;
  }
}

/** What a pointer points to, in words. */
function regionName(pointer: bigint): string {
  const tag = Number(pointer >> 32n);
  const named = (text: string): string => `${text} (pointer 0x${pointer.toString(16)})`;
  if (tag === 0) return pointer === 0n ? 'a null pointer' : named('anything: a number is no pointer');
  if (tag === TAG_CONTEXT) return named(`the context of ${CONTEXT_SIZE} bytes`);
  if (tag === TAG_PACKET) return named('the packet');
  if (tag >= TAG_STACK && tag < TAG_MAP) return named(`stack frame ${tag - TAG_STACK}`);
  if (tag === TAG_MAP) return named('a map');
  if (tag === TAG_FUNCTION) return named('a function');
  if (tag === TAG_KEY) return named('the key of an entry');
  if (tag >= TAG_RECORD && tag < TAG_RECORD + RECORD_LIMIT) return named('a record');
  return tag >= TAG_MAPS ? named('a value of a map') : named('anything');
}
