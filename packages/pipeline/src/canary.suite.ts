/** Canaries: flows that stay on their side, both pipelines' counters, and how a canary ends, while packets run. */
import { setImmediate } from 'node:timers/promises';
import type { Engine } from '@tailrace/bpf';
import { hash, stage, u16, u32, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { packetOf } from './sample.ts';

const seen = hash({ name: 'seen', key: u32, value: u64, maxEntries: 8 });
const count = stage({
  name: 'count',
  hook: 'xdp',
  uses: { seen },
  program(ctx, { seen }) {
    const known = seen.lookup(1);
    if (known) known.value += 1n;
    return ctx.next();
  },
});
const end = <const N extends string>(name: N) => stage({ name, hook: 'xdp', onMiss: 'drop', program: (ctx) => ctx.next() });
const answer = stage({ name: 'answer', hook: 'xdp', program: (ctx) => ctx.tx() });
const present = pipeline('edge', { xdp: [count, end('last')] });
const next = pipeline('edge', { xdp: [count, answer] });

const flow = (port: number) => packet().ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' }).udp({ sport: port, dport: 53 }).bytes();
const back = (port: number) => packet().ipv4({ saddr: '10.0.0.2', daddr: '10.0.0.1' }).udp({ sport: 53, dport: port }).bytes();
const flow6 = (port: number) => packet().ipv6({ saddr: 'fd00::1', daddr: 'fd00::2' }).tcp({ sport: port, dport: 80 }).bytes();
const back6 = (port: number) => packet().ipv6({ saddr: 'fd00::2', daddr: 'fd00::1' }).tcp({ sport: 80, dport: port }).bytes();

/** The cases, on an engine. */
export function canarySuite(engine: Engine): void {
  test('a share of flows goes through the next pipeline, each flow on one side in both directions', async () => {
    await using running = await present.run(engine);
    running.map(seen).set(1, 0n);
    await using trial = await running.canary(next, { share: 0.25 });
    const side = async (frame: Uint8Array) => (await running.run(frame)).verdict;
    const sides = { pass: 0, tx: 0 };
    for (let port = 1000; port < 1400; port++) {
      const [there, again, answered] = [await side(flow(port)), await side(flow(port)), await side(back(port))];
      expect([again, answered]).toEqual([there, there]);
      expect(await side(back6(port))).toBe(await side(flow6(port)));
      sides[there as keyof typeof sides] += 1;
    }
    expect(sides.tx).toBeGreaterThan(60);
    expect(sides.tx).toBeLessThan(140);
    // what has no flow stays
    expect(await side(packet().arp().bytes())).toBe('pass');
    const { present: mine, canary } = trial.stats();
    expect(mine.xdp.count.packets + canary.xdp.count.packets).toBe(2001n);
    expect(canary.xdp.answer.verdicts.tx).toBe(canary.xdp.count.packets);
    expect(mine.xdp.last.packets).toBe(mine.xdp.count.packets);
    expect(running.map(seen).get(1)).toBe(2001n);
    const promoted = await trial.promote();
    expect(await side(flow(1))).toBe('tx');
    // counts of both become one
    expect(promoted.stats().xdp.count.packets).toBe(2002n);
    expect(promoted.stats().xdp.answer.packets).toBe(canary.xdp.answer.packets + 1n);
    expect(() => trial.stats()).toThrow('the canary was promoted');
    await promoted.update(present);
    expect(await side(flow(1))).toBe('pass');
  });

  test('a stage picks who goes first, with a map of its own; all go back', async () => {
    const testers = hash({ name: 'testers', key: u16, value: u64, maxEntries: 8 });
    const pick = stage({
      name: 'pick',
      hook: 'xdp',
      uses: { testers },
      program(ctx, { testers }) {
        const udp = ctx.udp();
        return udp && testers.lookup(udp.sport) ? ctx.exit('canary') : ctx.pass();
      },
    });
    await using running = await present.run(engine);
    const trial = await running.canary(next, { match: pick });
    running.map(testers).set(7, 0n);
    // the selector's own verdicts are verdicts
    expect([(await running.run(flow(7))).verdict, (await running.run(flow(8))).verdict]).toEqual(['tx', 'pass']);
    expect(trial.stats().canary.xdp.count.packets).toBe(1n);
    await expect(running.update(next)).rejects.toMatchObject({
      message: "pipeline 'edge' has a canary, and cannot be updated meanwhile",
      hint: 'promote it or roll it back first',
    });
    await expect(running.replace(count, count.as('other'))).rejects.toThrow(
      "pipeline 'edge' has a canary, and cannot replace a stage meanwhile",
    );
    await expect(running.canary(next, { share: 1 })).rejects.toThrow("pipeline 'edge' has a canary, and cannot begin another meanwhile");
    await trial.rollBack();
    await trial.rollBack();
    expect((await running.run(flow(7))).verdict).toBe('pass');
    expect(() => running.map(testers)).toThrow("map 'testers' is not in this pipeline");
    await running.update(next);
    expect((await running.run(flow(8))).verdict).toBe('tx');
  });

  test('where metadata cross, TC ingress goes by what XDP did', async () => {
    const shape = (value: number) =>
      pipeline('meta', {
        xdp: [
          stage({
            name: 'write',
            hook: 'xdp',
            writes: { side: u32 },
            uses: { value },
            program(ctx, { value }) {
              ctx.meta.side = value;
              return ctx.next();
            },
          }),
        ],
        tcIngress: [
          stage({
            name: 'read',
            hook: 'tcIngress',
            reads: { side: u32 },
            uses: { value },
            program: (ctx, { value }) => (ctx.meta.side === value ? ctx.next() : ctx.drop()),
          }),
        ],
      });
    await using running = await shape(1).run(engine);
    await using trial = await running.canary(shape(2), { share: 0.5 });
    for (let port = 1; port <= 40; port++) {
      if (engine.kind === 'userspace') expect(await running.inject(flow(port))).toMatchObject({ hook: 'tcIngress', verdict: 'pass' });
      else expect((await running.run(flow(port))).verdict).toBe('pass');
    }
    const { present: mine, canary } = trial.stats();
    expect(mine.xdp.write.packets + canary.xdp.write.packets).toBe(40n);
    expect([mine.xdp.write.packets > 5n, canary.xdp.write.packets > 5n]).toEqual([true, true]);
    if (engine.kind === 'userspace') expect(canary.tcIngress.read.packets).toBe(canary.xdp.write.packets);
    await trial.promote();
    if (engine.kind === 'userspace') expect(await running.inject(flow(1))).toMatchObject({ verdict: 'pass' });
    const { roots } = running.stats();
    expect(roots).toMatchObject({ xdp: { misses: 0n }, tcIngress: { misses: 0n, withoutMetadata: 0n } });
  });

  test('while packets run, canaries begin and end: no packet is missed', async () => {
    await using running = await present.run(engine);
    let [going, packets] = [true, 0];
    const results = new Set<string>();
    const traffic = (async () => {
      while (going) {
        results.add((await running.run(packets % 2 ? flow(packets & 0xffff) : packetOf(60))).verdict);
        packets += 1;
        await setImmediate();
      }
    })();
    for (let i = 0; i < 6; i++) {
      const [to, from] = i % 4 < 2 ? [next, present] : [present, next];
      const trial = await running.canary(to as typeof present, { share: 0.5 });
      await setImmediate();
      if (i % 2 === 0) await trial.rollBack();
      else await trial.promote();
      expect(running.describe()).toEqual((i % 2 === 0 ? from : to).describe());
    }
    going = false;
    await traffic;
    expect([...results].sort()).toEqual(['pass', 'tx']);
    const { xdp, roots } = running.stats();
    expect([xdp.count.misses, roots.xdp.misses]).toEqual([0n, 0n]);
  }, 60_000);
}
