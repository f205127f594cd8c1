/**
 * Headers of layer 3, behind up to two VLAN tags (IEEE 802.1Q, 802.1ad). A frame without a tag is told by its EtherType
 * alone; tags are looked for on paths that are laid out behind.
 *
 * A network header lies 14 bytes behind its base, as if the tags in front of it were not there: the base is the packet's
 * first byte, or 4 or 8 bytes on. The two bytes in front of the header are the EtherType that announces it.
 */
import { Arp, Ipv4, Ipv6, type Layout, Tcp, Vlan } from '@tailrace/stage';
import { SK_BUFF } from '../hook-model.ts';
import type { Value } from '../ir.ts';
import { range } from '../range.ts';
import { fits, fitsLinear, pullUpTo } from './bounds.ts';
import { current, fact, remembered } from './fact.ts';
import { PLACE, packetEnd, packetRef, packetStart, unless } from './linear.ts';
import type { Lowering } from './lowering.ts';
import { type NumberOperand, type Operand, type RefOperand, UNDEFINED } from './operand.ts';
import type { Join } from './path.ts';
import { exact } from './scalar.ts';

/** Bytes of an Ethernet header. */
export const ETHERNET_SIZE = 14;
/** Where the EtherType lies in it. */
export const ETHERTYPE_AT = 12;
/** Bytes of a tag. */
export const TAG_SIZE = Vlan.layout.size;
/** Frames that are shorter have no network header that programs ask for. */
const SMALLEST = ETHERNET_SIZE + Ipv4.layout.size;
/** Headers of layer 4 that programs ask for end here, but for IPv6 extension headers: IPv4 with all options, and TCP. */
const LARGEST = ETHERNET_SIZE + 60 + Tcp.layout.size;

/** EtherTypes as they are loaded: compared without a swap. */
const ETHERTYPE = { ipv4: 0x0008n, ipv6: 0xdd86n, arp: 0x0608n, vlan: 0x0081n, qinq: 0xa888n } as const;

interface NetworkHeader {
  readonly layout: Layout;
  readonly type: bigint;
  /** What it is otherwise, as a rule. */
  readonly others: readonly bigint[];
  /** Goes on where the header is sound. */
  readonly verify: (lowering: Lowering, base: Value, absent: Join) => void;
}

const HEADERS = {
  arp: { layout: Arp.layout, type: ETHERTYPE.arp, others: [ETHERTYPE.ipv4, ETHERTYPE.ipv6], verify: verifyArp },
  ipv4: { layout: Ipv4.layout, type: ETHERTYPE.ipv4, others: [ETHERTYPE.ipv6], verify: verifyIpv4 },
  ipv6: { layout: Ipv6.layout, type: ETHERTYPE.ipv6, others: [ETHERTYPE.ipv4], verify: verifyIpv6 },
} as const satisfies Readonly<Record<string, NetworkHeader>>;
export type NetworkName = keyof typeof HEADERS;

/** A network header, or undefined. */
export function networkHeader(lowering: Lowering, name: NetworkName): Operand {
  return remembered(lowering, `packet:${name}`, () => {
    const [absent, done] = [lowering.newJoin(), lowering.newJoin()];
    findNetwork(lowering, name, (header) => lowering.jump(done, header), absent);
    lowering.enter(absent);
    lowering.jump(done, UNDEFINED);
    return lowering.enter(done) ?? UNDEFINED;
  });
}

/**
 * Looks for a network header. `then` goes on where there is one, and ends the path: once for frames without tags, and once
 * for all others. Both ways remember what the frame's EtherType is.
 */
export function findNetwork(
  lowering: Lowering,
  name: NetworkName,
  then: (header: RefOperand, isPlain: boolean) => void,
  absent: Join,
): void {
  const wanted: NetworkHeader = HEADERS[name];
  const size = ETHERNET_SIZE + wanted.layout.size;
  if (knownNetwork(lowering)) return known(lowering, wanted, (header) => then(header, true), absent);
  // what the tests find out holds on all paths: the packet's ends are loaded first
  packetEnd(lowering);
  const [short, tagged] = [lowering.newJoin(), lowering.newJoin()];
  const data = fits(lowering, packetStart(lowering), size, short);
  const type = lowering.load(2, 'packet', data, ETHERTYPE_AT);
  lowering.branch(
    'eq',
    type,
    lowering.constant(wanted.type),
    () => {
      remember(lowering, data, 0, lowering.constant(wanted.type));
      wanted.verify(lowering, data, absent);
      then(packetRef(lowering, wanted.layout, data, ETHERNET_SIZE, lowering.number(ETHERNET_SIZE)), true);
    },
    () => {
      remember(lowering, data, 0, type);
      others(lowering, type, wanted.others, absent);
      lowering.jump(tagged);
    },
    'then',
  );
  lowering.enter(tagged);
  behindTags(lowering, data, type, absent);
  known(lowering, wanted, (header) => then(header, false), absent);
  lowering.enter(short);
  tooShort(lowering, size, absent);
}

/** Where the frame's EtherType is known already. */
function known(lowering: Lowering, wanted: NetworkHeader, then: (header: RefOperand) => void, absent: Join): void {
  const at = knownNetwork(lowering);
  if (!at || !lowering.block) return;
  unless(lowering, exact(lowering, at.type), 'ne', lowering.constant(wanted.type), absent);
  lowering.write(TYPE, lowering.number(wanted.type));
  const { position } = at.place;
  const base = fits(lowering, at.place.base, ETHERNET_SIZE + wanted.layout.size, absent);
  wanted.verify(lowering, base, absent);
  const behind = position && plus(lowering, position, ETHERNET_SIZE - ETHERTYPE_AT);
  then(packetRef(lowering, wanted.layout, base, ETHERNET_SIZE, behind));
}

