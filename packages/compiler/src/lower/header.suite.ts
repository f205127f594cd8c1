/** Headers are found on an engine where plain JavaScript finds them: over good, cut, fragmented and broken packets. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { be16, packed, struct, u8, u32 } from '@tailrace/stage';
import * as testing from '@tailrace/testing';
import { fragments, packet, truncations } from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { agree, stageOf } from '../fixture.ts';

/** Which headers there are, as bits, and a field of each. */
const names = ['ethernet', 'ipv4', 'ipv6', 'tcp', 'udp', 'icmp', 'icmpv6', 'ports'] as const;
const writes = { found: u32, tcpAt: u32, portsAt: u32, seq: u32, sport: be16, type: u8, headerLength: u32, flags: u32 };
const inOrder = (order: readonly string[]): string => `
  let found = 0;
  ${order.map((name) => `const ${name} = ctx.${name}(); if (${name}) found |= ${1 << names.indexOf(name as (typeof names)[number])};`).join('\n')}
  ctx.meta.found = found;
  if (tcp) { ctx.meta.tcpAt = ctx.offsetOf(tcp); ctx.meta.seq = tcp.seq; ctx.meta.headerLength = tcp.headerLength; }
  if (ports) { ctx.meta.portsAt = ctx.offsetOf(ports); ctx.meta.sport = ports.sport; }
  if (icmp) ctx.meta.type = icmp.type;
  if (icmpv6) ctx.meta.type = icmpv6.code;
  if (ipv4) ctx.meta.headerLength = ipv4.headerLength * 1000 + ctx.meta.headerLength;
  if (tcp && tcp.syn) ctx.meta.flags |= 1;
  return found ? ctx.exit('found') : ctx.next();`;
const probe = stageOf(inOrder(names), { writes });
const backwards = stageOf(inOrder([...names].reverse()), { writes });

const options = new Uint8Array(12).fill(1);
const good = {
  tcp: packet().ipv4().tcp({ syn: true, seq: 0x80000001 }).payload(5),
  'tcp with options': packet().ipv4({ options }).tcp({ ack: true }).payload(3),
  udp: packet().ipv4().udp().payload(9),
  'udp with 40 bytes of options': packet()
    .ipv4({ options: new Uint8Array(40).fill(1) })
    .udp(),
  icmp: packet().ipv4().icmp({ type: 8 }),
  'tcp over IPv6': packet().ipv6().tcp({ fin: true }),
  'udp over IPv6': packet().ipv6().udp().payload(20),
  icmpv6: packet().ipv6().icmpv6(),
  'IPv6 with an extension header': packet().ipv6({ nextHeader: 0 }).payload(60),
  'ICMPv6 over IPv4': packet().ipv4({ protocol: 58 }).payload(30),
  'ICMP over IPv6': packet().ipv6({ nextHeader: 1 }).payload(30),
  'a tunnel': packet().ipv4().ipv4().tcp(),
  arp: packet().ethernet({ etherType: 0x0806 }).payload(46),
};

