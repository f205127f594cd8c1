/** What stages tell through rings, on an engine as simulated. */
import type { Engine } from '@tailrace/bpf';
import { array, be16, be32, bool, events, mac, ringBuffer, stage, struct, u8, u16, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { packet } from './packet.ts';
import { runner, type StageRunner } from './run.ts';
import { simulatedHandle } from './simulated-handle.ts';
import { SimulatedMaps } from './simulated-map.ts';
import { simulate } from './simulation.ts';

const Header = struct({ words: array(u32, 5) });
const Seen = struct({
  kind: u8,
  at: u64,
  source: be32,
  on: bool,
  ends: struct({ from: be16, to: be16 }),
  mac,
  sizes: array(u16, 3),
  header: Header,
});
const seen = ringBuffer({ name: 'seen', value: Seen, bytes: 4096 });
const lengths = events({ name: 'lengths', value: u32, bytes: 4096 });

const tell = stage({
  name: 'tell',
  hook: 'xdp',
  uses: { seen, lengths, Header },
  program(ctx, { seen, lengths, Header }) {
    lengths.send(ctx.length);
    const eth = ctx.ethernet();
    const header = ctx.at(Header, 14);
    const ip = ctx.ipv4();
    const ports = ctx.ports();
    if (!eth || !header || !ip || !ports) return ctx.next();
    const told = seen.output({
      kind: ip.protocol,
      at: BigInt(ctx.length) << 40n,
      source: ip.saddr,
      on: ip.ttl > 32,
      ends: { from: ports.sport, to: ports.dport },
      mac: eth.src,
      sizes: [ip.totalLength, ctx.length, 3],
      header,
    });
    return told ? ctx.drop() : ctx.pass();
  },
});

async function all<T>(handle: { readonly pending: number } & AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  if (handle.pending === 0) return found;
  for await (const event of handle) {
    found.push(event);
    if (handle.pending === 0) break;
  }
  return found;
}

/** The cases, on an engine. */
export function ringAgreementSuite(engine: Engine): void {
  test('compiled stages tell what simulated ones do, until the ring is full and beyond', async () => {
    const frames = Array.from({ length: 80 }, (_, i) => {
      const ip = packet().ipv4({ saddr: `10.0.${i}.1`, ttl: i });
      return (i % 7 === 0 ? packet().arp() : i % 2 === 0 ? ip.tcp({ sport: i }) : ip.udp({ dport: 300 * i })).padTo(64 + i);
    });
    await using live: StageRunner = await runner(tell, { engine });
    const maps = new SimulatedMaps();
    const outcomes = { pass: 0, drop: 0, next: 0 };
    for (const frame of frames) {
      const { verdict } = await live.run(frame);
      expect(simulate(tell, frame, { maps }).verdict).toBe(verdict);
      outcomes[verdict as keyof typeof outcomes] += 1;
    }
    expect(Math.min(...Object.values(outcomes))).toBeGreaterThan(5);
    const [real, simulated] = [live.handle(lengths), simulatedHandle(maps, lengths)];
    expect([real.pending, real.lost]).toEqual([80 * 16, 0n]);
    expect([simulated.pending, simulated.lost]).toEqual([80 * 16, 0n]);
    expect(await all(simulated)).toEqual(frames.map((frame) => frame.bytes().length));
    expect(await all(real)).toEqual(frames.map((frame) => frame.bytes().length));
    const expected = await all(simulatedHandle(maps, seen));
    expect(expected).toHaveLength(outcomes.drop);
    expect(await all(live.handle(seen))).toEqual(expected);
  });

  test('what an event that finds no place counts is the same', async () => {
    await using live = await runner(tell, { engine });
    const maps = new SimulatedMaps();
    const frame = packet().arp().padTo(64);
    for (let i = 0; i < 300; i++) {
      await live.run(frame);
      simulate(tell, frame, { maps });
    }
    const [real, simulated] = [live.handle(lengths), simulatedHandle(maps, lengths)];
    expect([real.pending, real.lost, real.received]).toEqual([255 * 16, 45n, 0n]);
    expect([simulated.pending, simulated.lost, simulated.received]).toEqual([255 * 16, 45n, 0n]);
  });
}
