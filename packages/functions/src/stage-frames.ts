/** Frames that stages of any function are given: good ones, and what can be wrong with them. */
// biome-ignore lint/style/noRestrictedImports: only tests import this file
import { fragments, type Packet, packet, truncations } from '@tailrace/testing';

/** One packet, and the metadata that it comes with. */
export interface Case {
  readonly frame: Packet | Uint8Array;
  readonly meta?: Readonly<Record<string, unknown>>;
}

/** Good packets over IPv4, and what can be wrong with them. */
export function frames(ipv4: Parameters<Packet['ipv4']>[0] = {}): (Packet | Uint8Array)[] {
  const tcp = packet().ipv4(ipv4).tcp({ syn: true }).payload('hello');
  const udp = packet().ipv4(ipv4).udp({ dport: 53 }).payload('hello');
  const options = (words: number) => new Uint8Array(4 * words).fill(1);
  return [
    tcp,
    udp,
    packet().ipv4(ipv4).tcp({ ack: true }),
    packet().ipv4(ipv4).tcp({ syn: true, ack: true }),
    packet().ipv4(ipv4).tcp({ dport: 81 }),
    packet().ipv4(ipv4).icmp(),
    packet().ipv6().tcp(),
    packet().ethernet({ etherType: 0x0806 }).payload(46),
    tcp.padTo(80),
    ...[1, 5, 10].map((words) =>
      packet()
        .ipv4({ ...ipv4, options: options(words) })
        .tcp(),
    ),
    ...[1, 5, 10].map((words) =>
      packet()
        .ipv4({ ...ipv4, options: options(words) })
        .udp({ dport: 53 }),
    ),
    ...fragments(packet().ipv4(ipv4).udp({ dport: 53 }).payload(100), 40),
    ...[0, 4, 15].map((ihl) =>
      packet()
        .ipv4({ ...ipv4, ihl })
        .tcp(),
    ),
    ...[0, 19, 20, 23, 24, 39, 40, 41, 1500, 65535].map((totalLength) =>
      packet()
        .ipv4({ ...ipv4, totalLength })
        .tcp(),
    ),
    ...[0, 5, 6, 15].map((version) =>
      packet()
        .ipv4({ ...ipv4, version })
        .tcp(),
    ),
    ...[...truncations(tcp, 14)],
    ...[...truncations(udp, 14)],
    ...[
      ...truncations(
        packet()
          .ipv4({ ...ipv4, options: options(3) })
          .tcp()
          .payload('x'),
        14,
      ),
    ],
  ];
}

/** The same over IPv6. */
export function frames6(ipv6: Parameters<Packet['ipv6']>[0] = {}): (Packet | Uint8Array)[] {
  const over = (fields: Parameters<Packet['ipv6']>[0] = {}) => packet().ipv6({ ...ipv6, ...fields });
  const tcp = over().tcp({ syn: true }).payload('hello');
  const udp = over().udp({ dport: 53 }).payload('hello');
  return [
    tcp,
    udp,
    over().tcp({ ack: true }),
    over().tcp({ syn: true, ack: true }),
    over().tcp({ dport: 81 }),
    ...[0, 1, 2, 3, 4, 5, 128, 129, 133, 135, 136].map((type) => over().icmpv6({ type }).payload(24)),
    tcp.padTo(120),
    ...fragments(over().udp({ dport: 53 }).payload(100), 40),
    ...[0, 3, 4, 7, 8, 19, 20, 25, 26, 1500, 65535].flatMap((payloadLength) => [
      over({ payloadLength }).tcp().payload('hello'),
      over({ payloadLength }).icmpv6().payload('hello'),
    ]),
    ...[0, 4, 5, 7, 15].map((version) => over({ version }).tcp()),
    over().hopByHop().tcp(),
    over().destination().routing().udp({ dport: 53 }),
    over().hopByHop().fragment({ moreFragments: false }).tcp(),
    over().destination().icmpv6(),
    over().destination().icmpv6({ type: 1 }).payload(60),
    ...[0, 4, 41, 43, 59, 60, 255].map((nextHeader) => over({ nextHeader }).payload(30)),
    ...truncations(tcp, 14),
    ...truncations(udp, 14),
    ...truncations(over().icmpv6().payload('hello'), 14),
  ];
}

/** The same frame behind VLAN tags. */
export function tagged(frame: Packet | Uint8Array, ...tags: readonly number[]): Uint8Array {
  const bytes = frame instanceof Uint8Array ? frame : frame.bytes();
  return Uint8Array.from([...bytes.subarray(0, 12), ...tags.flatMap((id) => [0x81, 0, id >> 8, id & 255]), ...bytes.subarray(12)]);
}

/** Each frame as it is, behind one tag, and behind two. */
export const withTags = (list: readonly (Packet | Uint8Array)[]): (Packet | Uint8Array)[] =>
  list.flatMap((frame) => [frame, tagged(frame, 7), tagged(frame, 7, 0xabc)]);

/** Over IPv4, each with tags too and without metadata. */
export const cases = (ipv4?: Parameters<Packet['ipv4']>[0]): Case[] => withTags(frames(ipv4)).map((frame) => ({ frame }));
/** Over IPv6. */
export const cases6 = (fields?: Parameters<Packet['ipv6']>[0]): Case[] => withTags(frames6(fields)).map((frame) => ({ frame }));