/** Statements that look for headers, write what decides about them, and move the packet's ends. */
function walk(choices: readonly number[]): string {
  let at = 0;
  const draw = (below: number): number => (choices[at++] ?? 0) % below;
  const pick = <T>(list: readonly T[]): T => list[draw(list.length)] as T;
  const fields = {
    ethernet: ['etherType', 'src'],
    ipv4: ['ttl', 'protocol', 'totalLength', 'versionIhl', 'flagsFragment', 'saddr'],
    ipv6: ['nextHeader', 'payloadLength', 'hopLimit', 'versionClassFlow'],
    tcp: ['sport', 'flags'],
    udp: ['dport', 'length'],
    icmp: ['type'],
    icmpv6: ['code'],
    ports: ['sport', 'dport'],
  } as const;
  const values = {
    etherType: ['0x800', '0x86dd', '5'],
    protocol: ['6', '17', '1'],
    nextHeader: ['6', '17', '58'],
    totalLength: ['0', '20', '27', '40', '500'],
    payloadLength: ['0', '8', '20', '500'],
    versionIhl: ['0x45', '0x46', '0x44', '0x65', '0x4f'],
    flagsFragment: ['0', '0x2000', '0x2001', '0x4000'],
  } as Readonly<Record<string, readonly string[]>>;
  const found = (depth: number): string => {
    const name = pick(names);
    const field = pick(fields[name] as readonly string[]);
    const value = pick(values[field] ?? ['r & 255', '7']);
    const inside = [`r = (r * 31 + h.${field} + ctx.offsetOf(h)) >>> 0;`, `h.${field} = ${value};`, depth > 0 ? statement(depth - 1) : ''];
    return `{ const h = ctx.${name}(); if (h) { ${pick([inside[0], inside[1], `${inside[0]} ${inside[1]}`, `${inside[1]} ${inside[2]}`])} } else { r += ${draw(9)}; ${draw(3) === 0 && depth > 0 ? statement(depth - 1) : ''} } }`;
  };
  const statement = (depth: number): string => {
    switch (draw(7)) {
      case 0:
        return `if (ctx.adjustHead(${pick([-14, -8, -4, 2, 4, 14, 20])})) { r += 1; ${depth > 0 ? statement(depth - 1) : ''} } else r += 2;`;
      case 1:
        return `if (ctx.adjustTail(${pick([-10, -1, 4, 30])})) r += 3; r += ctx.length;`;
      case 2:
        return `{ const h = ctx.at(Word, ${pick(['12', '13', '20', '(r & 31)', '23'])}); if (h) { r = (r ^ h.w) >>> 0; ${pick(['', `h.w = ${pick(['0x800', '0x86dd', 'r & 0xffff'])};`])} } }`;
      default:
        return found(depth);
    }
  };
  const lines: string[] = [];
  while (at < choices.length) lines.push(statement(2));
  return `let r = 1;\n${lines.join('\n')}\nctx.meta.r = r >>> 0; return ctx.tx();`;
}

