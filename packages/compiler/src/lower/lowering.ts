/**
 * The state while one program is lowered: the environment of the path that leads to the current block, and joins where
 * paths meet. Knows nothing of the language itself.
 */
import type { Node as SyntaxNode } from 'acorn';
import { CompileError, type DiagnosticId } from '../diagnostic.ts';
import type { HookModel } from '../hook-model.ts';
import { type Block, type CompareOp, createBlock, type MemorySize, type Space, setTerminator, type Value } from '../ir.ts';
import type { MetadataPlace } from '../placement.ts';
import { INT64, intersect, type Range, UINT64, within } from '../range.ts';
import type { Source } from '../source.ts';
import { type CallOptions, Emitter } from './emitter.ts';
import { Fields } from './field.ts';
import { mergeOperands } from './merge.ts';
import type { BigintOperand, Epoch, NumberOperand, Operand, RefOperand, Variable } from './operand.ts';
import type { Environment, Join } from './path.ts';
import { Written } from './written.ts';

/** Largest number of IR nodes before a program is refused. */
const NODE_LIMIT = 60_000;

/** A store into the packet: of the low bytes of `value`. */
export interface PacketStore {
  readonly size: MemorySize;
  readonly base: Value;
  readonly offset: number;
  readonly value: Value;
}

export class Lowering extends Emitter {
  environment: Environment = { values: new Map(), epoch: { call: undefined } };
  source: Source;
  readonly hook: HookModel;
  readonly fields = new Fields();
  readonly written = new Written();
  /** Tail calls, and the metadata that the programs behind them need. */
  readonly handed = new Map<Value, readonly MetadataPlace[]>();
  /** May the program still name a variable? Set by who knows scopes and loops. */
  isLive: (variable: Variable, at: SyntaxNode) => boolean = () => true;
  /** What is to be done before a store into the packet. */
  beforePacketStore: (stored: PacketStore) => void = () => undefined;
  /** What is lowered now. */
  node: SyntaxNode;

  constructor(name: string, source: Source, hook: HookModel) {
    super(name);
    this.source = source;
    this.hook = hook;
    this.node = source.node;
  }

  // --- memory: what a path knows of the packet is forgotten where it may change

  override store(size: MemorySize, space: Space, base: Value, offset: number, value: Value): void {
    if (space === 'packet') this.beforePacketStore({ size, base, offset, value });
    super.store(size, space, base, offset, value);
    this.fields.written(this.environment, space, base, offset, size);
    this.written.stored(this.environment, base, offset, size);
  }

  override call(helper: number, args: Value[], options: CallOptions = {}): Value {
    if (options.movesPacket) this.fields.forget(this.environment);
    return super.call(helper, args, options);
  }

  // --- errors ------------------------------------------------------------------------------------

  fail(node: SyntaxNode, id: DiagnosticId, message: string, hint?: string): never {
    const length = this.source.textOf(node).split('\n')[0]?.length ?? 1;
    throw new CompileError({ id, stage: this.source.stage, message, hint, place: this.source.place(node), length });
  }

  /** Nodes emitted from now on belong to this piece of source. */
  at(node: SyntaxNode): void {
    this.node = node;
    this.place = this.source.place(node);
    if (this.graph.nextId > NODE_LIMIT)
      this.fail(node, 'limit', 'the program grows beyond what the kernel takes', 'shorten loops or split the stage');
  }

  // --- control flow ------------------------------------------------------------------------------

  newJoin(): Join {
    return { block: createBlock(this.graph), incoming: [] };
  }

  /** Ends the current path in a join. */
  jump(join: Join, value?: Operand): void {
    if (!this.block) return;
    setTerminator(this.block, { kind: 'jump', target: join.block, place: this.place });
    join.incoming.push({ from: this.block, environment: this.environment, value });
    this.block = undefined;
  }

