/**
 * Frames that no network stack makes, as record.ts sends them over a raw socket: tags, options and extension headers, wrong
 * lengths, cut headers, random bytes. All follow from a seed.
 */
import { type Packet, packet } from '@tailrace/testing';
import { TCP_PORT, UDP_PORT, VIP, VIP6 } from './network.ts';

/** Rounds that are recorded, and what their odd frames follow from. */
export const ROUNDS = 6;
export const SEED = 0x7a11_4ace;

/** Numbers from a seed: xorshift32 (Marsaglia, 2003). */
export class SeededRandom {
  #state: number;

  /** The seed is a u32 other than 0. */
  constructor(seed: number) {
    this.#state = seed;
  }

  /** From 0 to `limit` - 1. */
  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

/** Who sends frames to whom. */
export interface OddEnds {
  /** MAC addresses. */
  readonly src: string;
  readonly dst: string;
  /** Clients' addresses. */
  readonly client: string;
  readonly client6: string;
}

/** As they are in the network of record.ts. */
export const ENDS: OddEnds = { src: '02:00:00:00:01:01', dst: '02:00:00:00:01:02', client: '10.0.0.5', client6: 'fd00::5' };

/** The odd frames of one round. Ports are its own, so that each round has flows of its own. */
export function oddFrames(round: number, ends: OddEnds, random: SeededRandom): readonly Uint8Array[] {
  const sport = 20_000 + 100 * round;
  const frames = [...tagged(ends, sport), ...unusual(ends, sport + 20), ...malformed(ends, sport + 40)].map((frame) => frame.bytes());
  return [...frames, ...cut(ends, sport + 60, random), ...noise(ends, random)];
}

/** With VLAN tags, one and two. */
function tagged(ends: OddEnds, sport: number): readonly Packet[] {
  const frame = packet().ethernet(macs(ends));
  const [over4, over6] = [ip4(ends), ip6(ends)];
  return [
    frame.vlan({ id: 7 }).ipv4(over4).tcp({ sport, dport: TCP_PORT, syn: true }),
    frame.vlan({ id: 7 }).ipv4(over4).tcp({ sport, dport: TCP_PORT, ack: true, seq: 2 }).payload('tagged'),
    frame
      .vlan({ id: 7, priority: 5 })
      .ipv6(over6)
      .udp({ sport: sport + 1, dport: UDP_PORT })
      .payload('tagged'),
    frame
      .vlan({ id: 9, tpid: 0x88a8 })
      .vlan({ id: 7 })
      .ipv4(over4)
      .udp({ sport: sport + 2, dport: UDP_PORT })
      .payload('twice'),
    frame.vlan({ id: 7 }).ipv4(over4).icmp({ id: sport }).payload('ping'),
    frame.vlan({ id: 7 }).arp({ senderMac: ends.src, senderIp: ends.client, targetIp: '10.0.0.1' }),
  ];
}

/** Right, and rarely seen. */
function unusual(ends: OddEnds, sport: number): readonly Packet[] {
  const frame = packet().ethernet(macs(ends));
  const [over4, over6] = [ip4(ends), ip6(ends)];
  return [
    frame
      .ipv4({ ...over4, options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0) })
      .udp({ sport, dport: UDP_PORT })
      .payload('record route'),
    frame
      .ipv4({ ...over4, tos: 0x2f })
      .udp({ sport: sport + 1, dport: UDP_PORT, checksum: 0 })
      .payload('no checksum'),
    frame.ipv4(over4).tcp({ sport: sport + 2, dport: TCP_PORT, fin: true, psh: true, urg: true }),
    frame.ipv4(over4).tcp({ sport: sport + 3, dport: TCP_PORT, rst: true }),
    frame.ipv4({ ...over4, ttl: 1 }).udp({ sport: sport + 4, dport: UDP_PORT }),
    frame.ipv4(over4).gre().ipv4({ saddr: '192.168.7.1', daddr: VIP }).udp({ dport: UDP_PORT }),
    frame
      .ipv6(over6)
      .hopByHop()
      .destination()
      .udp({ sport: sport + 5, dport: UDP_PORT })
      .payload('behind options'),
    frame
      .ipv6(over6)
      .routing()
      .tcp({ sport: sport + 6, dport: TCP_PORT, syn: true }),
    frame
      .ipv6(over6)
      .fragment({ id: sport })
      .udp({ sport: sport + 7, dport: UDP_PORT })
      .payload('an atomic fragment'),
    frame
      .ipv6({ ...over6, trafficClass: 0xb8, flowLabel: 0xabcde })
      .udp({ sport: sport + 8, dport: UDP_PORT })
      .payload('labelled'),
    frame.ipv6({ ...over6, hopLimit: 1 }).icmpv6({ id: sport }),
    // errors about flows that there are, and about those that there are not
    frame
      .ipv4({ saddr: '203.0.113.1', daddr: VIP })
      .icmp({ type: 11 })
      .quote(
        packet()
          .ipv4({ saddr: VIP, daddr: ends.client })
          .udp({ sport: UDP_PORT, dport: sport + 1 }),
        28,
      ),
    frame
      .ipv6({ saddr: '2001:db8:e::1', daddr: VIP6 })
      .icmpv6({ type: 3 })
      .quote(
        packet()
          .ipv6({ saddr: VIP6, daddr: ends.client6 })
          .udp({ sport: UDP_PORT, dport: sport + 8 }),
        48,
      ),
    frame
      .ipv4({ saddr: '203.0.113.1', daddr: VIP })
      .icmp({ type: 3, code: 1 })
      .quote(packet().ipv4({ saddr: '192.0.2.1', daddr: ends.client }).udp(), 28),
    packet()
      .ethernet({ ...macs(ends), dst: 'ff:ff:ff:ff:ff:ff' })
      .arp({ senderMac: ends.src, senderIp: ends.client, targetIp: VIP }),
    packet()
      .ethernet({ ...macs(ends), etherType: 0x88cc })
      .payload(46),
  ];
}

