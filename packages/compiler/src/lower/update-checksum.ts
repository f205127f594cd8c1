/**
 * `ctx.updateChecksum`: the checksum of a transport header, after a word under it changed. At XDP the field holds the whole
 * sum, and arithmetic in place will do (RFC 1624). At TC it may hold a part that a card finishes, so the kernel is asked.
 */
import { Helper } from '@tailrace/bpf';
import { Icmp, Icmpv6, type Layout, Tcp, Udp } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { range, UINT32, within } from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import { folded, inMemoryOrder } from './checksum.ts';
import { packetStart } from './linear.ts';
import type { Lowering } from './lowering.ts';
import { member, present, readPlace } from './memory.ts';
import { type AggregateOperand, describe, type NumberOperand, type Operand, type RefOperand, UNDEFINED } from './operand.ts';
import { countChange } from './packet-sum.ts';
import { packetWritten } from './packet-write.ts';
import type { Program } from './program.ts';
import { keeping, keepingReferences } from './reference.ts';

/** BPF_F_PSEUDO_HDR and BPF_F_MARK_MANGLED_0 (include/uapi/linux/bpf.h); the low bits of the flags are the word's size. */
const FLAG = { pseudoHeader: 0x10, markMangled0: 0x20 } as const;
const UINT16 = range(0n, 0xffffn);

interface Summed {
  readonly layout: Layout;
  /** Where the field is. */
  readonly offset: number;
  /** 0 stands for no checksum (RFC 768). */
  readonly optional: boolean;
  readonly pseudoHeader: boolean;
}
const HEADERS: readonly Summed[] = [
  { layout: Tcp.layout, offset: 16, optional: false, pseudoHeader: true },
  { layout: Udp.layout, offset: 6, optional: true, pseudoHeader: true },
  { layout: Icmp.layout, offset: 2, optional: false, pseudoHeader: false },
  { layout: Icmpv6.layout, offset: 2, optional: false, pseudoHeader: true },
];

/** Words of 32 or 16 bits, in memory order: one, or the four of an IPv6 address. */
type Words = readonly Value[];

export function updateChecksum(program: Program, node: SyntaxNode, [header, from, to, of]: readonly Operand[]): Operand {
  const { lowering } = program;
  const place = argumentNode(node, 0);
  if (header?.kind !== 'ref' || header.space !== 'packet')
    return lowering.fail(place, 'type', `${header ? describe(header) : 'nothing'} where a header is expected`);
  const ref = present(lowering, place, header);
  const summed = HEADERS.find(({ layout }) => layout === ref.layout);
  if (!summed)
    return lowering.fail(
      place,
      'type',
      'the header has no checksum that covers its segment',
      'pass what ctx.tcp(), udp(), icmp() or icmpv6() gave',
    );
  const isPseudo = ofPseudoHeader(lowering, argumentNode(node, 3), of);
  const [before, after] = [wordsOf(program, argumentNode(node, 1), from), wordsOf(program, argumentNode(node, 2), to)];
  if (before.words.length !== after.words.length)
    return lowering.fail(argumentNode(node, 2), 'type', 'a number and an address, expected two of a kind');
  if (isPseudo && !summed.pseudoHeader) return UNDEFINED;
  if (lowering.hook.kind === 'xdp') inPlace(lowering, ref, summed, before.words, after.words);
  else byKernel(lowering, ref, summed, isPseudo, { from: before.words, to: after.words, size: before.size === 4 ? 4 : after.size });
  return UNDEFINED;
}

function ofPseudoHeader(lowering: Lowering, node: SyntaxNode, of: Operand | undefined): boolean {
  if (of === undefined || of.kind === 'undefined') return false;
  if (of.kind !== 'string' || (of.value !== 'segment' && of.value !== 'pseudoHeader'))
    return lowering.fail(node, 'type', "what changed must be 'segment' or 'pseudoHeader'");
  return of.value === 'pseudoHeader';
}

