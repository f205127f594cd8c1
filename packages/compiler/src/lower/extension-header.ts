/**
 * What lies behind an IPv6 header and its extension headers (RFC 8200, section 4): the protocol, where it starts, and the
 * fragment header. Packets without extension headers never come here, unless a program asks for what they do not have.
 *
 * The walk goes through at most 6 of hop-by-hop options, routing, destination options and fragment header, in any order. It
 * ends at everything else, authentication and encryption included, and finds nothing where a header does not lie within the
 * payload, where there are more, and behind a second fragment header.
 */
import { Ipv6, Ipv6Fragment, Tcp } from '@tailrace/stage';
import type { Value } from '../ir.ts';
import { range } from '../range.ts';
import { fitsLinear, pullUpTo } from './bounds.ts';
import { current, fact } from './fact.ts';
import { advanceBy, PLACE, packetRef, unless } from './linear.ts';
import type { Lowering } from './lowering.ts';
import { type NumberOperand, type Operand, type RefOperand, UNDEFINED } from './operand.ts';
import type { Join } from './path.ts';
import { exact } from './scalar.ts';

const MAX_HEADERS = 6;
/** What every extension header has at least. */
const SMALLEST = 8;
const LARGEST = 256 * 8;
/** The bits of what all headers may take together. */
const LENGTH_BITS = 0x3ff8;
const FRAGMENT = 44;
/** Hop-by-hop options, destination options, routing. */
const OPTIONS = [0, 60, 43] as const;
/** What is there as a rule: TCP, UDP, ICMPv6. */
const USUAL = [6, 17, 58] as const;
/** Reserved (IANA): no protocol. */
export const NO_PROTOCOL = 255;
/** The 13 bits of the offset in a fragment header as they are loaded. */
const OFFSET_BITS = 0xf8ffn;

/** Offsets into an IPv6 header. */
export const IPV6 = { payloadLength: 4, nextHeader: 6, size: Ipv6.layout.size } as const;

/** What a path knows of the upper layer. */
export interface Upper {
  readonly protocol: NumberOperand;
  /** Where it starts; undefined in fragments but the first, and where it was not found. */
  readonly start: Operand;
  /** Bytes of the payload from there on. */
  readonly room: NumberOperand;
  /** The fragment header, or undefined. */
  readonly fragment: Operand;
}

const FACTS = {
  protocol: fact('packet:upperProtocol'),
  start: fact('packet:upperStart'),
  room: fact('packet:upperRoom'),
  fragment: fact('packet:ipv6Fragment'),
} as const;

/** What the path has found already. */
export function knownUpper(lowering: Lowering): Upper | undefined {
  const [protocol, start, room, fragment] = [FACTS.protocol, FACTS.start, FACTS.room, FACTS.fragment].map((v) => current(lowering, v));
  return protocol?.kind === 'number' && room?.kind === 'number' && start && fragment ? { protocol, start, room, fragment } : undefined;
}

/** The upper layer directly behind the IPv6 header: no extension header is there. */
export function rememberPlain(lowering: Lowering, ip: RefOperand, protocol: NumberOperand): void {
  remember(lowering, { protocol, start: behind(lowering, ip, undefined), room: payloadOf(lowering, ip), fragment: UNDEFINED });
}

/** Nothing of it is there, unless the path knows better. */
export function rememberNone(lowering: Lowering): void {
  if (!knownUpper(lowering)) remember(lowering, nothing(lowering));
}

function nothing(lowering: Lowering): Upper {
  return { protocol: lowering.number(NO_PROTOCOL), start: UNDEFINED, room: lowering.number(0), fragment: UNDEFINED };
}

/** Looks for the upper layer, for `likely` protocols first; all paths go on. */
export function findUpper(lowering: Lowering, ip: RefOperand, next: Value, likely: readonly number[] = []): Upper {
  const [found, odd] = [lowering.newJoin(), lowering.newJoin()];
  for (const protocol of new Set([...likely, ...USUAL])) {
    const other = lowering.newJoin();
    lowering.branch(
      'eq',
      next,
      lowering.constant(protocol),
      () => {
        rememberPlain(lowering, ip, lowering.number(protocol));
        lowering.jump(found);
      },
      () => lowering.jump(other),
      'then',
    );
    lowering.enter(other);
  }
  lowering.jump(odd);
  lowering.enter(odd);
  walk(lowering, ip, next, found);
  lowering.enter(found);
  const upper = knownUpper(lowering);
  return upper ?? nothing(lowering);
}

const NEXT = fact('packet:walk');
const LENGTH = fact('packet:walked');

