/**
 * Headers of layer 4 over IPv4 and IPv6, and of tunnels over them: there where the protocol is right, the packet is no
 * fragment but the first, and both the IP header's length and the packet hold the header.
 */
import { Gre, Gue, Icmp, Icmpv6, type Layout, Ports, Tcp, Udp, Vxlan } from '@tailrace/stage';
import type { Value } from '../ir.ts';
import { range } from '../range.ts';
import { fitsLinear, pullUpTo } from './bounds.ts';
import { findUpper, IPV6, knownUpper, rememberNone, rememberPlain } from './extension-header.ts';
import { current, fact, remembered } from './fact.ts';
import { advanceBy, found, PLACE, packetRef, unless } from './linear.ts';
import type { Lowering } from './lowering.ts';
import { findNetwork, networkHeader, REACHED } from './network-header.ts';
import { type NumberOperand, type Operand, type RefOperand, UNDEFINED } from './operand.ts';
import type { Join } from './path.ts';
import { keeping } from './reference.ts';
import { exact, known } from './scalar.ts';

interface Transport {
  readonly layout: Layout;
  /** IP protocols that it serves, over IPv4 and over IPv6. */
  readonly ipv4: readonly number[];
  readonly ipv6: readonly number[];
}
const UDP = 17;
const TRANSPORTS = {
  tcp: { layout: Tcp.layout, ipv4: [6], ipv6: [6] },
  udp: { layout: Udp.layout, ipv4: [UDP], ipv6: [UDP] },
  icmp: { layout: Icmp.layout, ipv4: [1], ipv6: [] },
  icmpv6: { layout: Icmpv6.layout, ipv4: [], ipv6: [58] },
  ports: { layout: Ports.layout, ipv4: [6, UDP], ipv6: [6, UDP] },
  gre: { layout: Gre.layout, ipv4: [47], ipv6: [47] },
} as const satisfies Readonly<Record<string, Transport>>;
export type TransportName = keyof typeof TRANSPORTS;
export const TRANSPORT_NAMES = Object.keys(TRANSPORTS) as readonly TransportName[];

const TUNNELS = { vxlan: { layout: Vxlan.layout, port: 4789 }, gue: { layout: Gue.layout, port: 6080 } } as const;
export type TunnelName = keyof typeof TUNNELS;
export const TUNNEL_NAMES = Object.keys(TUNNELS) as readonly TunnelName[];
/** The port of a tunnel unless a program says otherwise. */
export const tunnelPort = (name: TunnelName): number => TUNNELS[name].port;

const UDP_FIELD = { dport: 2, length: 4 } as const;

export function transportHeader(lowering: Lowering, name: TransportName): Operand {
  return transport(lowering, TRANSPORTS[name], TRANSPORTS[name].layout.size);
}

/** What UDP to a port carries. */
export function tunnelHeader(lowering: Lowering, name: TunnelName, port: number): Operand {
  const { layout } = TUNNELS[name];
  const size = Udp.layout.size + layout.size;
  const udp = transport(lowering, TRANSPORTS.udp, size);
  if (udp.kind !== 'ref') return UNDEFINED;
  const done = lowering.newJoin();
  const none = lowering.newJoin();
  over(
    lowering,
    udp,
    (there) => {
      const absent = lowering.newJoin();
      const dport = lowering.unary('swap16', lowering.load(2, 'packet', there.base, there.offset + UDP_FIELD.dport));
      unless(lowering, dport, 'ne', lowering.constant(port), absent);
      const length = lowering.unary('swap16', lowering.load(2, 'packet', there.base, there.offset + UDP_FIELD.length));
      unless(lowering, length, 'lt', lowering.constant(size), absent);
      const { lo, hi } = there.position?.range ?? range(0n, 0n);
      const position =
        there.position &&
        known(
          lowering,
          lowering.binary('add', exact(lowering, there.position), lowering.constant(Udp.layout.size)),
          range(lo + 8n, hi + 8n),
        );
      lowering.jump(done, packetRef(lowering, layout, there.base, there.offset + Udp.layout.size, position));
      lowering.enter(absent);
      lowering.jump(none);
    },
    none,
  );
  lowering.enter(none);
  lowering.jump(done, UNDEFINED);
  return lowering.enter(done) ?? UNDEFINED;
}

/** The place of a header of layer 4 of which `size` bytes are there. */
function transport(lowering: Lowering, wanted: Transport, size: number): Operand {
  const done = lowering.newJoin();
  if (wanted.ipv4.length > 0) {
    const otherwise = lowering.newJoin();
    over(
      lowering,
      networkHeader(lowering, 'ipv4'),
      (ip) => {
        noIpv6(lowering);
        lowering.jump(done, overIpv4(lowering, ip, wanted, size));
      },
      otherwise,
    );
    lowering.enter(otherwise);
  }
  if (wanted.ipv6.length > 0 && lowering.block) {
    const absent = lowering.newJoin();
    overIpv6(lowering, wanted, size, done, absent);
    lowering.enter(absent);
  }
  lowering.jump(done, UNDEFINED);
  return lowering.enter(done) ?? UNDEFINED;
}