  /** Goes on where paths meet; gives the joined value. Without incoming paths, nothing is reachable. */
  enter(join: Join): Operand | undefined {
    const [first, ...rest] = join.incoming;
    if (!first) {
      this.block = undefined;
      return undefined;
    }
    this.block = join.block;
    if (rest.length === 0) {
      this.environment = first.environment;
      return first.value;
    }
    const environments = join.incoming.map((i) => i.environment);
    const epochs = new Set(environments.map((e) => e.epoch));
    const epoch: Epoch = epochs.size === 1 ? first.environment.epoch : { call: [...epochs].findLast((e) => e.call)?.call };
    const values = new Map<Variable, Operand>();
    for (const [variable, operand] of first.environment.values) {
      const all = environments.map((e) => e.values.get(variable));
      if (all.some((o) => o === undefined)) continue;
      if (variable.ofPath && !all.every((o) => sameMachineValue(o as Operand, operand))) continue;
      const merged = all.every((o) => o === operand) ? operand : mergeOperands(this, join, all as Operand[], epoch);
      values.set(variable, merged);
    }
    this.environment = { values, epoch };
    const results = join.incoming.map((i) => i.value);
    if (results.some((r) => r === undefined)) return undefined;
    return results.every((r) => r === results[0]) ? results[0] : mergeOperands(this, join, results as Operand[], epoch);
  }

  /** Splits the path in two; each side goes on with an environment of its own. */
  branch(op: CompareOp, left: Value, right: Value, then: () => void, otherwise: () => void, likely?: 'then' | 'else'): void {
    this.split(
      (yes, no) => ({ kind: 'branch', op, width: 64, left, right, then: yes, else: no, place: this.place, ...(likely ? { likely } : {}) }),
      then,
      otherwise,
    );
  }

  /** Checks that `size` bytes from a packet pointer lie within the packet. */
  check(pointer: Value, size: number, end: Value, ok: () => void, fail: () => void): void {
    this.split((yes, no) => ({ kind: 'check', pointer, size, end, ok: yes, fail: no, place: this.place }), ok, fail);
  }

  private split(terminator: (yes: Block, no: Block) => Block['terminator'], then: () => void, otherwise: () => void): void {
    if (!this.block) return;
    const yes = createBlock(this.graph);
    const no = createBlock(this.graph);
    setTerminator(this.block, terminator(yes, no));
    const before = this.environment;
    this.block = yes;
    this.environment = { values: new Map(before.values), epoch: before.epoch };
    then();
    this.block = no;
    this.environment = before;
    otherwise();
    this.block = undefined;
  }

  return(value: Value): void {
    if (this.block) setTerminator(this.block, { kind: 'return', value, place: this.place });
    this.block = undefined;
  }

  // --- variables and facts -----------------------------------------------------------------------

  read(variable: Variable): Operand | undefined {
    return this.environment.values.get(variable);
  }

  write(variable: Variable, operand: Operand): void {
    this.environment.values.set(variable, operand);
  }

  /** On this path the reference is there. */
  assumePresent(ref: RefOperand): RefOperand {
    for (const [variable, operand] of this.environment.values) {
      if (operand.kind === 'ref' && operand.nullable && operand.base === ref.base) this.write(variable, { ...operand, nullable: false });
    }
    return { ...ref, nullable: false };
  }

  /** On this path the reference is undefined. */
  assumeAbsent(ref: RefOperand): void {
    for (const [variable, operand] of this.environment.values) {
      if (operand.kind === 'ref' && operand.nullable && operand.base === ref.base) this.write(variable, { kind: 'undefined' });
    }
  }

  /** On this path the number lies within a range. */
  assumeRange(number: NumberOperand, within: Range): void {
    for (const [variable, operand] of this.environment.values) {
      if (operand.kind === 'number' && same(operand, number)) this.write(variable, { ...operand, range: intersect(operand.range, within) });
    }
  }

  /** On this path the bigint lies within a range. */
  assumeBigint(bigint: BigintOperand, limits: Range): void {
    for (const [variable, operand] of this.environment.values) {
      if (operand.kind === 'bigint' && sameBigint(operand, bigint))
        this.write(variable, { ...operand, range: intersect(operand.range, limits) });
    }
  }
}

/** Is it the same number or bigint in the same register, whatever each path knows of it? */
function sameMachineValue(a: Operand, b: Operand): boolean {
  if (a.kind === 'number' && b.kind === 'number') return a.exact === b.exact && a.low === b.low;
  return a.kind === 'bigint' && b.kind === 'bigint' && a.value === b.value;
}

/** Equal bits are equal bigints only where both are exact in the same way. */
function sameBigint(a: BigintOperand, b: BigintOperand): boolean {
  return a.value === b.value && [UINT64, INT64].some((all) => within(a.range, all) && within(b.range, all));
}

function same(a: NumberOperand, b: NumberOperand): boolean {
  return (a.exact !== undefined && a.exact === b.exact) || (a.low !== undefined && a.low === b.low);
}
