/** Headers of packets on real wires, at XDP and at TC: tags, extension headers, fragments, tunnels; whole, cut and broken. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { arrayMap, struct, u8, u32 } from '@tailrace/stage';
import * as testing from '@tailrace/testing';
import { type Packet, packet, truncations } from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { agree, stageOf } from '../fixture.ts';

const names = ['arp', 'ipv4', 'ipv6', 'ipv6Fragment', 'tcp', 'udp', 'icmp', 'icmpv6', 'ports', 'gre', 'vxlan', 'gue'] as const;
const Seen = struct({ found: u32, places: u32, fields: u32, protocol: u8, fragment: u8, tags: u32, tcis: u32 });
const uses = { seen: arrayMap({ name: 'seen', value: Seen, maxEntries: 1 }) };
/** What all headers are, where they start, and a field of each. */
const probe = (order: readonly string[]): string => `
  let found = 0, places = 0, fields = 0;
  ${order
    .map((name) => {
      const field = {
        arp: 'operation',
        ipv4: 'totalLength',
        ipv6: 'payloadLength',
        ipv6Fragment: 'id',
        tcp: 'seq',
        udp: 'length',
        icmp: 'id',
        icmpv6: 'sequence',
        ports: 'dport',
        gre: 'protocol',
        vxlan: 'vni',
        gue: 'protocol',
      }[name];
      return `const ${name} = ctx.${name}();
  if (${name}) { found |= ${1 << names.indexOf(name as (typeof names)[number])}; places = (places * 31 + ctx.offsetOf(${name})) >>> 0; fields = (fields * 31 + ${name}.${field}) >>> 0; }`;
    })
    .join('\n')}
  const s = seen.lookup(0); s.found = found; s.places = places; s.fields = fields;`;
const flags = `
  const t = seen.lookup(0);
  t.protocol = ctx.protocol;
  t.fragment = ctx.fragment ? 1 : 0;
  t.tags = ctx.vlanTags;
  t.tcis = ctx.vlanTci * 65536 + ctx.innerVlanTci;`;
const programs = {
  'headers, then flags': `${probe(names.slice(0, 6))} ${flags} return found ? ctx.exit('found') : ctx.next();`,
  'other headers, then flags': `${probe(names.slice(6))} ${flags} return found ? ctx.exit('found') : ctx.next();`,
  'flags, then headers backwards': `${flags} ${probe(names.slice(3, 9).reverse())} return found ? ctx.exit('found') : ctx.next();`,
  'layer 4 alone': `${probe(['udp', 'tcp', 'gre', 'icmpv6'])} return ctx.next();`,
  'layer 4 over what is known': `const v6 = ctx.ipv6(); const four = ctx.ipv4(); if (!v6 && !four) return ctx.drop();
    ${probe(['ports', 'gue', 'ipv6Fragment', 'udp', 'icmpv6'])} if (ctx.protocol === 17) return ctx.exit('udp'); return ctx.next();`,
};

const six = packet().ipv6();
const options = new Uint8Array(20).fill(1);
const inner = packet().ethernet().ipv4().udp().payload(4);
const innerOf = (outer: Packet): Packet => outer.payload(inner.bytes());
const wire = {
  arp: packet().arp(),
  'tagged arp': packet().vlan({ id: 7 }).arp({ operation: 2 }),
  'one tag': packet().vlan({ id: 0xabc, priority: 5, dropEligible: true }).ipv4().tcp().payload(3),
  'one tag of 802.1ad over IPv6': packet().vlan({ tpid: 0x88a8 }).ipv6().udp().payload(3),
  'two tags': packet().vlan({ tpid: 0x88a8, id: 5 }).vlan({ id: 6 }).ipv4({ options }).udp().payload(3),
  'two tags the other way': packet().vlan({ id: 5 }).vlan({ tpid: 0x88a8, id: 6 }).ipv6().tcp(),
  'three tags': packet().vlan().vlan().vlan().ipv4().udp(),
  'a tag over nothing known': packet().vlan().payload(40),
  'hop-by-hop': six.hopByHop().tcp().payload(3),
  'routing of 40 bytes': six
    .routing({ data: new Uint8Array(36) })
    .udp()
    .payload(3),
  'three headers behind a tag': packet().vlan().ipv6().hopByHop({ options }).destination().routing().icmpv6(),
  'destination, fragment, destination': six.destination().fragment({ moreFragments: true, id: 9 }).destination().udp().payload(8),
  'a later fragment': six.hopByHop().fragment({ fragmentOffset: 64, id: 10, nextHeader: 17 }).payload(30),
  'a fragment that is whole': six.fragment({ id: 11 }).tcp(),
  'two fragment headers': six.fragment().fragment().tcp(),
  'six headers': six.hopByHop().destination().routing().destination().destination().destination().tcp().payload(1),
  'seven headers': six.hopByHop().destination().routing().destination().destination().destination().destination().tcp(),
  'authentication ends the walk': six.hopByHop({ nextHeader: 51 }).payload(40),
  'no next header': six.destination({ nextHeader: 59 }).payload(8),
  'a header that is longer than the payload': six.hopByHop({ extensionLength: 9 }).udp().payload(20),
  'the longest header': six.destination({ options: new Uint8Array(2046) }).udp(),
  'a piece of IPv4': packet().ipv4({ moreFragments: true }).udp().payload(16),
  'a later piece of IPv4': packet().ipv4({ fragmentOffset: 8, protocol: 17 }).payload(16),
  gre: packet().ipv4().gre().ipv4().udp(),
  'gre over IPv6 behind a tag': packet().vlan().ipv6().destination().gre({ key: 7 }).ipv4().udp(),
  vxlan: innerOf(
    packet()
      .ipv4()
      .udp({ dport: 4789 })
      .payload(new Uint8Array([8, 0, 0, 0, 1, 2, 3, 0])),
  ),
  'vxlan over IPv6': innerOf(
    packet()
      .ipv6()
      .hopByHop()
      .udp({ dport: 4789 })
      .payload(new Uint8Array([8, 0, 0, 0, 1, 2, 3, 0])),
  ),
  'vxlan that udp cuts': packet().ipv4().udp({ dport: 4789, length: 15 }).payload(8),
  gue: packet().vlan().ipv4().udp().gue().ipv4().tcp(),
} as const satisfies Readonly<Record<string, Packet>>;

