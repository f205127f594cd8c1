/**
 * Where among the TC programs of an interface a new one stands, and the error for a place that cannot be had. The same
 * words serve TCX, where the kernel keeps the order, and clsact, where priorities do.
 */
import { ArgumentError, type AttachHook, TailraceError } from '@tailrace/bpf';

/** The hooks of TC. */
export type TcHook = Exclude<AttachHook, 'xdp'>;

/** A place among the TC programs of an interface; programs are named by their id in the kernel. */
export type TcOrder = 'first' | 'last' | { readonly before: number } | { readonly after: number };

/** A TC program on an interface. */
export interface AttachedTc {
  /** The kernel's id of the program; 0 for a clsact filter that is no eBPF program. */
  readonly programId: number;
  /** The program's or the filter's name; empty where it has none or may not be asked. */
  readonly name: string;
}

/** One hook of an interface. */
export interface TcTarget {
  readonly index: number;
  readonly name: string;
  readonly hook: TcHook;
}

/** A program to attach: an open fd, its id and its full name. */
export interface TcProgram {
  readonly fd: number;
  readonly id: number;
  readonly name: string;
}

/** The place that was asked for on an interface cannot be had. */
export class TcOrderError extends TailraceError {
  readonly interface: string;
  readonly hook: TcHook;
  /** What is there, in the order in which it runs. */
  readonly programs: readonly AttachedTc[];

  constructor({ name, hook }: TcTarget, problem: string, programs: readonly AttachedTc[], remedy?: string) {
    const list = programs.map((program) => (program.name === '' ? `${program.programId}` : `${program.programId} (${program.name})`));
    const there = list.length === 0 ? 'nothing is there now' : `there now, in order: ${list.join(', ')}`;
    super('conflict', `${hook} of interface ${name} ${problem}`, { hint: remedy === undefined ? there : `${remedy}; ${there}` });
    this.interface = name;
    this.hook = hook;
    this.programs = programs;
  }
}

/** The program is on this hook of the interface already; each goes there once. */
export class AlreadyAttachedError extends TailraceError {
  readonly interface: string;
  readonly programId: number;

  constructor(program: TcProgram, { name, hook }: TcTarget) {
    super('conflict', `program ${program.name} (id ${program.id}) is on ${hook} of interface ${name} already`, {
      hint: 'detach it first, or load it a second time',
    });
    this.interface = name;
    this.programId = program.id;
  }
}

/** Throws ArgumentError for an order that names no program id. */
export function checkOrder(order: TcOrder): void {
  if (typeof order === 'string') return;
  const id = 'before' in order ? order.before : order.after;
  if (Number.isInteger(id) && id > 0 && id <= 0xffff_ffff) return;
  throw new ArgumentError(`tc.order takes the id of a program, got ${id}`, { hint: 'bpftool prog list and bpftool net show ids' });
}

/** The problem in words where a program to stand beside is not there. */
export function missing(order: Exclude<TcOrder, string>): string {
  return `has no program with id ${'before' in order ? order.before : order.after} to stand ${'before' in order ? 'before' : 'after'}`;
}
