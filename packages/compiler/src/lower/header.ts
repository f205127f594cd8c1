/**
 * Headers as `ctx` finds them: a reference into the packet, or undefined where the packet does not have one. Every
 * bounds check is made here; each header is looked for once on a path.
 *
 * Packet references are `base + offset` with a constant offset. IPv4's base is the packet's first byte; layer 4 adds
 * the header length to it, so that one check of that base proves the whole of a header.
 */
import { Ethernet, Icmp, Icmpv6, Ipv4, Ipv6, type Layout, Ports, Tcp, Udp } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import type { CompareOp, Value } from '../ir.ts';
import { isConstant, mayBe, range } from '../range.ts';
import { remembered, rememberedValue } from './fact.ts';
import type { Lowering } from './lowering.ts';
import { describe, type NumberOperand, type Operand, type RefOperand, UNDEFINED } from './operand.ts';
import type { Join } from './path.ts';
import { exact, known } from './scalar.ts';

const ETHERNET_SIZE = 14;
/** The verifier takes packet offsets of 15 bits, not of 16. */
const MAX_PACKET_OFFSET = 0x7fff;

/** Big-endian constants as they are loaded: compared without a swap. */
const ETHERTYPE_IPV4 = 0x0008n;
const ETHERTYPE_IPV6 = 0xdd86n;
/** The 13 bits of the fragment offset. */
const FRAGMENT_OFFSET_BITS = 0xff1fn;

interface Layer4 {
  readonly layout: Layout;
  /** IP protocols that it serves, over IPv4 and over IPv6. */
  readonly ipv4: readonly number[];
  readonly ipv6: readonly number[];
}
const LAYER4 = {
  tcp: { layout: Tcp.layout, ipv4: [6], ipv6: [6] },
  udp: { layout: Udp.layout, ipv4: [17], ipv6: [17] },
  icmp: { layout: Icmp.layout, ipv4: [1], ipv6: [] },
  icmpv6: { layout: Icmpv6.layout, ipv4: [], ipv6: [58] },
  ports: { layout: Ports.layout, ipv4: [6, 17], ipv6: [6, 17] },
} as const satisfies Readonly<Record<string, Layer4>>;

export type HeaderName = 'ethernet' | 'ipv4' | 'ipv6' | keyof typeof LAYER4;
export const HEADER_NAMES: ReadonlySet<string> = new Set<HeaderName>(['ethernet', 'ipv4', 'ipv6', 'tcp', 'udp', 'icmp', 'icmpv6', 'ports']);

/** `ctx.ipv4()` and its like. */
export function header(lowering: Lowering, name: HeaderName): Operand {
  return remembered(lowering, `packet:${name}`, () => {
    switch (name) {
      case 'ethernet':
        return ethernet(lowering);
      case 'ipv4':
        return ipv4(lowering);
      case 'ipv6':
        return ipv6(lowering);
      default:
        return layer4(lowering, LAYER4[name]);
    }
  });
}

/** `ctx.at(schema, offset)`. */
export function at(lowering: Lowering, node: SyntaxNode, layout: Layout, offset: Operand): Operand {
  if (offset.kind !== 'number') return lowering.fail(node, 'type', `${describe(offset)} as an offset, expected a number`);
  const { lo, hi } = offset.range;
  if (lo < 0n || hi > BigInt(MAX_PACKET_OFFSET))
    lowering.fail(
      node,
      'range',
      `the offset ${mayBe(offset.range)}, expected 0..${MAX_PACKET_OFFSET}`,
      isConstant(offset.range) ? undefined : 'mask it: & 0x7fff',
    );
  const data = packetStart(lowering);
  if (isConstant(offset.range)) return guardedRef(lowering, layout, data, Number(lo), offset);
  return guardedRef(lowering, layout, lowering.advance(data, exact(lowering, offset), 'packet'), 0, offset);
}

export function packetStart(lowering: Lowering): Value {
  return rememberedValue(lowering, 'packet:data', () =>
    lowering.load(4, 'context', lowering.graph.context, lowering.hook.context.data, 'packet'),
  );
}