/** Leads every path to `found`. */
function walk(lowering: Lowering, header: RefOperand, first: Value, found: Join): void {
  const bad = lowering.newJoin();
  // at TC all that there may be is pulled together at once
  const ip = { ...header, base: pullUpTo(lowering, header.base, header.offset + IPV6.size + MAX_HEADERS * LARGEST + Tcp.layout.size) };
  const payload = payloadOf(lowering, ip);
  let next: Value = first;
  let length: NumberOperand = lowering.number(0);
  lowering.write(FACTS.fragment, UNDEFINED);
  for (let i = 0; i <= MAX_HEADERS; i++) {
    const [options, fragment, onward] = [lowering.newJoin(), lowering.newJoin(), lowering.newJoin()];
    which(lowering, next, options, fragment);
    // none of them: the upper layer
    if (i > 0) fitsLinear(lowering, behind(lowering, ip, length).base, ip.offset + IPV6.size, bad);
    const room = lowering.binary('sub', exact(lowering, payload), exact(lowering, length));
    remember(lowering, {
      protocol: byte(next),
      start: behind(lowering, ip, length),
      room: { kind: 'number', range: range(0n, 0xffffn), exact: room },
      fragment: current(lowering, FACTS.fragment) ?? UNDEFINED,
    });
    lowering.jump(found);
    if (i === MAX_HEADERS) {
      for (const join of [options, fragment]) {
        lowering.enter(join);
        lowering.jump(bad);
      }
      break;
    }
    const so = length;
    const tested = next;
    const advanced = (by: Value, hi: number): void => {
      const sum = lowering.binary('add', exact(lowering, so), by);
      unless(lowering, exact(lowering, payload), 'lt', sum, bad);
      lowering.write(LENGTH, {
        kind: 'number',
        range: range(so.range.lo + BigInt(SMALLEST), so.range.hi + BigInt(hi)),
        exact: anyLength(lowering, sum, tested),
      });
    };
    lowering.enter(options);
    const at = behind(lowering, ip, so);
    fitsLinear(lowering, at.base, at.offset + SMALLEST, bad);
    lowering.write(NEXT, byte(lowering.load(1, 'packet', at.base, at.offset)));
    const units = lowering.load(1, 'packet', at.base, at.offset + 1);
    advanced(lowering.binary('lsh', lowering.binary('add', units, lowering.constant(1)), lowering.constant(3)), LARGEST);
    lowering.jump(onward);
    lowering.enter(fragment);
    fragmentHeader(lowering, ip, so, bad, found, advanced);
    lowering.jump(onward);
    lowering.enter(onward);
    next = exact(lowering, lowering.read(NEXT) as NumberOperand);
    length = lowering.read(LENGTH) as NumberOperand;
  }
  lowering.enter(bad);
  remember(lowering, { ...nothing(lowering), fragment: current(lowering, FACTS.fragment) ?? UNDEFINED });
  lowering.jump(found);
}

/**
 * The same length, of which the verifier knows no more than that it is a multiple of 8 in 14 bits, whatever the way here: it
 * then walks what follows once, not once for each combination of headers. `byte` is any number that it does not know.
 */
function anyLength(lowering: Lowering, length: Value, byte: Value): Value {
  const blurred = lowering.binary('sub', lowering.binary('add', length, byte), byte);
  return lowering.binary('and', blurred, lowering.constant(LENGTH_BITS));
}

/** Goes on where the next header is no extension header. */
function which(lowering: Lowering, next: Value, options: Join, fragment: Join): void {
  const cases = [...OPTIONS.map((protocol) => [protocol, options] as const), [FRAGMENT, fragment] as const];
  for (const [protocol, join] of cases) {
    const other = lowering.newJoin();
    lowering.branch(
      'eq',
      next,
      lowering.constant(protocol),
      () => lowering.jump(join),
      () => lowering.jump(other),
    );
    lowering.enter(other);
  }
}

/** Behind a fragment header of the first piece the walk goes on; in others no header is to be found. */
function fragmentHeader(
  lowering: Lowering,
  ip: RefOperand,
  length: NumberOperand,
  bad: Join,
  found: Join,
  advanced: (by: Value, hi: number) => void,
): void {
  const before = current(lowering, FACTS.fragment);
  if (before?.kind === 'ref') unless(lowering, before.base, 'ne', lowering.constant(0), bad);
  const at = { ...behind(lowering, ip, length), layout: Ipv6Fragment.layout };
  fitsLinear(lowering, at.base, at.offset + SMALLEST, bad);
  const next = byte(lowering.load(1, 'packet', at.base, at.offset));
  advanced(lowering.constant(SMALLEST), SMALLEST);
  lowering.write(FACTS.fragment, at);
  lowering.write(NEXT, next);
  const later = lowering.newJoin();
  unless(lowering, lowering.load(2, 'packet', at.base, at.offset + 2), 'set', lowering.constant(OFFSET_BITS), later);
  const first = lowering.newJoin();
  lowering.jump(first);
  lowering.enter(later);
  remember(lowering, { protocol: next, start: UNDEFINED, room: lowering.number(0), fragment: at });
  lowering.jump(found);
  lowering.enter(first);
}

function remember(lowering: Lowering, upper: Upper): void {
  lowering.write(FACTS.protocol, upper.protocol);
  lowering.write(FACTS.start, upper.start);
  lowering.write(FACTS.room, upper.room);
  lowering.write(FACTS.fragment, upper.fragment);
}

const byte = (value: Value): NumberOperand => ({ kind: 'number', range: range(0n, 0xffn), exact: value });

/** `ip.payloadLength`. */
function payloadOf(lowering: Lowering, ip: RefOperand): NumberOperand {
  const loaded = lowering.load(2, 'packet', ip.base, ip.offset + IPV6.payloadLength);
  return { kind: 'number', range: range(0n, 0xffffn), exact: lowering.unary('swap16', loaded) };
}

/** The place `length` bytes behind the IPv6 header. */
function behind(lowering: Lowering, ip: RefOperand, length: NumberOperand | undefined): RefOperand {
  const moved = length && length.range.hi > 0n;
  const base = moved ? advanceBy(lowering, ip.base, length) : ip.base;
  const position = ip.position && sum(lowering, ip.position, lowering.number(IPV6.size));
  const there = moved && position ? sum(lowering, position, length) : position;
  return packetRef(lowering, PLACE, base, ip.offset + IPV6.size, there);
}

function sum(lowering: Lowering, a: NumberOperand, b: NumberOperand): NumberOperand {
  if (a.range.lo === a.range.hi && b.range.lo === b.range.hi) return lowering.number(a.range.lo + b.range.lo);
  return {
    kind: 'number',
    range: range(a.range.lo + b.range.lo, a.range.hi + b.range.hi),
    exact: lowering.binary('add', exact(lowering, a), exact(lowering, b)),
  };
}
