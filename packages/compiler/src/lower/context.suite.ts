/** What ctx does to packets: checksums, places, moves of both ends, length, metadata and redirects. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { array, be16, bool, devmap, fn, Ipv4, i64, mac, nothing, packed, stage, struct, Tcp, u8, u16, u32, u64 } from '@tailrace/stage';
import * as testing from '@tailrace/testing';
import { packet, run, truncations } from '@tailrace/testing';
import '@tailrace/testing/matchers';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { agree, stageOf, type TextOptions } from '../fixture.ts';

/** The cases, on an engine. */
export function contextSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  const bytes = fc.sample(fc.uint8Array({ minLength: 100, maxLength: 100 }), { numRuns: 20, seed: 3 });
  const good = [
    packet().ipv4().tcp({ syn: true }).payload(10),
    packet()
      .ipv4({ options: new Uint8Array(12).fill(1) })
      .udp()
      .payload(7),
    packet()
      .ipv4({ options: new Uint8Array(40).fill(7) })
      .icmp(),
    packet().ipv6().tcp(),
  ].map((p) => p.bytes());
  const check = (body: string, frames: readonly Uint8Array[], options: TextOptions = {}) =>
    agree(testing, engine, stageOf(body, options), frames);

  describe('checksums', () => {
    test('over headers with options, in place', async () => {
      const body = `const ip = ctx.ipv4(); if (!ip) return ctx.drop(); const before = ip.checksum; ip.checksum = 0; ip.checksum = ctx.checksum(ip, ip.headerLength); return ip.checksum === before ? ctx.exit('same') : ctx.exit('other');`;
      const outcomes = await check(body, [...good, ...good.flatMap((g) => [...truncations(g, 34)])]);
      expect(outcomes.slice(0, 4).map((o) => o.exit ?? o.verdict)).toEqual(['same', 'same', 'same', 'drop']);
    });

    test('over any bytes, of a length that is known, of one that is not, of none', async () => {
      const Part = struct({ words: array(u16, 10), q: u64 });
      const Byte = struct({ b: u8 });
      const body = `const p = ctx.at(Part, 2); const q = ctx.at(Byte, 0); if (!p || !q) return ctx.drop(); ctx.meta.whole = ctx.checksum(p); ctx.meta.fixed = ctx.checksum(p, 8); ctx.meta.longer = ctx.checksum(p, 80);
      ctx.meta.some = ctx.checksum(p, q.b & 0x7c); ctx.meta.odd = ctx.checksum(p, q.b & 63); ctx.meta.none = ctx.checksum(p, 0); const m = ctx.at(Part, q.b & 31); if (m) ctx.meta.moved = ctx.checksum(m, (q.b >> 2) + 4); return ctx.next();`;
      const writes = Object.fromEntries(['whole', 'fixed', 'longer', 'some', 'odd', 'none', 'moved'].map((name) => [name, u16]));
      await check(body, [...bytes, new Uint8Array(100), new Uint8Array(100).fill(255), ...truncations(bytes[0] as Uint8Array, 30)], {
        uses: { Part, Byte },
        writes,
      });
    });

    test('after a word changed', async () => {
      const Words = packed({ check: be16, from: be16, to: be16, long: struct({ hi: be16, lo: be16 }), d: u32, e: u32 });
      const body = `const w = ctx.at(Words, 0); if (!w) return ctx.drop(); ctx.meta.a = ctx.checksumReplace(w.check, w.from, w.to); ctx.meta.b = ctx.checksumReplace(w.check, w.d, w.e); ctx.meta.c = ctx.checksumReplace(w.check, w.d, 5);
      ctx.meta.d = ctx.checksumReplace(0x1234, 0xffff, w.to); ctx.meta.e = ctx.checksumReplace(ctx.checksumReplace(w.check, w.d, w.e), w.from, 0); return ctx.next();`;
      const writes = { a: u16, b: u16, c: u16, d: u16, e: u16 };
      await check(body, [...bytes, new Uint8Array(100), new Uint8Array(100).fill(255)], { uses: { Words }, writes });
    });

    test('a rewritten packet stays valid', async () => {
      const nat = stage({
        name: 'nat',
        hook: 'xdp',
        uses: { to: 0x0a090807, port: 8080 },
        program(ctx, { to, port }) {
          const ip = ctx.ipv4();
          const tcp = ctx.tcp();
          if (!ip || !tcp) return ctx.next();
          ip.checksum = ctx.checksumReplace(ip.checksum, ip.daddr, to);
          tcp.checksum = ctx.checksumReplace(tcp.checksum, ip.daddr, to);
          tcp.checksum = ctx.checksumReplace(tcp.checksum, tcp.dport, port);
          ip.daddr = to;
          tcp.dport = port;
          ip.ttl -= 1;
          ip.checksum = ctx.checksumReplace(ip.checksum, (ip.ttl + 1) << 8, ip.ttl << 8);
          return ctx.tx();
        },
      });
      const [outcome] = await agree(testing, engine, nat, good);
      expect(outcome?.packet).toHaveValidChecksums();
      expect(outcome?.packet).toEqualPacket(packet().ipv4({ daddr: '10.9.8.7', ttl: 63 }).tcp({ syn: true, dport: 8080 }).payload(10));
    });
  });

  describe('moves', () => {
    const Eth = struct({ dst: mac, src: mac, etherType: be16 });
    const moves = {
      'room in front':
        'if (!ctx.adjustHead(-20)) return ctx.drop(); const ip = ctx.at(Ipv4, 14); if (!ip) return ctx.abort(); ip.ttl = 9; ip.saddr = 0x01020304; ctx.meta.length = ctx.length; return ctx.tx();',
      'bytes cut off in front':
        'const before = ctx.length; const ok = ctx.adjustHead(14); ctx.meta.length = before * 1000 + ctx.length; return ok ? ctx.exit("cut") : ctx.next();',
      'too much':
        'ctx.meta.length = (ctx.adjustHead(4000) ? 1 : 2) + (ctx.adjustHead(-4000) ? 10 : 20) + (ctx.adjustTail(-4000) ? 100 : 200) + (ctx.adjustTail(30000) ? 1000 : 2000); return ctx.next();',
      'the tail':
        'if (!ctx.adjustTail(20)) return ctx.drop(); const end = ctx.at(Eth, ctx.length - 14 & 0x7fff); if (end) { ctx.meta.length = end.dst === 0 ? 1 : 2; end.src = 0x0a0b0c0d0e0f; } return ctx.adjustTail(-5) ? ctx.tx() : ctx.next();',
      'by what the packet says':
        'const ip = ctx.ipv4(); if (!ip) return ctx.next(); const by = ip.headerLength; if (!ctx.adjustHead(by)) return ctx.drop(); const eth = ctx.ethernet(); if (!eth) return ctx.drop(); eth.etherType = by; ctx.meta.length = ctx.length; return ctx.tx();',
      'both paths':
        'const ip = ctx.ipv4(); if (ip && ip.ttl > 60) { if (!ctx.adjustHead(-4)) return ctx.drop(); } else if (ctx.length > 60) { if (!ctx.adjustHead(-8)) return ctx.drop(); const eth = ctx.ethernet(); if (eth) eth.src = 1; } const eth = ctx.ethernet(); if (!eth) return ctx.drop(); eth.dst = 2; ctx.meta.length = ctx.length; return ctx.tx();',
      'headers found on both paths':
        'if (ctx.length > 60) { ctx.adjustHead(-4); const e = ctx.ethernet(); if (!e) return ctx.drop(); e.etherType = 0x800; } else { ctx.adjustHead(-6); const e = ctx.ethernet(); if (!e) return ctx.drop(); e.etherType = 5; ctx.ipv4(); } const e = ctx.ethernet(); if (!e) return ctx.abort(); ctx.meta.length = e.etherType; const ip = ctx.ipv4(); if (ip) ip.ttl = 3; return ctx.tx();',
      'again and again':
        'for (let i = 0; i < 3; i++) { if (!ctx.adjustHead(i === 1 ? -8 : 4)) return ctx.drop(); const e = ctx.ethernet(); if (!e) return ctx.abort(); if (e.src === 7) break; e.src = i; ctx.meta.length = ctx.meta.length * 100 + ctx.length; } return ctx.tx();',
      'what was read before':
        'const eth = ctx.ethernet(); if (!eth) return ctx.drop(); const { dst, src } = eth; const type = eth.etherType; if (!ctx.adjustHead(-14)) return ctx.drop(); const now = ctx.at(Eth, 0); const old = ctx.at(Eth, 14); if (!now || !old) return ctx.drop(); now.dst = src; now.src = dst; now.etherType = type; old.src = now.src; ctx.meta.length = ctx.offsetOf(old); return ctx.tx();',
    };
    const frames = [...good, ...bytes.slice(0, 4), ...truncations(good[0] as Uint8Array, 14)];
    test.each(Object.entries(moves))('%s', async (_name, body) => {
      await check(body, frames, { uses: { Ipv4, Eth }, writes: { length: u32 } });
    });
  });

  test('places in the packet', async () => {
    const Byte = struct({ b: u8 });
    const Wide = packed({ q: u64, m: mac });
    const body = `let sum = 0; for (let i = 0; i < 30; i += 7) { const p = ctx.at(Byte, i); if (p) sum += p.b * (i + 1); } const start = ctx.at(Byte, 0); if (!start) return ctx.drop();
    const a = ctx.at(Wide, start.b); if (a) { sum += ctx.offsetOf(a) * 10000; a.m = 0x010203040506; } const b = ctx.at(Wide, start.b * 128 + 127 & 0x7fff); if (b) sum += 5; const c = ctx.at(Byte, 0x7fff); if (c) sum += 7; const d = ctx.at(Wide, 86); if (d) d.q += 1n; const e = ctx.at(Wide, 87); if (e) sum = 0;
    const t = ctx.at(Tcp, (start.b & 15) * 4); if (t && t.syn && !t.fin) sum += t.headerLength; ctx.meta.sum = sum >>> 0; return ctx.next();`;
    await check(body, [...bytes, ...truncations(bytes[1] as Uint8Array, 14)], { uses: { Byte, Wide, Tcp }, writes: { sum: u32 } });
  });

  test('metadata of every kind', async () => {
    const reads = { mark: u8, flow: struct({ a: u8, b: u32, list: array(u16, 3) }), when: u64 };
    const writes = { mark: u8, out: struct({ a: u8, b: u32, list: array(u16, 3) }), on: bool, l: i64, address: mac };
    const text = `const m = ctx.meta; m.mark += ctx.meta.flow.a; ctx.meta.out = m.flow; m.out.list[1] = m.flow.list[2] * 2; m.on = m.when > 5n; m.l = -m.when; m.address = m.flow.b * 7; if (m.mark > 100) m.out = { a: 1, b: m.mark, list: [1, 2, 3] }; const { list } = m.out; list[0] = list[0] ^ 0xff; m.mark++; return m.on ? ctx.next() : ctx.exit('off');`;
    for (const meta of [
      { mark: 250, when: 4n, flow: { a: 9, b: 70000, list: [1, 2, 65535] } },
      { mark: 1, when: 2n ** 63n, flow: { a: 1, b: 0xffffffff, list: [9, 8, 7] } },
      {},
    ])
      await agree(testing, engine, stageOf(text, { reads, writes }), good, { meta });
  });

  test('redirects', async () => {
    const ports = devmap({ name: 'ports', maxEntries: 4 });
    const packets = [0, 1, 2, 3, 5].map((ttl) => packet().ipv4({ ttl }).udp().bytes());
    const text =
      'const ip = ctx.ipv4(); if (!ip) return ctx.drop(); return ip.ttl === 5 ? ctx.redirect(1) : ip.ttl === 0 ? ctx.redirect(ip.ttl + 1) : ctx.redirect(ports, ip.ttl);';
    const outcomes = await agree(testing, engine, stageOf(text, { uses: { ports } }), packets);
    expect(outcomes.map((o) => o.verdict)).toEqual(['redirect', 'abort', 'abort', 'abort', 'redirect']);
  });

  test('the machine', async () => {
    const ask = stage({
      name: 'ask',
      hook: 'xdp',
      writes: { now: u64, coarse: u64, random: u32, other: u32, cpu: u32, ifindex: u32, queue: u32, length: u32 },
      program(ctx) {
        ctx.meta.coarse = ctx.nowCoarse();
        ctx.meta.now = ctx.now();
        ctx.meta.random = ctx.random();
        ctx.meta.other = ctx.random();
        ctx.meta.cpu = ctx.cpu();
        ctx.meta.ifindex = ctx.ingressIfindex;
        ctx.meta.queue = ctx.rxQueue;
        ctx.meta.length = ctx.length;
        return ctx.next();
      },
    });
    const { meta } = await run(ask, packet().ipv4().udp().payload(3000), { engine });
    const boot = process.hrtime.bigint();
    expect(boot - (meta.now as bigint)).toSatisfy((age: bigint) => age >= 0n && age < 60_000_000_000n);
    expect((meta.now as bigint) - (meta.coarse as bigint)).toSatisfy((age: bigint) => age >= 0n && age < 1_000_000_000n);
    expect(meta.random).not.toBe(meta.other);
    expect(meta.cpu).toBeLessThan(engine.cpus);
    expect(meta).toMatchObject({ ifindex: 1, queue: 0, length: 3042 });
  });

  test('members of ctx under other names', async () => {
    const bump = fn([u8], nothing, () => undefined);
    const text =
      "const c = ctx; const { drop, ipv4, exit, meta } = c; const ip = ipv4(); bump(1); meta.n = c.length; if (!ip) return drop(); return ip.ttl > 3 ? exit('high') : c['next']();";
    const outcomes = await check(text, good, { uses: { bump }, writes: { n: u32 } });
    expect(outcomes.map((o) => o.exit ?? o.verdict)).toEqual(['high', 'high', 'high', 'drop']);
  });
}