/** To vips, with lengths and sums that cannot be. */
function malformed(ends: OddEnds, sport: number): readonly Packet[] {
  const frame = packet().ethernet(macs(ends));
  const [over4, over6] = [ip4(ends), ip6(ends)];
  const [udp, tcp] = [
    { sport, dport: UDP_PORT },
    { sport, dport: TCP_PORT },
  ];
  return [
    frame
      .ipv4({ ...over4, totalLength: 400 })
      .udp(udp)
      .payload('longer than the frame'),
    frame
      .ipv4({ ...over4, totalLength: 24 })
      .udp(udp)
      .payload('shorter than its headers'),
    frame.ipv4({ ...over4, totalLength: 0 }).tcp(tcp),
    frame.ipv4({ ...over4, ihl: 4 }).udp(udp),
    frame.ipv4({ ...over4, ihl: 15 }).udp(udp),
    frame.ipv4({ ...over4, version: 6 }).tcp(tcp),
    frame.ipv4({ ...over4, checksum: 0xbad }).tcp({ ...tcp, sport: sport + 1 }),
    frame.ipv4(over4).tcp({ ...tcp, dataOffset: 2 }),
    frame.ipv4(over4).tcp({ ...tcp, dataOffset: 15 }),
    frame.ipv4(over4).tcp({ ...tcp, sport: sport + 2, checksum: 0xbad }),
    frame
      .ipv4(over4)
      .udp({ ...udp, sport: sport + 3, length: 4 })
      .payload('a length below eight'),
    frame
      .ipv6({ ...over6, payloadLength: 900 })
      .udp(udp)
      .payload('longer than the frame'),
    frame.ipv6({ ...over6, payloadLength: 0 }).tcp(tcp),
    frame.ipv6({ ...over6, version: 4 }).tcp(tcp),
    frame.ipv6(over6).hopByHop({ extensionLength: 200 }).udp(udp),
    frame.ipv6({ ...over6, nextHeader: 59 }).payload('no next header'),
  ];
}

/** Good packets that end too early. */
function cut(ends: OddEnds, sport: number, random: SeededRandom): readonly Uint8Array[] {
  const frame = packet().ethernet(macs(ends));
  const whole = [
    frame.ipv4(ip4(ends)).tcp({ sport, dport: TCP_PORT, syn: true }),
    frame.ipv4(ip4(ends)).udp({ sport, dport: UDP_PORT }),
    frame.ipv6(ip6(ends)).tcp({ sport, dport: TCP_PORT, syn: true }),
    frame.vlan({ id: 7 }).ipv6(ip6(ends)).udp({ sport, dport: UDP_PORT }),
    frame.ipv4(ip4(ends)).icmp(),
  ];
  return whole.map((good) => {
    const bytes = good.bytes();
    return bytes.slice(0, SHORTEST + random.below(bytes.length - SHORTEST));
  });
}

/** Random bytes, at every depth. */
function noise(ends: OddEnds, random: SeededRandom): readonly Uint8Array[] {
  const frame = packet().ethernet(macs(ends));
  const some = (): Uint8Array => random.bytes(random.below(100));
  return [
    random.bytes(SHORTEST + random.below(100)),
    packet()
      .ethernet({ ...macs(ends), etherType: 0x0800 })
      .payload(some())
      .bytes(),
    packet()
      .ethernet({ ...macs(ends), etherType: 0x86dd })
      .payload(some())
      .bytes(),
    frame
      .ipv4({ ...ip4(ends), protocol: 6 })
      .payload(some())
      .bytes(),
    frame
      .ipv4({ ...ip4(ends), protocol: 17 })
      .payload(some())
      .bytes(),
    frame
      .ipv6({ ...ip6(ends), nextHeader: 17 })
      .payload(some())
      .bytes(),
  ];
}

/** ETH_HLEN: a packet socket sends no less. */
const SHORTEST = 14;

const macs = ({ src, dst }: OddEnds) => ({ src, dst });
const ip4 = ({ client }: OddEnds) => ({ saddr: client, daddr: VIP });
const ip6 = ({ client6 }: OddEnds) => ({ saddr: client6, daddr: VIP6 });
