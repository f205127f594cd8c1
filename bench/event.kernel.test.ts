/** The stage that is measured and its twin tell the same. Needs clang. */
import { packet, truncations } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { clangMissing } from './clang.ts';
import { openMachine } from './contest.ts';
import { HOOKS } from './hook.ts';
import { eventContest } from './suites/event.ts';

const whole = [
  packet().ipv4({ saddr: '10.1.2.3', daddr: '10.0.0.2' }).tcp({ dport: 80 }).payload(20).bytes(),
  packet().ipv4({ saddr: '10.1.2.4' }).udp().payload(3).bytes(),
  packet().ipv6().tcp().bytes(),
  packet().arp().bytes(),
];
// the kernel refuses test runs at TC over a frame without its whole IP header
const cut = (shortest: number) => truncations(packet().ipv4().tcp(), shortest);
const frames = { xdp: [...whole, ...cut(14)], tcIngress: [...whole, ...cut(34)] };

describe.skipIf(clangMissing() !== null)('events', () => {
  it.each(HOOKS)('are the same records, byte by byte, and lost alike at %s', async (hook) => {
    const told: unknown[] = [];
    for (const entrant of eventContest(hook, 4096)) {
      await using instance = await openMachine();
      const { entry, maps } = await entrant.load(instance);
      const verdicts: number[] = [];
      for (let round = 0; round < 10; round++)
        for (const frame of frames[hook]) verdicts.push((await entry.testRun({ packet: frame })).returnValue);
      const ring = maps.get('seen');
      const losses = maps.get('seen.losses');
      if (!ring || !losses) return expect.unreachable('the program has no ring');
      const records: string[] = [];
      using reader = instance.openRing(ring, () => undefined);
      reader.read(1e6, (view, offset, length) => records.push(Buffer.from(view.buffer, view.byteOffset + offset, length).toString('hex')));
      expect(records.length).toBe(127);
      const lost = new BigUint64Array(losses.readAll().values.slice().buffer).reduce((sum, one) => sum + one, 0n);
      told.push({ verdicts, records, lost });
    }
    expect(told).toHaveLength(2);
    expect(told[1]).toEqual(told[0]);
  });
});