export function packetEnd(lowering: Lowering): Value {
  return rememberedValue(lowering, 'packet:end', () =>
    lowering.load(4, 'context', lowering.graph.context, lowering.hook.context.dataEnd, 'packet'),
  );
}

/** A chain of tests that all have to hold; the first that does not leads to undefined. */
function found(lowering: Lowering, tests: (absent: Join) => RefOperand): Operand {
  const [absent, done] = [lowering.newJoin(), lowering.newJoin()];
  // facts that the tests establish must hold on both paths: load the packet's ends first
  packetEnd(lowering);
  packetStart(lowering);
  const ref = tests(absent);
  lowering.jump(done, ref);
  lowering.enter(absent);
  lowering.jump(done, UNDEFINED);
  return lowering.enter(done) ?? UNDEFINED;
}

function fits(lowering: Lowering, pointer: Value, size: number, absent: Join): void {
  const ok = lowering.newJoin();
  lowering.check(
    pointer,
    size,
    packetEnd(lowering),
    () => lowering.jump(ok),
    () => lowering.jump(absent),
  );
  lowering.enter(ok);
}

/** Goes on where the comparison does not hold. */
function unless(lowering: Lowering, left: Value, op: CompareOp, right: Value, absent: Join): void {
  const on = lowering.newJoin();
  lowering.branch(
    op,
    left,
    right,
    () => lowering.jump(absent),
    () => lowering.jump(on),
    'else',
  );
  lowering.enter(on);
}

function packetRef(lowering: Lowering, layout: Layout, base: Value, offset: number, position: NumberOperand): RefOperand {
  return {
    kind: 'ref',
    layout,
    base,
    offset,
    space: 'packet',
    shared: false,
    nullable: false,
    epoch: lowering.environment.epoch,
    position,
  };
}

function guardedRef(lowering: Lowering, layout: Layout, base: Value, offset: number, position: NumberOperand): Operand {
  return found(lowering, (absent) => {
    fits(lowering, base, offset + layout.size, absent);
    return packetRef(lowering, layout, base, offset, position);
  });
}

function ethernet(lowering: Lowering): Operand {
  return guardedRef(lowering, Ethernet.layout, packetStart(lowering), 0, lowering.number(0));
}

function ipv4(lowering: Lowering): Operand {
  return found(lowering, (absent) => {
    const data = packetStart(lowering);
    fits(lowering, data, ETHERNET_SIZE + Ipv4.layout.size, absent);
    unless(lowering, lowering.load(2, 'packet', data, 12), 'ne', lowering.constant(ETHERTYPE_IPV4), absent);
    // version 4 and at least 5 words: 0x45 to 0x4f
    const first = lowering.load(1, 'packet', data, ETHERNET_SIZE);
    unless(lowering, lowering.binary('sub', first, lowering.constant(0x45), 32), 'gt', lowering.constant(0x4f - 0x45), absent);
    return packetRef(lowering, Ipv4.layout, data, ETHERNET_SIZE, lowering.number(ETHERNET_SIZE));
  });
}

function ipv6(lowering: Lowering): Operand {
  return found(lowering, (absent) => {
    const data = packetStart(lowering);
    fits(lowering, data, ETHERNET_SIZE + Ipv6.layout.size, absent);
    unless(lowering, lowering.load(2, 'packet', data, 12), 'ne', lowering.constant(ETHERTYPE_IPV6), absent);
    unless(
      lowering,
      lowering.binary('rsh', lowering.load(1, 'packet', data, ETHERNET_SIZE), lowering.constant(4), 32),
      'ne',
      lowering.constant(6),
      absent,
    );
    return packetRef(lowering, Ipv6.layout, data, ETHERNET_SIZE, lowering.number(ETHERNET_SIZE));
  });
}