/** Goes into `then`, which ends the path, where a header is there. */
export function over(lowering: Lowering, ip: Operand, then: (ip: RefOperand) => void, otherwise: Join): void {
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

/** Offsets into an IPv4 header. */
const IPV4 = { totalLength: 2, flagsFragment: 6, protocol: 9 } as const;
/** The 13 bits of the fragment offset, and those with "more fragments", as they are loaded. */
const FRAGMENT_OFFSET_BITS = 0xff1fn;
const FRAGMENT_BITS = 0xff3fn;

function overIpv4(lowering: Lowering, header: RefOperand, wanted: Transport, size: number): Operand {
  return found(lowering, (absent) => {
    const ip = reached(lowering, header, () => advanceBy(lowering, header.base, headerLength(lowering, header)), header.offset);
    protocolIs(lowering, lowering.load(1, 'packet', ip.base, ip.offset + IPV4.protocol), wanted.ipv4, absent);
    unless(
      lowering,
      lowering.load(2, 'packet', ip.base, ip.offset + IPV4.flagsFragment),
      'set',
      lowering.constant(FRAGMENT_OFFSET_BITS),
      absent,
    );
    const length = headerLength(lowering, ip);
    const total = lowering.unary('swap16', lowering.load(2, 'packet', ip.base, ip.offset + IPV4.totalLength));
    const needed = lowering.binary('add', exact(lowering, length), lowering.constant(size));
    unless(lowering, total, 'lt', needed, absent);
    const content = remembered(lowering, 'packet:layer4', () => packetRef(lowering, PLACE, advanceBy(lowering, ip.base, length), 0));
    const { base } = content as RefOperand;
    fitsLinear(lowering, base, ip.offset + size, absent);
    return packetRef(lowering, wanted.layout, base, ip.offset, positionBehind(lowering, ip, length));
  });
}

/** At TC: pulls the largest header of layer 4 at `offset` behind a pointer; gives the IP header as it then is. */
function reached(lowering: Lowering, ip: RefOperand, pointer: () => Value, offset: number): RefOperand {
  if (lowering.hook.kind === 'xdp' || current(lowering, REACHED)) return ip;
  const [after] = keeping(lowering, ip, () => pullUpTo(lowering, pointer(), offset + Tcp.layout.size));
  lowering.write(REACHED, lowering.number(1));
  return after;
}

/** `ip.protocol`. */
export function ipv4Protocol(lowering: Lowering, ip: RefOperand): NumberOperand {
  return { kind: 'number', range: range(0n, 0xffn), exact: lowering.load(1, 'packet', ip.base, ip.offset + IPV4.protocol) };
}

/** Tests whether an IPv4 packet is a piece of a larger one. */
export function ifIpv4Fragment(lowering: Lowering, ip: RefOperand, yes: () => void, no: () => void): void {
  const flags = lowering.load(2, 'packet', ip.base, ip.offset + IPV4.flagsFragment);
  lowering.branch('set', flags, lowering.constant(FRAGMENT_BITS), yes, no, 'else');
}

/** Where an IPv4 header's content starts. */
function positionBehind(lowering: Lowering, ip: RefOperand, length: NumberOperand): NumberOperand | undefined {
  if (!ip.position) return undefined;
  const { lo, hi } = ip.position.range;
  return known(lowering, lowering.binary('add', exact(lowering, length), exact(lowering, ip.position)), range(lo + 20n, hi + 60n));
}

const IPV6_HEADER = fact('packet:ipv6');
const NEXT = fact('packet:next');

/**
 * What the usual packet needs stands in one line: IPv6 behind no tag, and the protocol behind no extension header. All
 * others meet again in `slow`.
 */
function overIpv6(lowering: Lowering, wanted: Transport, size: number, done: Join, absent: Join): void {
  const slow = lowering.newJoin();
  const start = (header: RefOperand, isPlain: boolean): void => {
    lowering.write(IPV6_HEADER, header);
    const ip = reached(lowering, header, () => header.base, header.offset + IPV6.size);
    const next = lowering.load(1, 'packet', ip.base, ip.offset + IPV6.nextHeader);
    lowering.write(IPV6_HEADER, ip);
    lowering.write(NEXT, { kind: 'number', range: range(0n, 0xffn), exact: next });
    if (!isPlain || knownUpper(lowering)) return lowering.jump(slow);
    protocolIs(lowering, next, wanted.ipv6, slow);
    rememberPlain(lowering, ip, { kind: 'number', range: range(0n, 0xffn), exact: next });
    lowering.jump(done, upperHeader(lowering, wanted.layout, size, absent));
  };
  const ip = current(lowering, IPV6_HEADER);
  const none = lowering.newJoin();
  if (ip) over(lowering, ip, (there) => start(there, true), none);
  else findNetwork(lowering, 'ipv6', start, none);
  lowering.enter(none);
  noIpv6(lowering);
  if (lowering.block) lowering.write(REACHED, lowering.number(1));
  lowering.jump(absent);
  lowering.enter(slow);
  if (!lowering.block) return;
  const there = lowering.read(IPV6_HEADER) as RefOperand;
  const upper = knownUpper(lowering) ?? findUpper(lowering, there, exact(lowering, lowering.read(NEXT) as NumberOperand), wanted.ipv6);
  protocolIs(lowering, exact(lowering, upper.protocol), wanted.ipv6, absent);
  lowering.jump(done, upperHeader(lowering, wanted.layout, size, absent));
}

/** Remembers what is not there, so that what is there on other paths survives where they meet. */
function noIpv6(lowering: Lowering): void {
  if (!lowering.block) return;
  if (!current(lowering, IPV6_HEADER)) lowering.write(IPV6_HEADER, UNDEFINED);
  rememberNone(lowering);
}

/** The header at the start of the upper layer, which the path knows; its protocol is right. */
function upperHeader(lowering: Lowering, layout: Layout, size: number, absent: Join): Operand | undefined {
  const upper = knownUpper(lowering);
  if (upper?.start.kind !== 'ref') {
    lowering.jump(absent);
    return undefined;
  }
  const { start, room } = upper;
  if (start.nullable) unless(lowering, start.base, 'eq', lowering.constant(0), absent);
  unless(lowering, exact(lowering, room), 'lt', lowering.constant(size), absent);
  fitsLinear(lowering, start.base, start.offset + size, absent);
  return packetRef(lowering, layout, start.base, start.offset, start.position);
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