const frames = Object.values(wire).map((frame) => frame.bytes());

/** The kernel's test runs at TC refuse frames whose EtherType says IP and that end within its header. */
function holdsItsHeader(frame: Uint8Array): boolean {
  const type = new DataView(frame.buffer, frame.byteOffset).getUint16(12);
  return frame.length >= 14 + (type === 0x800 ? 20 : type === 0x86dd ? 40 : 0);
}

/** The cases, on an engine; of frames that are cut or broken every so manieth. */
export function wireSuite(blueprint: Engine, every = 1): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  describe.each(['xdp', 'tcIngress'] as const)('at %s', (hook) => {
    test.each(Object.entries(programs))(
      '%s',
      async (_name, body) => {
        const changes = fc.array(fc.tuple(fc.nat(100), fc.nat(255)), { minLength: 1, maxLength: 3 });
        const broken = fc.tuple(fc.constantFrom(...frames), changes, fc.nat(20)).map(([bytes, changed, cut]) => {
          const copy = bytes.slice(0, Math.max(14, bytes.length - cut));
          for (const [at, value] of changed) if (at >= 12 && at < copy.length) copy[at] = value;
          return copy;
        });
        const cut = frames.flatMap((bytes) => [...truncations(bytes.subarray(0, 200), 14)]).filter((_, i) => i % every === 0);
        const all = [...frames, ...cut, ...fc.sample(broken, Math.ceil(500 / every))];
        await agree(
          testing,
          engine,
          stageOf(body, { hook, uses }),
          hook === 'tcIngress' && engine.kind === 'kernel' ? all.filter(holdsItsHeader) : all,
        );
      },
      60_000,
    );
  });

  test('the packets are what their names say', async () => {
    await using live = await testing.runner(stageOf(`${probe(names)} ${flags} return ctx.next();`, { uses }), { engine, attach: true });
    const bits = (found: number): string => names.filter((_, i) => found & (1 << i)).join(' ');
    const told: string[] = [];
    for (const [name, frame] of Object.entries(wire)) {
      await live.run(frame);
      const { found, protocol, fragment, tags, tcis } = live.handle(uses.seen).get(0) ?? expect.unreachable();
      const rest = `${fragment ? ', fragment' : ''}${tags ? `, tags 0x${tcis.toString(16).padStart(8, '0')}` : ''}`;
      told.push(`${name}: ${bits(found)}; protocol ${protocol}${rest}`);
    }
    expect(told).toMatchInlineSnapshot(`
    [
      "arp: arp; protocol 255",
      "tagged arp: arp; protocol 255, tags 0x00070000",
      "one tag: ipv4 tcp ports; protocol 6, tags 0xbabc0000",
      "one tag of 802.1ad over IPv6: ipv6 udp ports; protocol 17, tags 0x00010000",
      "two tags: ipv4 udp ports; protocol 17, tags 0x00050006",
      "two tags the other way: ipv6 tcp ports; protocol 6, tags 0x00050006",
      "three tags: ; protocol 255, tags 0x00010001",
      "a tag over nothing known: ; protocol 255, tags 0x00010000",
      "hop-by-hop: ipv6 tcp ports; protocol 6",
      "routing of 40 bytes: ipv6 udp ports; protocol 17",
      "three headers behind a tag: ipv6 icmpv6; protocol 58, tags 0x00010000",
      "destination, fragment, destination: ipv6 ipv6Fragment udp ports; protocol 17, fragment",
      "a later fragment: ipv6 ipv6Fragment; protocol 17, fragment",
      "a fragment that is whole: ipv6 ipv6Fragment tcp ports; protocol 6",
      "two fragment headers: ipv6 ipv6Fragment; protocol 255",
      "six headers: ipv6 tcp ports; protocol 6",
      "seven headers: ipv6; protocol 255",
      "authentication ends the walk: ipv6; protocol 51",
      "no next header: ipv6; protocol 59",
      "a header that is longer than the payload: ipv6; protocol 255",
      "the longest header: ipv6 udp ports; protocol 17",
      "a piece of IPv4: ipv4 udp ports; protocol 17, fragment",
      "a later piece of IPv4: ipv4; protocol 17, fragment",
      "gre: ipv4 gre; protocol 47",
      "gre over IPv6 behind a tag: ipv6 gre; protocol 47, tags 0x00010000",
      "vxlan: ipv4 udp ports vxlan; protocol 17",
      "vxlan over IPv6: ipv6 udp ports vxlan; protocol 17",
      "vxlan that udp cuts: ipv4 udp ports; protocol 17",
      "gue: ipv4 udp ports gue; protocol 17, tags 0x00010000",
    ]
  `);
  });
}
