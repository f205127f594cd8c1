/** The card's sum over the packet (CHECKSUM_COMPLETE) is right after whatever a stage at TC has written: the engine compares. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { array, be16, be32, packed, struct, u8, u16, u64 } from '@tailrace/stage';
import { type Packet, packet, runner, simulate } from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { stageOf } from '../fixture.ts';

const uses = {
  Byte: packed({ b: u8 }),
  Short: packed({ s: be16 }),
  Word: packed({ w: be32 }),
  Long: packed({ a: u8, l: u64, s: u16 }),
  Bytes: array(u8, 5),
  Pair: struct({ one: be32, two: be32 }),
};
const options = new Uint8Array(12).fill(1);
const packets = {
  tcp: packet().ipv4().tcp({ seq: 77 }).payload(63),
  udp: packet().ipv4({ options }).udp({ sport: 9 }).payload(50),
  'udp without a sum': packet().ipv4().udp({ checksum: 0 }).payload(70),
  tcp6: packet().ipv6().tcp().payload(40),
  udp6: packet().ipv6().hopByHop().udp().payload(64),
  icmpv6: packet().ipv6().icmpv6().payload(60),
  tagged: packet().vlan({ id: 7 }).ipv4().udp().payload(50),
} as const satisfies Readonly<Record<string, Packet>>;

/** Random rewrites. */
function rewrite(choices: readonly number[]): string {
  let at = 0;
  const draw = (below: number): number => (choices[at++] ?? 0) % below;
  const pick = <T>(list: readonly T[]): T => list[draw(list.length)] as T;
  const lines: string[] = [];
  while (at < choices.length) {
    const name = `h${lines.length}`;
    const statement = pick([
      () => `const ${name} = ctx.ipv4(); if (${name}) { ${name}.${pick(['ttl', 'tos', 'id', 'saddr', 'checksum'])} = r & 255; }`,
      () =>
        `const ${name} = ctx.ipv6(); if (${name}) { ${pick(['hopLimit = r & 255', 'saddr.lo = 77n', 'daddr.hi = 123456789123n'].map((w) => `${name}.${w}`))}; }`,
      () =>
        `const ${name} = ctx.${pick(['udp', 'ports'])}(); if (${name}) { ${name}.${pick(['sport', 'dport'])} = ${draw(65_536)}; r += ${name}.sport; }`,
      () => `const ${name} = ctx.tcp(); if (${name}) { ${name}.${pick(['seq', 'window', 'flags', 'checksum'])} = r & 0xff; }`,
      () =>
        `const ${name} = ctx.at(${pick(['Byte', 'Short', 'Word'])}, ${pick(['13', '14', '47', '(r & 63)', '60 + (r & 7)'])}); if (${name}) { r = (r * 31 + 5) & 0xffff; ${name}.KEY = r & 0x7f; }`,
      () =>
        `{ const t = ctx.tcp(); if (t) { ctx.updateChecksum(t, t.dport, ${draw(65_536)}); } else { const u = ctx.udp(); if (u) ctx.updateChecksum(u, ${draw(9999)}, r & 0xffff${pick([", 'pseudoHeader'", ''])}); } }`,
      () => `if (r & ${1 << draw(4)}) { const x = ctx.at(Long, ${draw(60)}); if (x) x.l = 0x0102030405060708n; }`,
    ])();
    const key = { Byte: 'b', Short: 's', Word: 'w' }[/ctx\.at\((\w+)/.exec(statement)?.[1] ?? ''] ?? 'b';
    lines.push(statement.replace('KEY', key));
  }
  return `let r = 1;\n${lines.join('\n')}\nreturn ${pick(['ctx.pass()', 'r & 1 ? ctx.pass() : ctx.drop()'])};`;
}

/** Even and odd places, in every header and across their ends. */
const PLACES = [12, 13, 14, 15, 20, 33, 34, 47, 50];

/** The cases, on an engine; properties are tried so many times, and single stores are made at those places. */
export function packetSumSuite(blueprint: Engine, runs = Number(process.env.TAILRACE_RUNS ?? 10), places = PLACES): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  /** Runs a body over packets; the engine fails the run where the sum is wrong. */
  async function summed(body: string, over: readonly Packet[] = Object.values(packets)): Promise<void> {
    const stage = stageOf(body, { hook: 'tcIngress', uses });
    await using live = await runner(stage, { engine, attach: true });
    for (const frame of over) {
      const expected = simulate(stage, frame.bytes());
      const result = await live.run(frame, { checksumComplete: true }).catch((error: unknown) => expect.fail(`${String(error)}\n${body}`));
      expect(Buffer.from(result.packet).toString('hex'), body).toBe(Buffer.from(expected.packet).toString('hex'));
    }
  }

  test('single stores, at even and odd places, by every size', async () => {
    for (const at of places)
      for (const write of [
        'Byte).b = 200',
        'Short).s = 0x1234',
        'Word).w = 0xfedcba98',
        'Long).l = 0x123456789abcdef1n',
        'Bytes)[3] = 7',
      ]) {
        const [schema, rest] = write.split(')') as [string, string];
        await summed(`const h = ctx.at(${schema}, ${at}); if (h) h${rest}; return ctx.pass();`);
      }
  }, 60_000);

  test('at computed places, and across the end of the link header', async () => {
    for (const [schema, field] of [
      ['Byte', 'b'],
      ['Short', 's'],
      ['Word', 'w'],
    ] as const)
      for (const first of [9, 12, 13, 14, 15, 40])
        await summed(
          `const b = ctx.at(Byte, 11); const h = ctx.at(${schema}, ${first} + ((b ? b.b : 0) & 1)); if (h) h.${field} = 0x7b; return ctx.pass();`,
        );
  }, 60_000);

  test('structs, and what only some paths store', async () => {
    await summed(`const ip = ctx.ipv4(); if (ip && ip.ttl > 3) { ip.ttl -= 1; ip.tos = 4; } else { const six = ctx.ipv6(); if (six) { six.hopLimit = 9; six.daddr = six.saddr; } }
    const t = ctx.tcp(); if (t) return ctx.drop(); const u = ctx.udp(); if (u) u.dport = 7; return ctx.pass();`);
    await summed(
      `const p = ctx.at(Pair, 40); const q = ctx.at(Pair, 49); if (p && q) { q.one = p.two; p.two = q.two; } return ctx.next();`,
    );
    await summed('const e = ctx.ethernet(); if (e) { e.src = 5; e.dst = 6; } return ctx.pass();');
  });

  test('rewriting with the checksums in step', async () => {
    await summed(`const ip = ctx.ipv4(); if (!ip) return ctx.pass();
    const t = ctx.tcp(); const u = ctx.udp(); const to = 0x0a000009;
    if (t) { ctx.updateChecksum(t, ip.saddr, to, 'pseudoHeader'); ctx.updateChecksum(t, t.dport, 8080); t.dport = 8080; }
    if (u) { ctx.updateChecksum(u, ip.saddr, to, 'pseudoHeader'); ctx.updateChecksum(u, u.dport, 8080); u.dport = 8080; }
    ip.checksum = ctx.checksumReplace(ip.checksum, ip.saddr, to); ip.saddr = to; return ctx.pass();`);
    await summed(`const ip = ctx.ipv6(); if (!ip) return ctx.pass();
    const t = ctx.tcp(); const u = ctx.udp(); const i = ctx.icmpv6(); const to = { hi: 5n, lo: 0xffffffffffffn };
    if (t) { ctx.updateChecksum(t, ip.saddr, to, 'pseudoHeader'); ctx.updateChecksum(t, t.dport, 8080); t.dport = 8080; }
    if (u) { ctx.updateChecksum(u, ip.saddr, to, 'pseudoHeader'); ctx.updateChecksum(u, u.sport, 53); u.sport = 53; }
    if (i) ctx.updateChecksum(i, ip.saddr, to, 'pseudoHeader');
    ip.saddr.hi = to.hi; ip.saddr.lo = to.lo; return ctx.pass();`);
  });

  test('before and after the packet moves', async () => {
    await summed(
      `const ip = ctx.ipv4(); if (ip) ip.ttl = 9; if (!ctx.pushVlan(77)) return ctx.drop(); const again = ctx.ipv4(); if (again) again.tos = 3; return ctx.pass();`,
    );
    // of tags in the frame the kernel's test runs lose track themselves: they are not at ingress
    const { tagged, ...untagged } = packets;
    await summed(
      `if (!ctx.pushVlan(77)) return ctx.drop(); const u = ctx.udp(); if (u) u.dport = 9; if (!ctx.popVlan()) return ctx.drop(); const again = ctx.ipv4(); if (again) again.tos = 3; return ctx.pass();`,
      Object.values(untagged),
    );
    // a new length makes the kernel forget the sum (CHECKSUM_NONE), though its test runs compare it all the same: zeros change none
    await summed(`const ip = ctx.ipv4(); if (ip) ip.ttl = 9; if (!ctx.adjustTail(8)) return ctx.drop(); return ctx.pass();`);
  });

  test('random rewrites', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(70_000), { minLength: 8, maxLength: 24, size: 'max' }), (choices) => summed(rewrite(choices))),
      { numRuns: runs, interruptAfterTimeLimit: 12_000 },
    );
  }, 60_000);
}
