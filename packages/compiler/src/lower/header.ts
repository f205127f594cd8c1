/**
 * Headers as `ctx` finds them: a reference into the packet, or undefined where the packet does not have one, and what is
 * told of them. Each is looked for once on a path.
 */
import { Ethernet, type Layout } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { isConstant, mayBe } from '../range.ts';
import { argumentNode } from './argument.ts';
import { guardedRef } from './bounds.ts';
import { findUpper, IPV6, knownUpper, NO_PROTOCOL, type Upper } from './extension-header.ts';
import { remembered } from './fact.ts';
import { advanceBy, MAX_PACKET_OFFSET, packetStart, unless } from './linear.ts';
import type { Lowering } from './lowering.ts';
import { networkHeader } from './network-header.ts';
import { describe, type NumberOperand, type Operand, type RefOperand, UNDEFINED } from './operand.ts';
import type { Join } from './path.ts';
import {
  ifIpv4Fragment,
  ipv4Protocol,
  over,
  TRANSPORT_NAMES,
  type TransportName,
  type TunnelName,
  transportHeader,
  tunnelHeader,
  tunnelPort,
} from './transport-header.ts';

export type HeaderName = 'ethernet' | 'arp' | 'ipv4' | 'ipv6' | 'ipv6Fragment' | TransportName;
export const HEADER_NAMES: ReadonlySet<string> = new Set<HeaderName>([
  'ethernet',
  'arp',
  'ipv4',
  'ipv6',
  'ipv6Fragment',
  ...TRANSPORT_NAMES,
]);

/** `ctx.ipv4()` and its like. */
export function header(lowering: Lowering, name: HeaderName): Operand {
  switch (name) {
    case 'ethernet':
      return remembered(lowering, 'packet:ethernet', () =>
        guardedRef(lowering, Ethernet.layout, packetStart(lowering), 0, lowering.number(0)),
      );
    case 'arp':
    case 'ipv4':
    case 'ipv6':
      return networkHeader(lowering, name);
    case 'ipv6Fragment':
      return remembered(lowering, 'packet:ipv6Fragment', () => fragmentHeader(lowering));
    default:
      return remembered(lowering, `packet:${name}`, () => transportHeader(lowering, name));
  }
}

/** `ctx.vxlan(port)` and its like. */
export function tunnel(lowering: Lowering, node: SyntaxNode, name: TunnelName, port: Operand | undefined): Operand {
  const number = portOf(lowering, node, name, port);
  return remembered(lowering, `packet:${name}:${number}`, () => tunnelHeader(lowering, name, number));
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
  return guardedRef(lowering, layout, advanceBy(lowering, data, offset), 0, offset);
}

/** `ctx.protocol`. */
export function protocolNumber(lowering: Lowering): NumberOperand {
  return remembered(lowering, 'packet:protocol', () => {
    const [done, other, none] = [lowering.newJoin(), lowering.newJoin(), lowering.newJoin()];
    over(lowering, networkHeader(lowering, 'ipv4'), (ip) => lowering.jump(done, ipv4Protocol(lowering, ip)), other);
    lowering.enter(other);
    ipv6Upper(lowering, ({ protocol }) => lowering.jump(done, protocol), none);
    lowering.enter(none);
    lowering.jump(done, lowering.number(NO_PROTOCOL));
    return lowering.enter(done) ?? UNDEFINED;
  }) as NumberOperand;
}

/** `ctx.fragment`: an IPv6 packet with a fragment header of offset 0 and no more fragments is whole (RFC 6946). */
export function isFragment(lowering: Lowering): Operand {
  return remembered(lowering, 'packet:fragment', () => {
    const [done, other, none] = [lowering.newJoin(), lowering.newJoin(), lowering.newJoin()];
    const answer = (bit: number): void => lowering.jump(done, { kind: 'boolean', value: lowering.constant(bit) });
    over(
      lowering,
      networkHeader(lowering, 'ipv4'),
      (ip) =>
        ifIpv4Fragment(
          lowering,
          ip,
          () => answer(1),
          () => answer(0),
        ),
      other,
    );
    lowering.enter(other);
    ipv6Upper(
      lowering,
      ({ fragment }) =>
        over(
          lowering,
          fragment,
          (there) => {
            unless(lowering, fragmentBits(lowering, there), 'eq', lowering.constant(0), none);
            answer(1);
          },
          none,
        ),
      none,
    );
    lowering.enter(none);
    answer(0);
    return lowering.enter(done) ?? UNDEFINED;
  });
}

/** Offset and "more fragments", as they are loaded. */
function fragmentBits(lowering: Lowering, there: RefOperand): Value {
  return lowering.binary('and', lowering.load(2, 'packet', there.base, there.offset + 2), lowering.constant(0xf9ff), 32);
}

function fragmentHeader(lowering: Lowering): Operand {
  const [done, none] = [lowering.newJoin(), lowering.newJoin()];
  ipv6Upper(lowering, ({ fragment }) => lowering.jump(done, fragment), none);
  lowering.enter(none);
  lowering.jump(done, UNDEFINED);
  return lowering.enter(done) ?? UNDEFINED;
}

/** Goes into `then`, which ends the path, where there is IPv6. */
function ipv6Upper(lowering: Lowering, then: (upper: Upper) => void, none: Join): void {
  over(
    lowering,
    networkHeader(lowering, 'ipv6'),
    (ip) => {
      const next = (): Value => lowering.load(1, 'packet', ip.base, ip.offset + IPV6.nextHeader);
      then(knownUpper(lowering) ?? findUpper(lowering, ip, next()));
    },
    none,
  );
}

function portOf(lowering: Lowering, node: SyntaxNode, name: TunnelName, port: Operand | undefined): number {
  if (!port || port.kind === 'undefined') return tunnelPort(name);
  const given = argumentNode(node, 0);
  if (port.kind !== 'number') return lowering.fail(given, 'type', `${describe(port)} as a port, expected a number`);
  if (!isConstant(port.range))
    return lowering.fail(
      given,
      'range',
      `the port ${mayBe(port.range)}, expected a constant`,
      `compare ctx.udp().dport, and read behind it with ctx.at()`,
    );
  if (port.range.lo < 0n || port.range.hi > 0xffffn)
    return lowering.fail(given, 'range', `the port is ${port.range.lo}, expected 0..65535`);
  return Number(port.range.lo);
}
