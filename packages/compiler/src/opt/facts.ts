/**
 * What branches and bounds checks on the way to a point have established there: conditions that hold on an edge and on
 * all edges that dominate it.
 */
import type { Block, BoundsCheck, Branch, CompareOp, Value } from '../ir.ts';
import type { Dominance } from './dominance.ts';
import { MIRRORED, NEGATED } from './evaluate.ts';
import { decideRanges } from './fold-compare.ts';
import { constantOf } from './fold-operand.ts';
import { between, exactly, type Known, KnownValues } from './known.ts';

/** A branch whose outcome is known. */
interface Comparison extends Pick<Branch, 'op' | 'width' | 'left' | 'right'> {
  readonly holds: boolean;
}

/** A bounds check whose outcome is known. */
interface Checked extends Pick<BoundsCheck, 'pointer' | 'size' | 'end'> {
  readonly ok: boolean;
}

/** Conditions at one point of the graph, by what they are about, the nearest first. */
export interface Facts {
  /** Comparisons with a value on either side; of a constant only those with other constants. */
  comparisons(value: Value): readonly Comparison[];
  /** Bounds checks of a pointer, as `normalise` sees it. */
  checks(base: Value): readonly Checked[];
}

interface Placed<T> {
  /** Where it holds: in this block, and in all that it dominates. */
  readonly block: Block;
  readonly fact: T;
}

/**
 * The facts of a graph as it stands, by the values they are about. A pass that changes terminators on its way `learn`s the
 * blocks itself, in reverse post-order, each when all that dominate it are as they stay.
 */
export class FlowFacts {
  private readonly tree: Dominance;
  private readonly compared = new Map<Value, Placed<Comparison>[]>();
  private readonly checked = new Map<Value, Placed<Checked>[]>();

  constructor(tree: Dominance) {
    this.tree = tree;
  }

  /** Notes what the only edge into a block tells. Returns true where it tells something of values. */
  learn(block: Block): boolean {
    const [from, ...others] = block.predecessors;
    if (!from || others.length > 0) return false;
    const comparison = comparisonOnEdge(from, block);
    for (const value of comparison ? subjects(comparison) : []) note(this.compared, value, { block, fact: comparison as Comparison });
    const check = checkOnEdge(from, block);
    if (check) note(this.checked, normalise(check).base, { block, fact: check });
    return comparison !== undefined;
  }

  /** What holds at the start of a block. */
  at(block: Block): Facts {
    const here = <T>(placed: readonly Placed<T>[] | undefined): T[] =>
      // dominators were learnt from the entry on
      placed?.flatMap((each) => (this.tree.dominates(each.block, block) ? each.fact : [])).reverse() ?? [];
    return { comparisons: (value) => here(this.compared.get(value)), checks: (base) => here(this.checked.get(base)) };
  }

  /** What holds on the edge between two blocks. */
  onEdge(from: Block, to: Block): Facts {
    const before = this.at(from);
    const comparison = comparisonOnEdge(from, to);
    const check = checkOnEdge(from, to);
    const isAbout = (value: Value): boolean => comparison !== undefined && subjects(comparison).includes(value);
    return {
      comparisons: (value) => (comparison && isAbout(value) ? [comparison, ...before.comparisons(value)] : before.comparisons(value)),
      checks: (base) => (check && normalise(check).base === base ? [check, ...before.checks(base)] : before.checks(base)),
    };
  }
}

function note<T>(facts: Map<Value, Placed<T>[]>, value: Value, placed: Placed<T>): void {
  const known = facts.get(value);
  if (known) known.push(placed);
  else facts.set(value, [placed]);
}

/** What a comparison tells something of: of a constant nothing but where both sides are one. */
function subjects({ left, right }: Pick<Comparison, 'left' | 'right'>): Value[] {
  if (left === right) return [left];
  if (right.kind === 'const' && left.kind !== 'const') return [left];
  return left.kind === 'const' && right.kind !== 'const' ? [right] : [left, right];
}

function comparisonOnEdge(from: Block, to: Block): Comparison | undefined {
  const t = from.terminator;
  if (t?.kind !== 'branch' || t.then === t.else) return undefined;
  return { op: t.op, width: t.width, left: t.left, right: t.right, holds: t.then === to };
}

function checkOnEdge(from: Block, to: Block): Checked | undefined {
  const t = from.terminator;
  if (t?.kind !== 'check' || t.ok === t.fail) return undefined;
  return { pointer: t.pointer, size: t.size, end: t.end, ok: t.ok === to };
}

/** Whether a comparison holds under facts; undefined where they do not tell. */
export function decideBranch(t: Pick<Branch, 'op' | 'width' | 'left' | 'right'>, facts: Facts, known: KnownValues): boolean | undefined {
  for (const fact of facts.comparisons(subjects(t)[0] ?? t.left)) {
    const outcome = implied(fact, t);
    if (outcome !== undefined) return outcome;
  }
  const constant = constantOf(t.right);
  if (constant === undefined) return undefined;
  const left = refine(t.left, known.of(t.left), facts);
  if (!left) return undefined;
  const right = exactly(t.width === 32 ? BigInt.asUintN(32, constant) : constant);
  if (t.width === 32 && !(fitsWidth(t.op, left.max) && fitsWidth(t.op, right.max))) return undefined;
  if ((t.op === 'eq' || t.op === 'ne') && isExcluded(t.left, constant, t.width, facts)) return t.op === 'ne';
  return decideRanges(t.op, left, right);
}