function wordsOf(program: Program, node: SyntaxNode, operand: Operand | undefined): { readonly words: Words; readonly size: 2 | 4 } {
  const { lowering } = program;
  if (operand?.kind === 'aggregate' || (operand?.kind === 'ref' && operand.layout.kind === 'struct')) {
    const words = ['hi', 'lo'].flatMap((half) => {
      const value = halfOf(lowering, node, operand, half);
      if (value?.kind !== 'bigint') return lowering.fail(node, 'type', `${describe(operand)} as an address, expected { hi, lo }`);
      const raw = value.raw?.size === 8 ? (value.raw.parts[0] as Value) : lowering.unary('swap64', value.value);
      return [lowering.unary('zext32', raw), lowering.binary('rsh', raw, lowering.constant(32))];
    });
    return { words, size: 4 };
  }
  const number: NumberOperand = numberArgument(lowering, node, operand, UINT32);
  return { words: [inMemoryOrder(lowering, number)], size: within(number.range, UINT16) ? 2 : 4 };
}

function halfOf(lowering: Lowering, node: SyntaxNode, address: AggregateOperand | RefOperand, half: string): Operand | undefined {
  if (address.kind === 'aggregate') {
    const field = address.fields.get(half);
    return field && lowering.read(field);
  }
  const ref = present(lowering, node, address);
  const field = ref.layout.kind === 'struct' && Object.hasOwn(ref.layout.fields, half) ? ref.layout.fields[half] : undefined;
  return field && readPlace(lowering, member(ref, field.layout, field.offset));
}

/** The sum of what came, and of the complement of what went. */
function difference(lowering: Lowering, from: Words, to: Words, start: Value): Value {
  let sum = start;
  for (const word of from) sum = lowering.binary('add', sum, lowering.binary('xor', word, lowering.constant(UINT32.hi)));
  for (const word of to) sum = lowering.binary('add', sum, word);
  return sum;
}

function inPlace(lowering: Lowering, ref: RefOperand, { offset, optional }: Summed, from: Words, to: Words): void {
  const at = ref.offset + offset;
  const check = lowering.load(2, 'packet', ref.base, at);
  const done = lowering.newJoin();
  const store = (value: Value): void => {
    lowering.store(2, 'packet', ref.base, at, value);
    packetWritten(lowering, ref.base, at, 2);
    lowering.jump(done);
  };
  const replace = (): void => {
    const sum = difference(lowering, from, to, lowering.binary('xor', check, lowering.constant(0xffff)));
    const value = folded(lowering, sum);
    if (!optional) return store(value);
    lowering.branch(
      'eq',
      value,
      lowering.constant(0),
      () => store(lowering.constant(0xffff)),
      () => store(value),
      'else',
    );
  };
  if (optional) lowering.branch('eq', check, lowering.constant(0), () => lowering.jump(done), replace, 'else');
  else replace();
  lowering.enter(done);
}

/** bpf_l4_csum_replace knows what the field holds: all of the sum, or what is left for a card to add. */
function byKernel(
  lowering: Lowering,
  ref: RefOperand,
  { offset, optional }: Summed,
  isPseudo: boolean,
  { from, to, size }: { readonly from: Words; readonly to: Words; readonly size: 2 | 4 },
): void {
  const position = lowering.binary('and', lowering.binary('sub', ref.base, packetStart(lowering)), lowering.constant(0x7fff));
  const at = lowering.binary('add', position, lowering.constant(ref.offset + offset));
  const flags = (isPseudo ? FLAG.pseudoHeader : 0) | (optional ? FLAG.markMangled0 : 0);
  const [one, other] = [from[0], to[0]];
  const words =
    from.length === 1 && one && other
      ? [one, other, lowering.constant(flags | size)]
      : [lowering.constant(0), foldedTo32(lowering, difference(lowering, from, to, lowering.constant(0))), lowering.constant(flags)];
  const field = (place: RefOperand): Value => lowering.load(2, 'packet', place.base, place.offset + offset);
  const before = field(ref);
  const [after] = keeping(lowering, ref, () =>
    keepingReferences(lowering, () => lowering.call(Helper.l4_csum_replace, [lowering.graph.context, at, ...words], { movesPacket: true })),
  );
  // the kernel itself brings the card's sum in step only with what changed under the pseudo header
  if (!isPseudo) countChange(lowering, before, field(after));
}

/** A sum of 32-bit words as one such word: what the kernel takes for a difference. */
function foldedTo32(lowering: Lowering, sum: Value): Value {
  const fold = (value: Value): Value =>
    lowering.binary('add', lowering.unary('zext32', value), lowering.binary('rsh', value, lowering.constant(32)));
  return lowering.unary('zext32', fold(fold(sum)));
}