function layer4(lowering: Lowering, wanted: Layer4): Operand {
  const done = lowering.newJoin();
  if (wanted.ipv4.length > 0) {
    const otherwise = lowering.newJoin();
    over(
      lowering,
      header(lowering, 'ipv4'),
      (ip) => {
        lowering.jump(done, overIpv4(lowering, ip, wanted));
      },
      otherwise,
    );
    lowering.enter(otherwise);
  }
  if (wanted.ipv6.length > 0 && lowering.block) {
    const otherwise = lowering.newJoin();
    over(
      lowering,
      header(lowering, 'ipv6'),
      (ip) => {
        lowering.jump(done, overIpv6(lowering, ip, wanted));
      },
      otherwise,
    );
    lowering.enter(otherwise);
  }
  lowering.jump(done, UNDEFINED);
  return lowering.enter(done) ?? UNDEFINED;
}

function over(lowering: Lowering, ip: Operand, then: (ip: RefOperand) => void, otherwise: Join): void {
  if (ip.kind !== 'ref') return lowering.jump(otherwise);
  if (!ip.nullable) return then(ip);
  lowering.branch(
    'ne',
    ip.base,
    lowering.constant(0),
    () => {
      then(lowering.assumePresent(ip));
    },
    () => {
      lowering.assumeAbsent(ip);
      lowering.jump(otherwise);
    },
  );
}

/** Bytes of the IPv4 header, 20..60. */
function headerLength(lowering: Lowering, ip: RefOperand): NumberOperand {
  const first = lowering.load(1, 'packet', ip.base, ip.offset);
  const words = lowering.binary('and', first, lowering.constant(15), 32);
  return { kind: 'number', range: range(20n, 60n), exact: lowering.binary('lsh', words, lowering.constant(2), 32) };
}

function overIpv4(lowering: Lowering, ip: RefOperand, wanted: Layer4): Operand {
  return found(lowering, (absent) => {
    protocolIs(lowering, lowering.load(1, 'packet', ip.base, ip.offset + 9), wanted.ipv4, absent);
    unless(lowering, lowering.load(2, 'packet', ip.base, ip.offset + 6), 'set', lowering.constant(FRAGMENT_OFFSET_BITS), absent);
    const length = headerLength(lowering, ip);
    const total = lowering.unary('swap16', lowering.load(2, 'packet', ip.base, ip.offset + 2));
    const needed = lowering.binary('add', exact(lowering, length), lowering.constant(wanted.layout.size));
    unless(lowering, total, 'lt', needed, absent);
    const base = rememberedValue(lowering, 'packet:layer4', () => lowering.advance(ip.base, exact(lowering, length), 'packet'));
    fits(lowering, base, ip.offset + wanted.layout.size, absent);
    const position = known(lowering, lowering.binary('add', exact(lowering, length), lowering.constant(ETHERNET_SIZE)), range(34n, 74n));
    return packetRef(lowering, wanted.layout, base, ip.offset, position);
  });
}

function overIpv6(lowering: Lowering, ip: RefOperand, wanted: Layer4): Operand {
  return found(lowering, (absent) => {
    protocolIs(lowering, lowering.load(1, 'packet', ip.base, ip.offset + 6), wanted.ipv6, absent);
    const payload = lowering.unary('swap16', lowering.load(2, 'packet', ip.base, ip.offset + 4));
    unless(lowering, payload, 'lt', lowering.constant(wanted.layout.size), absent);
    const base = lowering.advance(ip.base, lowering.constant(Ipv6.layout.size), 'packet');
    fits(lowering, base, ip.offset + wanted.layout.size, absent);
    return packetRef(lowering, wanted.layout, base, ip.offset, lowering.number(ETHERNET_SIZE + Ipv6.layout.size));
  });
}

function protocolIs(lowering: Lowering, protocol: Value, wanted: readonly number[], absent: Join): void {
  const [only, ...more] = wanted;
  if (more.length === 0) return unless(lowering, protocol, 'ne', lowering.constant(only ?? 0), absent);
  const match = lowering.newJoin();
  for (const [i, number] of wanted.entries()) {
    const other = lowering.newJoin();
    lowering.branch(
      'eq',
      protocol,
      lowering.constant(number),
      () => lowering.jump(match),
      () => lowering.jump(i === wanted.length - 1 ? absent : other),
    );
    lowering.enter(other);
  }
  lowering.enter(match);
}