/** Whether a bounds check succeeds under facts. */
export function decideCheck(t: Pick<BoundsCheck, 'pointer' | 'size' | 'end'>, facts: Facts): boolean | undefined {
  const asked = normalise(t);
  for (const fact of facts.checks(asked.base)) {
    const done = normalise(fact);
    if (fact.end !== t.end) continue;
    if (fact.ok && done.size >= asked.size) return true;
    if (!fact.ok && done.size <= asked.size) return false;
  }
  return undefined;
}

/** A check seen from the pointer that its own was derived from by adding constants. */
export function normalise(t: Pick<BoundsCheck, 'pointer' | 'size'>): { readonly base: Value; readonly size: bigint } {
  let base = t.pointer;
  let size = BigInt(t.size);
  while (base.kind === 'binary' && base.op === 'add' && base.right.kind === 'const') {
    size += base.right.value;
    base = base.left;
  }
  return { base, size };
}

/** The same comparison, or its opposite, or one with its sides exchanged. */
function implied(fact: Comparison, t: Pick<Branch, 'op' | 'width' | 'left' | 'right'>): boolean | undefined {
  if (fact.width !== t.width) return undefined;
  const isSame = fact.left === t.left && fact.right === t.right;
  const isMirrored = fact.left === t.right && fact.right === t.left;
  if (!isSame && !isMirrored) return undefined;
  const op = isSame ? fact.op : MIRRORED[fact.op];
  if (op === t.op) return fact.holds;
  return op !== 'set' && NEGATED[op] === t.op ? !fact.holds : undefined;
}

/** True where a 32-bit comparison sees what a 64-bit one would. */
function fitsWidth(op: CompareOp, max: bigint): boolean {
  const isSignedOrder = op === 'sgt' || op === 'sge' || op === 'slt' || op === 'sle';
  return max <= (isSignedOrder ? 0x7fff_ffffn : 0xffff_ffffn);
}

function isExcluded(value: Value, constant: bigint, width: 32 | 64, facts: Facts): boolean {
  return facts
    .comparisons(value)
    .some(
      (fact) =>
        fact.left === value &&
        fact.width === width &&
        (fact.op === 'ne' ? fact.holds : fact.op === 'eq' && !fact.holds) &&
        constantOf(fact.right) !== undefined &&
        BigInt.asUintN(width, constantOf(fact.right) ?? 0n) === BigInt.asUintN(width, constant),
    );
}

/** What is known of values under facts, and everywhere. */
export function knownUnder(facts: Facts, everywhere: KnownValues): KnownValues {
  return new KnownValues({ place: { everywhere, refine: (value, known) => refine(value, known, facts) ?? known } });
}

/** The range of a value under facts; undefined where they contradict each other. */
function refine(value: Value, known: Known, facts: Facts): Known | undefined {
  let range: Known | undefined = known;
  for (const fact of facts.comparisons(value)) {
    const isLeft = fact.left === value;
    if (!range) return undefined;
    const other = constantOf(isLeft ? fact.right : fact.left);
    if (other === undefined) continue;
    const constant = fact.width === 32 ? BigInt.asUintN(32, other) : other;
    const op: CompareOp = isLeft ? fact.op : MIRRORED[fact.op];
    if (fact.width === 32 && !(fitsWidth(op, range.max) && fitsWidth(op, constant))) continue;
    if (op === 'set') range = withoutBits(range, constant, fact.holds);
    else range = restrict(range, fact.holds ? op : NEGATED[op], constant);
  }
  return range;
}

function withoutBits(range: Known, constant: bigint, holds: boolean): Known | undefined {
  return holds ? range : between({ ...range, bits: range.bits & ~BigInt.asUintN(64, constant) });
}

/** A range under `value op constant`. */
function restrict(range: Known, op: CompareOp, constant: bigint): Known | undefined {
  const u = BigInt.asUintN(64, constant);
  switch (op) {
    case 'set':
      return range;
    case 'eq':
      return between({ ...range, min: u, max: u, smin: constant, smax: constant });
    case 'ne':
      return between({ ...range, min: range.min === u ? u + 1n : range.min, max: range.max === u ? u - 1n : range.max });
    case 'gt':
      return between({ ...range, min: range.min > u ? range.min : u + 1n });
    case 'ge':
      return between({ ...range, min: range.min > u ? range.min : u });
    case 'lt':
      return between({ ...range, max: range.max < u ? range.max : u - 1n });
    case 'le':
      return between({ ...range, max: range.max < u ? range.max : u });
    case 'sgt':
      return between({ ...range, smin: range.smin > constant ? range.smin : constant + 1n });
    case 'sge':
      return between({ ...range, smin: range.smin > constant ? range.smin : constant });
    case 'slt':
      return between({ ...range, smax: range.smax < constant ? range.smax : constant - 1n });
    case 'sle':
      return between({ ...range, smax: range.smax < constant ? range.smax : constant });
  }
}