/** The frame is shorter than the header that is asked for: it may still hold another. */
function tooShort(lowering: Lowering, size: number, absent: Join): void {
  const tiny = lowering.newJoin();
  if (size > SMALLEST) {
    const data = packetStart(lowering);
    fitsLinear(lowering, data, SMALLEST, tiny);
    const type = lowering.load(2, 'packet', data, ETHERTYPE_AT);
    remember(lowering, data, 0, type);
    behindTags(lowering, data, type, absent);
    lowering.jump(absent);
  } else lowering.jump(tiny);
  lowering.enter(tiny);
  remember(lowering, packetStart(lowering), 0, lowering.constant(0));
  lowering.jump(absent);
}

/** Goes on behind one or two tags of a frame of which `SMALLEST` bytes are there; at TC, with all that may be asked for. */
function behindTags(lowering: Lowering, before: Value, type: Value, none: Join): void {
  const behind = lowering.newJoin();
  unlessTag(lowering, type, none);
  const data = pullUpTo(lowering, before, 2 * TAG_SIZE + LARGEST);
  fitsLinear(lowering, data, SMALLEST, none);
  lowering.write(REACHED, lowering.number(1));
  const first = lowering.load(2, 'packet', data, ETHERTYPE_AT + TAG_SIZE);
  remember(lowering, lowering.advance(data, lowering.constant(TAG_SIZE), 'packet'), 1, first);
  unlessTag(lowering, first, behind);
  if (lowering.hook.kind === 'tc') unlessInSkb(lowering, behind);
  const second = lowering.load(2, 'packet', data, ETHERTYPE_AT + 2 * TAG_SIZE);
  remember(lowering, lowering.advance(data, lowering.constant(2 * TAG_SIZE), 'packet'), 2, second);
  lowering.jump(behind);
  lowering.enter(behind);
}

/** Goes on where no tag lies beside the frame, in the skb: at TC, the usual case. */
export function unlessInSkb(lowering: Lowering, there: Join): void {
  const present = lowering.load(4, 'context', lowering.graph.context, SK_BUFF.vlanPresent);
  unless(lowering, present, 'ne', lowering.constant(0), there);
}

/** Goes on where an EtherType announces a tag. */
export function unlessTag(lowering: Lowering, type: Value, none: Join): void {
  const tag = lowering.newJoin();
  lowering.branch(
    'eq',
    type,
    lowering.constant(ETHERTYPE.vlan),
    () => lowering.jump(tag),
    () =>
      lowering.branch(
        'eq',
        type,
        lowering.constant(ETHERTYPE.qinq),
        () => lowering.jump(tag),
        () => lowering.jump(none),
      ),
  );
  lowering.enter(tag);
}

function others(lowering: Lowering, type: Value, [first, ...rest]: readonly bigint[], absent: Join): void {
  if (first === undefined) return;
  const on = lowering.newJoin();
  lowering.branch(
    'eq',
    type,
    lowering.constant(first),
    () => lowering.jump(absent),
    () => lowering.jump(on),
    'then',
  );
  lowering.enter(on);
  others(lowering, type, rest, absent);
}

/** Known where the upper layer's header lies in the linear part, if it is there at all. */
export const REACHED = fact('packet:reached');
const NETWORK = fact('packet:network');
const TYPE = fact('packet:type');

/** Where the network header's EtherType lies, and what it is; 0 in frames that are too short for any. */
function knownNetwork(lowering: Lowering): { readonly place: RefOperand; readonly type: NumberOperand } | undefined {
  const place = current(lowering, NETWORK);
  const type = current(lowering, TYPE);
  return place?.kind === 'ref' && type?.kind === 'number' ? { place, type } : undefined;
}

function remember(lowering: Lowering, base: Value, tags: number, type: Value): void {
  const position = lowering.number(ETHERTYPE_AT + tags * TAG_SIZE);
  lowering.write(NETWORK, packetRef(lowering, PLACE, base, ETHERTYPE_AT, position));
  lowering.write(TYPE, { kind: 'number', range: range(0n, 0xffffn), exact: type });
}

function plus(lowering: Lowering, number: NumberOperand, by: number): NumberOperand {
  const { lo, hi } = number.range;
  if (lo === hi) return lowering.number(lo + BigInt(by));
  return {
    kind: 'number',
    range: range(lo + BigInt(by), hi + BigInt(by)),
    exact: lowering.binary('add', exact(lowering, number), lowering.constant(by)),
  };
}

/** An ARP message for IPv4 over hardware addresses of 6 bytes: protocol type, and both lengths. */
function verifyArp(lowering: Lowering, base: Value, absent: Join): void {
  unless(lowering, lowering.load(4, 'packet', base, ETHERNET_SIZE + 2), 'ne', lowering.constant(0x0406_0008), absent);
}

/** Version 4 and at least 5 words: 0x45 to 0x4f. */
function verifyIpv4(lowering: Lowering, base: Value, absent: Join): void {
  const first = lowering.load(1, 'packet', base, ETHERNET_SIZE);
  unless(lowering, lowering.binary('sub', first, lowering.constant(0x45), 32), 'gt', lowering.constant(0x4f - 0x45), absent);
}

function verifyIpv6(lowering: Lowering, base: Value, absent: Join): void {
  const version = lowering.binary('rsh', lowering.load(1, 'packet', base, ETHERNET_SIZE), lowering.constant(4), 32);
  unless(lowering, version, 'ne', lowering.constant(6), absent);
}
