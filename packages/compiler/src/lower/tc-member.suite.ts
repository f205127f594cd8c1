/** What TC's members do, in test runs: fields of the packet, metadata in cb, the tail, what redirects return. */
import type { Engine, EngineInstance, TestRunOptions } from '@tailrace/bpf';
import { array, arrayMap, be32, mac, packed, struct, toMapSpec, u8, u16, u32, u64 } from '@tailrace/stage';
import * as testing from '@tailrace/testing';
import { packet } from '@tailrace/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { compileStage } from '../compile.ts';
import { agree, stageOf, type TextOptions } from '../fixture.ts';

const PASS = 0xffff_ffff;
const DROP = 2;
const REDIRECT = 7;

const frame = packet().ipv4().udp().payload(20).bytes();

/** The cases, on an engine. */
export function tcMemberSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  async function runAtTc(body: string, input: TestRunOptions, options: TextOptions = {}) {
    const program = await engine.loadProgram(compileStage(stageOf(body, { hook: 'tcIngress', ...options })).program, new Map());
    try {
      return await program.testRun(input);
    } finally {
      program.close();
    }
  }

  describe('test runs', () => {
    test('mark and priority are read and written', async () => {
      const body = 'ctx.mark = ctx.mark * 2 + ctx.priority; ctx.priority -= 1; return ctx.mark > 20 ? ctx.drop() : ctx.pass();';
      const { returnValue, skb } = await runAtTc(body, { packet: frame, skb: { mark: 10, priority: 3 } });
      expect({ returnValue, mark: skb?.mark, priority: skb?.priority }).toEqual({ returnValue: DROP, mark: 23, priority: 2 });
      expect((await runAtTc(body, { packet: frame, skb: { mark: 2, priority: 3 } })).returnValue).toBe(PASS);
    });

    test('words wrap as typed arrays do', async () => {
      const { skb } = await runAtTc('ctx.mark -= 1; ctx.priority = -5; return ctx.next();', { packet: frame });
      expect([skb?.mark, skb?.priority]).toEqual([0xffff_ffff, 0xffff_fffb]);
    });

    test('the queue is what was written', async () => {
      const body = 'ctx.mark = ctx.queue; ctx.queue = 0xfffe; ctx.priority = ctx.queue; return ctx.pass();';
      const { skb } = await runAtTc(body, { packet: frame });
      expect([skb?.mark, skb?.priority]).toEqual([0, 0xfffe]);
    });

    test.each([
      [0, 1],
      [1, 1],
      [45, 45],
    ])('a packet of %i gso segments stands for %i', async (gsoSegments, segments) => {
      const { skb } = await runAtTc('ctx.mark = ctx.segments; return ctx.pass();', { packet: frame, skb: { gsoSegments } });
      expect(skb?.mark).toBe(segments);
    });

    test('length, interfaces and the hash', async () => {
      const body = `ctx.meta.length = ctx.length; ctx.meta.ifindex = ctx.ifindex; ctx.meta.ingress = ctx.ingressIfindex;
      const first = ctx.hash; ctx.meta.same = first === ctx.hash ? 1 : 0; ctx.mark = first; return ctx.pass();`;
      const writes = { length: u32, ifindex: u32, ingress: u32, same: u32 };
      const { skb } = await runAtTc(body, { packet: frame, skb: { ifindex: 1, ingressIfindex: 1 } }, { writes });
      expect(words(skb?.cb)).toEqual([frame.length, 1, 1, 1, 0]);
      expect(skb?.mark).not.toBe(0);
    });

    test('metadata of every shape lie in cb', async () => {
      const writes = { flow: struct({ a: u8, b: u16, list: array(u16, 2) }), big: u64, tail: u32 };
      const reads = { tail: u32 };
      const body = `ctx.meta.flow = { a: 1, b: 0x1234, list: [5, 6] }; ctx.meta.flow.list[1] += ctx.meta.flow.a;
      ctx.meta.big = 0x1122334455667788n; ctx.meta.tail += 3; return ctx.pass();`;
      const cb = new Uint8Array(20).fill(0xff);
      const { skb } = await runAtTc(body, { packet: frame, skb: { cb } }, { reads, writes });
      expect([...(skb?.cb ?? [])]).toEqual([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 2, 0, 0, 0, 1, 0, 0x34, 0x12, 5, 0, 7, 0]);
    });

    test('metadata off their alignment, addresses and copies', async () => {
      const hop = packed({ port: u8, address: be32, hw: mac });
      const body = `const e = ctx.ethernet(); if (!e) return ctx.drop(); const ip = ctx.ipv4(); if (!ip) return ctx.drop();
      ctx.meta.hop = { port: 9, address: ip.daddr, hw: e.src };
      e.dst = ctx.meta.hop.hw; ip.saddr = ctx.meta.hop.address; return ctx.meta.hop.port === 9 ? ctx.pass() : ctx.drop();`;
      const { skb, packet: left, returnValue } = await runAtTc(body, { packet: frame }, { writes: { hop } });
      expect(returnValue).toBe(PASS);
      expect([...(skb?.cb.subarray(0, 11) ?? [])]).toEqual([9, ...frame.subarray(30, 34), ...frame.subarray(6, 12)]);
      expect([...left.subarray(0, 6)]).toEqual([...frame.subarray(6, 12)]);
      expect([...left.subarray(26, 30)]).toEqual([...frame.subarray(30, 34)]);
    });

    test('metadata as a key', async () => {
      const seen = arrayMap({ name: 'seen', value: u64, maxEntries: 4 });
      const subject = stageOf(
        'ctx.meta.at = 2; const s = seen.lookup(ctx.meta.at); if (!s) return ctx.drop(); s.value += 7n; return ctx.pass();',
        {
          hook: 'tcEgress',
          uses: { seen },
          writes: { at: u32 },
        },
      );
      const map = engine.createMap(toMapSpec(seen, 'seen'));
      const program = await engine.loadProgram(compileStage(subject).program, new Map([['seen', map]]));
      expect((await program.testRun({ packet: frame })).returnValue).toBe(PASS);
      expect(map.lookup(Uint8Array.of(2, 0, 0, 0))?.[0]).toBe(7);
      program.close();
      map.close();
    });

    test.each([
      ['-5', frame.length - 5, PASS],
      ['0', frame.length, PASS],
      ['100', frame.length + 100, PASS],
      ['ctx.mark & 0x1ff', frame.length + 0x1ab, PASS],
      ['-1000', frame.length, DROP],
      ['-(ctx.mark & 0xff)', frame.length, DROP],
    ])('adjustTail(%s)', async (delta, length, verdict) => {
      const body = `return ctx.adjustTail(${delta}) && ctx.length === ${length} ? ctx.pass() : ctx.drop();`;
      const { packet: left, returnValue } = await runAtTc(body, { packet: frame, skb: { mark: 0x1ab } });
      expect(returnValue).toBe(verdict);
      expect(left.length).toBe(length);
      const kept = Math.min(length, frame.length);
      expect([...left.subarray(0, kept)]).toEqual([...frame.subarray(0, kept)]);
      expect(left.subarray(kept).every((byte) => byte === 0)).toBe(true);
    });

    test('headers from before a move are refused, headers after it are there', async () => {
      const body =
        'if (!ctx.adjustTail(-4)) return ctx.drop(); const ip = ctx.ipv4(); if (!ip) return ctx.drop(); ip.ttl = 9; return ctx.pass();';
      expect((await runAtTc(body, { packet: frame })).packet[22]).toBe(9);
    });

    test('a packet that came out of no tunnel has no key', async () => {
      expect(
        (await runAtTc("return ctx.tunnelKey() || ctx.tunnelKey('ipv6') ? ctx.drop() : ctx.pass();", { packet: frame })).returnValue,
      ).toBe(PASS);
    });

    test('what a redirect returns', async () => {
      for (const call of ['redirect(1)', 'redirectIngress(1)', 'redirectNeigh(1)', 'redirectPeer(1)'])
        expect((await runAtTc(`return ctx.${call};`, { packet: frame })).returnValue, call).toBe(REDIRECT);
    });
  });

  describe('as in JavaScript', () => {
    const key = (more: string): string =>
      `{ id: 1, remote: [1, 0, 0, 0], tos: 0, ttl: 64, extra: 0, label: 0, local: [0, 0, 0, 0]${more} }`;
    test.each([
      'for (let i = 0; i < 5; i++) { ctx.mark = ctx.mark * 3 + i; ctx.priority ^= ctx.mark; } return ctx.mark > ctx.priority ? ctx.drop() : ctx.next();',
      'ctx.mark++; ctx.priority = ctx.segments; return ctx.segments > 2 ? ctx.exit("many") : ctx.exit("few");',
      'if (ctx.mark > 100) { ctx.mark = 0; } else { ctx.mark = 100; } ctx.priority += ctx.mark; return ctx.priority === 107 ? ctx.pass() : ctx.drop();',
      'ctx.queue = ctx.mark & 0xff; ctx.queue = (ctx.queue + 4) & 0x7fff; ctx.mark = ctx.queue; return ctx.pass();',
      'const ok = ctx.adjustTail((ctx.mark & 31) - 16); ctx.mark = ok ? ctx.length : 0; return ok ? ctx.pass() : ctx.drop();',
      'const one = ctx.length; if (!ctx.adjustTail(70)) return ctx.drop(); ctx.mark = ctx.length - one; return ctx.ipv4() ? ctx.pass() : ctx.drop();',
      `ctx.mark = ctx.setTunnelKey(${key('')}) ? 1 : 0; ctx.priority = ctx.setTunnelKey(${key(', label: 5')}) ? 1 : 0; return ctx.pass();`,
      `ctx.mark = ctx.setTunnelKey(${key(', label: 5')}, 'ipv6') ? 1 : 0; ctx.priority = ctx.setTunnelKey(${key(', extra: 5')}) ? 1 : 0; return ctx.pass();`,
      'const k = ctx.tunnelKey(); if (k) { ctx.mark = k.id; } return k ? ctx.drop() : ctx.pass();',
      'return ctx.mark ? ctx.redirect(ctx.ifindex) : ctx.redirectPeer(1);',
    ])('%s', async (body) => {
      const frames = [frame, packet().ipv6().tcp().payload(40).bytes(), packet().ipv4().icmp().bytes()];
      for (const skb of [{}, { mark: 11, priority: 7 }, { mark: 0xffff_ffff, priority: 0x8000_0000, gsoSegments: 9 }])
        await agree(testing, engine, stageOf(body, { hook: 'tcIngress' }), frames, { skb });
    });
  });
}

const words = (cb: Uint8Array | undefined): number[] => {
  const view = new DataView(cb?.buffer ?? new ArrayBuffer(20), cb?.byteOffset);
  return [0, 4, 8, 12, 16].map((at) => view.getUint32(at, true));
};
