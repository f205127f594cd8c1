/**
 * The sum that a card took over a packet (CHECKSUM_COMPLETE), kept right at TC: the kernel does not see what a program writes
 * directly. Each path adds up the ones' complement difference of what it stored behind the link header, and tells the kernel
 * once, before the packet leaves or the kernel looks at it (bpf_csum_update). Paths that store nothing there tell nothing.
 *
 * The sum is that of 16-bit words as they lie in memory, modulo 0xffff, so bytes at odd places count by their upper half.
 */
import { Helper } from '@tailrace/bpf';
import type { Value } from '../ir.ts';
import { isConstant, range } from '../range.ts';
import { fact } from './fact.ts';
import { distanceOf, isEvenDistance, packetStart } from './linear.ts';
import type { Lowering, PacketStore } from './lowering.ts';
import type { NumberOperand } from './operand.ts';
import { exact } from './scalar.ts';

const SUM = fact('sum');
const START = fact('sum:start');
const ETHERNET_SIZE = 14;
const TAG_SIZE = 4;
const ONES = 0xffff_ffffn;
/** Any sum: 2^20 stores of 42 bits. */
const ANY = range(0n, 1n << 62n);

/** At the start of a program at TC: nothing is stored, and the card's sum begins behind the Ethernet header. */
export function startSum(lowering: Lowering): void {
  if (lowering.hook.kind !== 'tc') return;
  lowering.write(SUM, lowering.number(0));
  lowering.write(START, lowering.number(ETHERNET_SIZE));
  lowering.beforePacketStore = (stored) => countStore(lowering, stored);
}

/** A tag was put on: where one lay beside the frame, it lies in the link header now, and the card's sum begins behind it. */
export function tagPushed(lowering: Lowering, moved: NumberOperand): void {
  const start = lowering.read(START);
  if (start?.kind !== 'number') return;
  lowering.write(START, {
    kind: 'number',
    range: range(start.range.lo + moved.range.lo, start.range.hi + moved.range.hi),
    exact: lowering.binary('add', exact(lowering, start), exact(lowering, moved)),
  });
}

/** A tag was taken off: the next one, where the frame has one, lies beside it again. */
export function tagPopped(lowering: Lowering): void {
  const start = lowering.read(START);
  if (start?.kind !== 'number') return;
  const least = BigInt(ETHERNET_SIZE);
  const before = exact(lowering, start);
  const done = lowering.newJoin();
  lowering.branch(
    'gt',
    before,
    lowering.constant(ETHERNET_SIZE),
    () => {
      const shorter = range(least, start.range.hi > least ? start.range.hi - BigInt(TAG_SIZE) : least);
      lowering.jump(done, { kind: 'number', range: shorter, exact: lowering.binary('sub', before, lowering.constant(TAG_SIZE)) });
    },
    () => lowering.jump(done, lowering.number(ETHERNET_SIZE)),
  );
  lowering.write(START, lowering.enter(done) ?? start);
}

/** Counts a store, before it is made: the old bytes are read. */
function countStore(lowering: Lowering, stored: PacketStore): void {
  const [sum, start] = [lowering.read(SUM), lowering.read(START)];
  if (sum?.kind !== 'number' || start?.kind !== 'number' || !lowering.block) return;
  const { base, offset, size } = stored;
  const distance = distanceOf(base);
  if (distance && distance.hi + BigInt(offset + size) <= start.range.lo) return;
  const isBehind = distance !== undefined && distance.lo + BigInt(offset) >= start.range.hi;
  const isEven = isEvenDistance(base);
  if (isBehind && isEven) return add(lowering, difference(lowering, stored), lowering.constant(offset % 2 === 0 ? 0 : 8));
  const position = lowering.binary('add', lowering.binary('sub', base, packetStart(lowering)), lowering.constant(offset));
  const odd = (place: Value): Value => lowering.binary('lsh', lowering.binary('and', place, lowering.constant(1)), lowering.constant(3));
  if (isBehind) return add(lowering, difference(lowering, stored), odd(position));
  const [done, across] = [lowering.newJoin(), lowering.newJoin()];
  const first = exact(lowering, start);
  lowering.branch(
    'ge',
    position,
    first,
    () => {
      add(lowering, difference(lowering, stored), odd(position));
      lowering.jump(done);
    },
    () =>
      lowering.branch(
        'le',
        lowering.binary('add', position, lowering.constant(size)),
        first,
        () => lowering.jump(done),
        () => lowering.jump(across),
      ),
  );
  lowering.enter(across);
  // the first bytes belong to the link header
  const skipped = lowering.binary('lsh', lowering.binary('sub', first, position), lowering.constant(3));
  add(lowering, difference(lowering, stored, skipped), odd(first));
  lowering.jump(done);
  lowering.enter(done);
}

/** Counts two bytes that the kernel has changed without telling the sum. */
export function countChange(lowering: Lowering, before: Value, after: Value): void {
  add(lowering, lowering.binary('add', after, complement(lowering, before)), lowering.constant(0));
}

/** Tells the kernel what was stored so far. */
export function tellSum(lowering: Lowering): void {
  const sum = lowering.read(SUM);
  if (sum?.kind !== 'number' || isConstant(sum.range) || !lowering.block) return;
  const done = lowering.newJoin();
  const total = exact(lowering, sum);
  lowering.branch(
    'ne',
    total,
    lowering.constant(0),
    () => {
      lowering.call(Helper.csum_update, [lowering.graph.context, folded(lowering, folded(lowering, total))]);
      lowering.jump(done);
    },
    () => lowering.jump(done),
  );
  lowering.enter(done);
  lowering.write(SUM, lowering.number(0));
}

function add(lowering: Lowering, difference: Value, shift: Value): void {
  const sum = lowering.read(SUM);
  if (sum?.kind !== 'number') return;
  const placed = shift.kind === 'const' && shift.value === 0n ? difference : lowering.binary('lsh', difference, shift);
  lowering.write(SUM, { kind: 'number', range: ANY, exact: lowering.binary('add', exact(lowering, sum), placed) });
}

/** What a store adds to the sum, without its first `skipped` bits. */
function difference(lowering: Lowering, { size, base, offset, value }: PacketStore, skipped?: Value): Value {
  const part = (whole: Value): Value[] => {
    const kept = skipped ? lowering.binary('rsh', whole, skipped) : whole;
    return size === 8 ? [lowering.unary('zext32', kept), lowering.binary('rsh', kept, lowering.constant(32))] : [kept];
  };
  const extend = { 1: 'zext8', 2: 'zext16', 4: 'zext32' } as const;
  const now = size === 8 ? value : lowering.unary(extend[size], value);
  const words = [...part(now), ...part(lowering.load(size, 'packet', base, offset)).map((word) => complement(lowering, word))];
  return words.reduce((sum, word) => lowering.binary('add', sum, word));
}

/** Of a word of at most 32 bits. */
function complement(lowering: Lowering, word: Value): Value {
  return lowering.binary('xor', word, lowering.constant(ONES));
}

function folded(lowering: Lowering, sum: Value): Value {
  return lowering.binary('add', lowering.unary('zext32', sum), lowering.binary('rsh', sum, lowering.constant(32)));
}
