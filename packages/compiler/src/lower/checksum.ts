/** The internet checksum in registers: whole headers (RFC 1071) and single changed words (RFC 1624). */
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { isConstant, mayBe, range, UINT32, within } from '../range.ts';
import { packetEnd } from './linear.ts';
import type { Lowering } from './lowering.ts';
import { describe, type NumberOperand, type Operand, type RefOperand } from './operand.ts';
import { exact } from './scalar.ts';

const WORD = 4;
const MAX_LENGTH = 1024n;

/** `ctx.checksum(header, length)`: the one's complement sum does not care for byte order, so words are added as they lie. */
export function checksum(lowering: Lowering, node: SyntaxNode, ref: RefOperand, length: Operand | undefined): NumberOperand {
  const bytes = length ?? lowering.number(ref.layout.size);
  if (bytes.kind !== 'number') return lowering.fail(node, 'type', `${describe(bytes)} as a length, expected a number`);
  const { lo, hi } = bytes.range;
  if (lo < 0n || hi > MAX_LENGTH)
    lowering.fail(node, 'range', `the length ${mayBe(bytes.range)}, expected 0..${MAX_LENGTH}`, 'pass ip.headerLength, or a constant');
  if (isConstant(bytes.range) && lo % BigInt(WORD) !== 0n)
    lowering.fail(node, 'range', `the length is ${lo}, expected a multiple of ${WORD}`);
  const sure = Math.min(Math.floor(Number(lo) / WORD) * WORD, ref.layout.size);
  let sum: Value | undefined;
  const add = (word: Value): void => {
    sum = sum ? lowering.binary('add', sum, word) : word;
  };
  for (let offset = 0; offset < sure; offset += WORD) add(lowering.load(WORD, ref.space, ref.base, ref.offset + offset));
  sum ??= lowering.constant(0);
  if (Number(hi) > sure) sum = variableTail(lowering, ref, bytes, sum, sure);
  return complement(lowering, sum);
}

/** Words that are there only if the length says so; each is checked against the packet's end. */
function variableTail(lowering: Lowering, ref: RefOperand, length: NumberOperand, start: Value, from: number): Value {
  const done = lowering.newJoin();
  const whole = exact(lowering, length);
  const asSum = (value: Value): NumberOperand => ({ kind: 'number', range: range(0n, 1n << 44n), exact: value });
  let sum = start;
  for (let offset = from; offset < Number(length.range.hi); offset += WORD) {
    const more = lowering.newJoin();
    const before = sum;
    lowering.branch(
      'gt',
      whole,
      lowering.constant(offset),
      () => lowering.jump(more),
      () => lowering.jump(done, asSum(before)),
    );
    lowering.enter(more);
    const inside = lowering.newJoin();
    lowering.check(
      ref.base,
      ref.offset + offset + WORD,
      packetEnd(lowering),
      () => lowering.jump(inside),
      () => lowering.jump(done, asSum(before)),
    );
    lowering.enter(inside);
    sum = lowering.binary('add', sum, lowering.load(WORD, ref.space, ref.base, ref.offset + offset));
  }
  lowering.jump(done, asSum(sum));
  return exact(lowering, lowering.enter(done) as NumberOperand);
}

/** Folds a sum of 32-bit words to 16 bits and complements it; the bytes are in memory order. */
export function folded(lowering: Lowering, sum: Value): Value {
  const once = lowering.binary('add', lowering.unary('zext32', sum), lowering.binary('rsh', sum, lowering.constant(32)));
  let short = once;
  for (let i = 0; i < 3; i++)
    short = lowering.binary(
      'add',
      lowering.binary('and', short, lowering.constant(0xffff)),
      lowering.binary('rsh', short, lowering.constant(16)),
    );
  return lowering.unary('zext16', lowering.binary('xor', short, lowering.constant(0xffff)));
}

function complement(lowering: Lowering, sum: Value): NumberOperand {
  const raw = folded(lowering, sum);
  return { kind: 'number', range: range(0n, 0xffffn), exact: lowering.unary('swap16', raw), raw: { size: 2, parts: [raw] } };
}

/** `ctx.checksumReplace(check, from, to)`: ~(~check + ~from + to), all in memory order. */
export function checksumReplace(lowering: Lowering, check: NumberOperand, from: NumberOperand, to: NumberOperand): NumberOperand {
  const old = lowering.binary('xor', inMemoryOrder(lowering, check), lowering.constant(0xffff));
  const removed = lowering.binary('xor', inMemoryOrder(lowering, from), lowering.constant(UINT32.hi));
  return complement(lowering, lowering.binary('add', lowering.binary('add', old, removed), inMemoryOrder(lowering, to)));
}

/** A word as its bytes lie in a packet, of 16 bits where it is no longer. */
export function inMemoryOrder(lowering: Lowering, n: NumberOperand): Value {
  if (n.raw && (n.raw.size === 2 || n.raw.size === 4)) return n.raw.parts[0] as Value;
  return lowering.unary(within(n.range, range(0n, 0xffffn)) ? 'swap16' : 'swap32', exact(lowering, n));
}
