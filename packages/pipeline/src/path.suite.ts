/** Paths of test runs, at XDP and at TC: read off counters that real programs write. */
import { setImmediate } from 'node:timers/promises';
import type { Engine, EngineInstance, LoadedMap, LoadedProgram } from '@tailrace/bpf';
import { hash, ipv4Prefix, lpmTrie, stage, u8, u32, u64 } from '@tailrace/stage';
import { type Packet, packet } from '@tailrace/testing';
import { describe, expect, test } from 'vitest';
import type { PathStep } from './path.ts';
import { pipeline } from './pipeline.ts';

/** An engine, with a look at what a pipeline makes there. */
export function watched(engine: Engine) {
  const maps = new Map<string, LoadedMap>();
  const roots: LoadedProgram[] = [];
  const watching = (instance: EngineInstance): EngineInstance =>
    new Proxy(instance, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => {
          const result: unknown = value.apply(target, args);
          if (name === 'createMap') maps.set((result as LoadedMap).spec.name, result as LoadedMap);
          if (name === 'attach') roots.push(args[0] as LoadedProgram);
          return result;
        };
      },
    });
  const seen: Engine = { kind: engine.kind, open: async () => watching(await engine.open()) };
  return { engine: seen, maps, roots };
}

/** `a next, b drop (missed)`. */
export const shown = (path: readonly PathStep[] | undefined): string | undefined =>
  path?.map(({ stage, verdict, exit, missed }) => `${stage} ${exit ?? verdict}${missed ? ' (missed)' : ''}`).join(', ');

/** A datagram. */
export const udp = (ttl = 64, saddr = '10.0.0.1') => packet().ipv4({ ttl, saddr }).udp({ dport: 53 }).payload('hello');

const blocked = lpmTrie({ name: 'blocked', key: ipv4Prefix, value: u64, maxEntries: 16 });
const acl = stage({
  name: 'acl',
  hook: 'xdp',
  uses: { blocked },
  onMiss: 'drop',
  program(ctx, { blocked }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.exit('other');
    if (ip.ttl < 2) return ctx.exit('expired');
    return blocked.lookup({ prefixLen: 32, addr: ip.saddr }) ? ctx.drop() : ctx.next();
  },
});
const classify = stage({
  name: 'classify',
  hook: 'xdp',
  writes: { class: u8 },
  program(ctx) {
    const ip = ctx.ipv4();
    ctx.meta.class = ip ? ip.ttl & 3 : 0;
    return ctx.next();
  },
});
const steer = stage({
  name: 'steer',
  hook: 'xdp',
  reads: { class: u8 },
  program(ctx) {
    if (ctx.meta.class === 1) return ctx.exit('slow');
    if (ctx.meta.class === 2) return ctx.redirect(1);
    return ctx.meta.class === 3 ? ctx.abort() : ctx.next();
  },
});
const at = <const N extends string>(name: N) => stage({ name, hook: 'xdp', program: (ctx) => ctx.next() });
const reject = stage({ name: 'reject', hook: 'xdp', program: (ctx) => ctx.tx() });
const edge = pipeline('edge', {
  xdp: [acl.on({ expired: [at('log'), reject], other: 'pass' }), classify, steer.on({ slow: [at('queue'), 'next'] }), at('last')],
});

