/**
 * References into a packet whose bytes stay what they are while the kernel puts them elsewhere: pulling them together,
 * replacing a checksum, cloning. The verifier then forgets every pointer; all that a path holds are made anew from their
 * distance to the packet's first byte, and the program does not see that anything happened.
 */
import type { Value } from '../ir.ts';
import { min, range } from '../range.ts';
import { current, fact, forget, isFact } from './fact.ts';
import { distanceOf, MAX_PACKET_OFFSET, packetEnd, packetStart, replaceBy } from './linear.ts';
import type { Lowering } from './lowering.ts';
import type { NumberOperand, Operand, RefOperand, Variable } from './operand.ts';
import { exact } from './scalar.ts';

/** As far as a pointer can be from the packet's first byte. */
const MAX_DISTANCE = BigInt(MAX_PACKET_OFFSET);
/** Stands for the distance of a reference that is undefined. */
const ABSENT = MAX_PACKET_OFFSET + 1;

/** A pointer that references of the path share. */
interface Shared {
  readonly base: Value;
  readonly refs: readonly { readonly variable: Variable; readonly ref: RefOperand }[];
  readonly distance: NumberOperand;
  readonly isNullable: boolean;
}

/** Makes a call after which no pointer into the packet holds, and makes those of the path again. */
export function keepingReferences(lowering: Lowering, call: () => Value): Value {
  const shared = livePointers(lowering).map((pointer): Shared => {
    const isNullable = pointer.refs.some(({ ref }) => ref.nullable);
    return { ...pointer, isNullable, distance: distance(lowering, pointer.base, isNullable) };
  });
  const result = call();
  forget(lowering, ['packet:data', 'packet:end']);
  packetStart(lowering);
  packetEnd(lowering);
  for (const pointer of shared) restore(lowering, pointer);
  return result;
}

/** An operand, and what `next` gives, whatever that does to the operand's pointer. */
export function keeping<O extends Operand, T>(lowering: Lowering, operand: O, next: () => T): readonly [O, T] {
  const take = stow(lowering, operand);
  const result = next();
  return [take() as O, result];
}

/** Puts references among the variables of the path; gives what takes them out again. */
function stow(lowering: Lowering, operand: Operand): () => Operand {
  if (operand.kind === 'list') {
    const items = operand.items.map((item) => stow(lowering, item));
    return () => ({ ...operand, items: items.map((take) => take()) });
  }
  if (operand.kind !== 'ref' || operand.space !== 'packet') return () => operand;
  const variable: Variable = { name: '(kept)', constant: false };
  lowering.write(variable, operand);
  return () => {
    const after = lowering.read(variable) ?? operand;
    lowering.environment.values.delete(variable);
    return after;
  };
}

/** Pointers of variables, and of facts that are costly to find again; all other facts are forgotten. */
function livePointers(lowering: Lowering): readonly Pick<Shared, 'base' | 'refs'>[] {
  const byBase = new Map<Value, { variable: Variable; ref: RefOperand }[]>();
  for (const variable of lowering.environment.values.keys()) {
    const ref = current(lowering, variable);
    if (ref?.kind !== 'ref' || ref.space !== 'packet') continue;
    const refs = byBase.get(ref.base) ?? [];
    refs.push({ variable, ref });
    byBase.set(ref.base, refs);
  }
  const pointers = [...byBase].map(([base, refs]) => ({ base, refs }));
  const isNeeded = ({ refs }: Pick<Shared, 'refs'>): boolean =>
    refs.some(({ variable }) => (isFact(variable) ? COSTLY.has(variable) : lowering.isLive(variable, lowering.node)));
  for (const { refs } of pointers.filter((pointer) => !isNeeded(pointer)))
    for (const { variable } of refs) lowering.environment.values.delete(variable);
  return pointers.filter(isNeeded);
}

const COSTLY: ReadonlySet<Variable> = new Set(
  ['network', 'ipv4', 'ipv6', 'upperStart', 'ipv6Fragment'].map((name) => fact(`packet:${name}`)),
);

/** Bytes from the packet's first to a pointer, before the call. */
function distance(lowering: Lowering, base: Value, isNullable: boolean): NumberOperand {
  const known = distanceOf(base);
  if (known && known.lo === known.hi && !isNullable) return lowering.number(known.lo);
  const done = lowering.newJoin();
  const measure = (): NumberOperand => {
    const within = range(known?.lo ?? 0n, min(known?.hi ?? MAX_DISTANCE, MAX_DISTANCE));
    // a mask that changes nothing, as tight as can be: it is what the verifier will know
    const mask = (1 << (32 - Math.clz32(Number(within.hi)))) - 1;
    const bytes = lowering.binary('sub', base, packetStart(lowering));
    return { kind: 'number', range: within, exact: lowering.binary('and', bytes, lowering.constant(mask)) };
  };
  if (!isNullable) return measure();
  lowering.branch(
    'ne',
    base,
    lowering.constant(0),
    () => lowering.jump(done, measure()),
    () => lowering.jump(done, lowering.number(ABSENT)),
  );
  return lowering.enter(done) as NumberOperand;
}

/** The references of a pointer, behind the call; what they cover was there before, and is. */
function restore(lowering: Lowering, { base: old, refs, distance: by, isNullable }: Shared): void {
  const [first] = refs;
  if (!first || !lowering.block) return;
  const there = (): RefOperand => {
    const base =
      by.range.hi === 0n
        ? packetStart(lowering)
        : replaceBy(lowering, old, { ...by, range: range(by.range.lo, min(by.range.hi, MAX_DISTANCE)) });
    const size = Math.max(...refs.map(({ ref }) => ref.offset + ref.layout.size));
    const ok = lowering.newJoin();
    lowering.check(
      base,
      size,
      packetEnd(lowering),
      () => lowering.jump(ok),
      () => lowering.return(lowering.constant(lowering.hook.lost)),
    );
    lowering.enter(ok);
    return { ...first.ref, base, nullable: false };
  };
  let base: Value;
  if (isNullable) {
    const done = lowering.newJoin();
    lowering.branch(
      'eq',
      exact(lowering, by),
      lowering.constant(ABSENT),
      () => lowering.jump(done, { kind: 'undefined' }),
      () => lowering.jump(done, there()),
    );
    base = (lowering.enter(done) as RefOperand).base;
  } else base = there().base;
  for (const { variable, ref } of refs) lowering.write(variable, { ...ref, base });
}