/** The cases, on an engine; properties are tried so many times. */
export function headerSuite(blueprint: Engine, runs = Number(process.env.TAILRACE_RUNS ?? 20)): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  describe.each([
    ['in order', probe],
    ['backwards', backwards],
  ])('%s', (_name, stage) => {
    test('good packets, whole and cut at every byte', async () => {
      const whole = Object.values(good).map((frame) => frame.bytes());
      const cut = whole.flatMap((bytes) => [...truncations(bytes, 14)]);
      const results = await agree(testing, engine, stage, [...whole, ...cut]);
      expect(results.slice(0, whole.length).map(({ verdict }) => verdict)).toEqual(whole.map(() => 'exit'));
    });

    test('lengths, versions and fragments', async () => {
      const v4 = packet().ipv4();
      const bad = [
        ...Array.from({ length: 16 }, (_, ihl) => packet().ipv4({ ihl }).tcp().payload(60)),
        ...Array.from({ length: 16 }, (_, version) => packet().ipv4({ version }).udp()),
        ...Array.from({ length: 16 }, (_, version) => packet().ipv6({ version }).udp()),
        ...[0, 19, 20, 23, 24, 27, 28, 39, 40, 41, 59, 0xffff].flatMap((totalLength) => [
          packet().ipv4({ totalLength }).tcp(),
          packet().ipv4({ totalLength }).udp(),
          packet().ipv4({ totalLength, options }).tcp(),
          packet().ipv4({ totalLength }).icmp(),
        ]),
        ...[0, 1, 3, 4, 7, 8, 19, 20, 0xffff].flatMap((payloadLength) => [
          packet().ipv6({ payloadLength }).tcp(),
          packet().ipv6({ payloadLength }).udp(),
          packet().ipv6({ payloadLength }).icmpv6(),
        ]),
        ...[0, 8, 16, 8184, 65528].flatMap((fragmentOffset) => [
          v4,
          packet().ipv4({ fragmentOffset, moreFragments: true, protocol: 6 }).payload(40),
        ]),
        packet().ipv4({ dontFragment: true }).tcp(),
        packet().ethernet({ etherType: 0x86dd }).ipv4().tcp(),
        packet().ethernet({ etherType: 0x0800 }).ipv6().tcp(),
      ].map((p) => p.bytes());
      const cut = fragments(
        packet()
          .ipv4({ options: new Uint8Array(8) })
          .udp()
          .payload(100),
        32,
      );
      await agree(testing, engine, stage, [...bad, ...cut]);
    });

    test('random bytes in headers', async () => {
      const seeds = Object.values(good).map((p) => p.bytes());
      const broken = fc
        .tuple(fc.constantFrom(...seeds), fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { minLength: 1, maxLength: 4 }), fc.nat(20))
        .map(([bytes, changes, cut]) => {
          const copy = bytes.slice(0, Math.max(14, bytes.length - cut));
          for (const [at, value] of changes) if (at >= 12 && at < copy.length) copy[at] = value;
          return copy;
        });
      await agree(testing, engine, stage, fc.sample(broken, 300));
    });
  });

  test('headers of other packages, at fixed and at computed places', async () => {
    const Vlan = struct({ tag: be16, inner: be16 });
    const Option = struct({ kind: u8, length: u8 });
    const body = `
    const vlan = ctx.at(Vlan, 14);
    if (!vlan) return ctx.drop();
    ctx.meta.tag = vlan.tag & 0xfff;
    const ip = ctx.ipv4();
    if (!ip) return ctx.exit('other');
    const end = ctx.at(Option, 14 + ip.headerLength);
    if (!end) return ctx.exit('short');
    end.kind = ip.ttl;
    const behind = ctx.at(Option, ctx.offsetOf(end) + ((vlan.inner >>> 3) & 31));
    if (behind) ctx.meta.found = ctx.offsetOf(behind) * 256 + behind.length;
    return ctx.next();`;
    const frames = [good.tcp, good['tcp with options'], good['udp with 40 bytes of options'], good.arp].flatMap((p) => [
      p.bytes(),
      ...truncations(p, 14),
    ]);
    await agree(testing, engine, stageOf(body, { uses: { Vlan, Option }, writes: { tag: u32, found: u32 } }), frames);
  });

  test('a header found on one path is looked for again where paths meet', async () => {
    const body = `
    let where = 0;
    if (ctx.length > 60) {
      const tcp = ctx.tcp();
      if (tcp) where = ctx.offsetOf(tcp);
    } else if (ctx.length > 50) {
      if (ctx.ipv4()) where = 1;
    } else if (!ctx.ethernet()) return ctx.drop();
    const ports = ctx.ports();
    const tcp = ctx.tcp();
    ctx.meta.found = where + (ports ? ports.dport : 0) + (tcp ? 1000000 : 0);
    return ctx.next();`;
    const frames = Object.values(good).flatMap((p) => [p.bytes(), ...truncations(p, 30)]);
    await agree(testing, engine, stageOf(body, { writes: { found: u32 } }), frames);
  });

  test('random walks over headers', async () => {
    const Word = packed({ w: be16 });
    const frames = [
      ...Object.values(good).map((p) => p.bytes()),
      good.tcp.bytes().slice(0, 50),
      good['udp over IPv6'].bytes().slice(0, 60),
    ];
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(1000), { minLength: 10, maxLength: 90, size: 'max' }), async (choices) => {
        await agree(testing, engine, stageOf(walk(choices), { uses: { Word }, writes: { r: u32 } }), frames);
      }),
      { numRuns: runs, interruptAfterTimeLimit: 20_000 },
    );
  }, 60_000);
}