/** The cases, on an engine. */
export function pathSuite(engine: Engine): void {
  describe('at XDP', () => {
    test('every way out of a stage', async () => {
      await using running = await edge.run(watched(engine).engine);
      running.map(blocked).set({ prefixLen: 16, addr: 0x0a06_0000 }, 0n);
      const cases: readonly (readonly [what: string, frame: Packet, verdict: string, path: string])[] = [
        ['a line', udp(64), 'pass', 'acl next, classify next, steer next, last next'],
        ['a sub-chain behind an exit', udp(1), 'tx', 'acl expired, log next, reject tx'],
        ['an exit that is a verdict', packet().arp(), 'pass', 'acl other'],
        ['a verdict of a stage', udp(64, '10.6.0.1'), 'drop', 'acl drop'],
        ['metadata, a sub-chain that rejoins', udp(65), 'pass', 'acl next, classify next, steer slow, queue next, last next'],
        ['a redirect', udp(66), 'redirect', 'acl next, classify next, steer redirect'],
        ['an abort', udp(67), 'abort', 'acl next, classify next, steer abort'],
      ];
      for (const [what, frame, verdict, path] of [...cases, ...cases]) {
        const result = await running.run(frame.bytes());
        expect([what, result.verdict, shown(result.path)]).toEqual([what, verdict, path]);
      }
    });

    test('slots that are empty', async () => {
      const { engine: seen, maps } = watched(engine);
      await using running = await edge.run(seen);
      const array = maps.get('edge/xdp.array') as LoadedMap;
      const { stages } = running.describe().chains.xdp;
      const slot = (from: string, label: string) =>
        stages.find(({ name }) => name === from)?.edges.find((known) => known.label === label)?.slot ?? Number.NaN;
      await array.clearProgram(slot('steer', 'slow'));
      const slow = await running.run(udp(65).bytes());
      expect([slow.verdict, shown(slow.path)]).toEqual(['pass', 'acl next, classify next, steer slow (missed)']);
      await array.clearProgram(slot('acl', 'next'));
      const next = await running.run(udp().bytes());
      expect([next.verdict, shown(next.path)]).toEqual(['drop', 'acl next (missed)']);
      await maps.get('edge/xdp.entry')?.clearProgram(0);
      expect(await running.run(udp().bytes())).toMatchObject({ verdict: 'pass', path: [] });
    });

    test('replaced stages go by the names of their places', async () => {
      await using running = await edge.run(watched(engine).engine);
      const way = async (ttl: number) => shown((await running.run(udp(ttl).bytes())).path);
      await running.replace(reject, stage({ name: 'silence', hook: 'xdp', program: (ctx) => ctx.drop() }));
      expect(await way(1)).toBe('acl expired, log next, reject drop');
      const open = stage({ name: 'open', hook: 'xdp', program: (ctx) => (ctx.length > 9 ? ctx.next() : ctx.exit('expired')) });
      await running.replace(acl, open);
      expect(await way(1)).toBe('acl next, classify next, steer slow, queue next, last next');
      await running.replace(at('last'), reject.as('answer'));
      expect(await way(64)).toBe('acl next, classify next, steer next, last tx');
    });

    test('while stages are replaced, it is the packet’s own or none', async () => {
      await using running = await pipeline('swap', { xdp: [at('first'), at('second'), at('third')] }).run(engine);
      const ways = { pass: 'first next, second next, third next', tx: 'first next, second tx' };
      let [going, packets] = [true, 0];
      const seen = new Set<string>();
      const traffic = (async () => {
        while (going) {
          const { verdict, path } = await running.run(udp().bytes());
          seen.add(`${verdict}${path ? '' : ' without'}`);
          if (path) expect(shown(path)).toBe(ways[verdict as keyof typeof ways]);
          packets++;
          await setImmediate();
        }
      })();
      /** Lets a packet go its whole way while nothing is replaced. */
      const quiet = async (): Promise<void> => {
        for (const before = packets; packets < before + 2; ) await setImmediate();
      };
      await quiet();
      for (let i = 0; i < 4; i++) {
        await running.replace(at('second'), i % 2 === 0 ? reject : at('second'));
        const settled = await running.run(udp().bytes());
        expect(shown(settled.path)).toBe(i % 2 === 0 ? ways.tx : ways.pass);
      }
      going = false;
      await traffic;
      expect([...seen].every((what) => ['pass', 'tx', 'pass without', 'tx without'].includes(what))).toBe(true);
      expect(seen).toContain('pass');
    });
  });

  describe('at TC', () => {
    const tenants = hash({ name: 'tenants', key: u32, value: u64, maxEntries: 16 });
    const note = stage({
      name: 'note',
      hook: 'xdp',
      writes: { tenant: u32 },
      program(ctx) {
        const ip = ctx.ipv4();
        ctx.meta.tenant = ip ? ip.saddr & 0xff : 0;
        return ctx.next();
      },
    });
    const guard = stage({
      name: 'guard',
      hook: 'tcIngress',
      reads: { tenant: u32 },
      writes: { size: u32 },
      program(ctx) {
        ctx.meta.size = ctx.length;
        if (ctx.mark === 7) return ctx.exit('audit');
        return ctx.meta.tenant === 99 ? ctx.drop() : ctx.next();
      },
    });
    const account = stage({
      name: 'account',
      hook: 'tcIngress',
      reads: { size: u32 },
      uses: { tenants },
      onMiss: 'drop',
      program(ctx, { tenants }) {
        const known = tenants.lookup(1);
        if (known) known.value += BigInt(ctx.meta.size);
        return ctx.segments > 1 ? ctx.exit('large') : ctx.next();
      },
    });
    const count = stage({ name: 'count', hook: 'tc', program: (ctx) => (ctx.mark === 9 ? ctx.redirect(1) : ctx.next()) });
    const audit = stage({ name: 'audit', hook: 'tc', program: (ctx) => ctx.pass() });
    const policy = pipeline('policy', {
      xdp: [note],
      tcIngress: [guard.on({ audit }), account.on({ large: [count.as('segments'), 'next'] }), count],
      tcEgress: [count],
    });
    const large = packet().ipv4().tcp().payload(3000).bytes();

    test('paths of both directions, also of packets that stand for several', async () => {
      await using running = await policy.run(watched(engine).engine);
      const skb = { gsoSegments: 3, gsoSize: 1000 };
      const ran = async (options: Parameters<typeof running.run>[1], bytes = udp().bytes()) => {
        const { verdict, path } = await running.run(bytes, options);
        return `${verdict}: ${shown(path)}`;
      };
      for (let i = 0; i < 2; i++) {
        expect(await ran({})).toBe('pass: note next');
        expect(await ran({ hook: 'tcIngress' })).toBe('pass: guard next, account next, count next');
        expect(await ran({ hook: 'tcIngress', skb: { mark: 7 } })).toBe('pass: guard audit, audit pass');
        expect(await ran({ hook: 'tcIngress', skb: { mark: 9 } })).toBe('redirect: guard next, account next, count redirect');
        expect(await ran({ hook: 'tcIngress', skb }, large)).toBe('pass: guard next, account large, segments next, count next');
        expect(await ran({ hook: 'tcEgress', skb: { ...skb, mark: 9 } }, large)).toBe('redirect: count redirect');
      }
      expect(running.stats().tcIngress.segments.packets).toBe(6n);
    });

    test('a miss of several segments', async () => {
      const { engine: seen, maps } = watched(engine);
      await using running = await policy.run(seen);
      const slots = running.describe().chains.tcIngress.stages.find(({ name }) => name === 'account')?.edges ?? [];
      await maps.get('policy/tcIngress.array')?.clearProgram(slots.find(({ label }) => label === 'large')?.slot ?? Number.NaN);
      const result = await running.run(large, { hook: 'tcIngress', skb: { gsoSegments: 3, gsoSize: 1000 } });
      expect([result.verdict, shown(result.path)]).toEqual(['drop', 'guard next, account large (missed)']);
    });
  });
}
