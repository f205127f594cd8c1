import { pipeline } from '@tailrace/pipeline';
import { objectStage, perfEvents, u64 } from '@tailrace/stage';
import { userspace } from '@tailrace/userspace';
import { describe, expect, test } from 'vitest';
import { assembledObject } from './assembled-object.ts';
import { eventually } from './deadline.ts';
import { packet } from './packet.ts';
import { perfEventsSuite } from './perf-events.suite.ts';

describe('wasm', { timeout: 30_000 }, () => perfEventsSuite(userspace({ compile: 'quickly', cpus: 3 })));
describe('interpreter', { timeout: 30_000 }, () => perfEventsSuite(userspace({ mode: 'interpreter', cpus: 3 })));

test('several workers write, each into the ring of its CPU, and one reader has all of it', { timeout: 30_000 }, async () => {
  const object = assembledObject(
    [
      {
        name: 'tell',
        text: `
          r2 = map[events]
          r3 = 0x10ffffffff ll
          *(u64 *)(r10 -8) = 7
          r4 = r10
          r4 += -8
          r5 = 8
          call bpf_perf_event_output#25
          r0 = 1
          exit`,
      },
    ],
    [{ name: 'events', type: 'perfEventArray', keySize: 4, valueSize: 4, maxEntries: 0, flags: 0 }],
  );
  const events = perfEvents({ name: 'seen', value: u64, packet: true, bytes: 1 << 20 });
  const tell = objectStage({ name: 'tell', hook: 'xdp', object, uses: { events }, exits: {} });
  await using running = await pipeline('edge', { xdp: [tell] }).run(userspace({ workers: 3, compile: 'quickly' }));
  const handle = running.map(events);
  const ports = new Set<number>();
  handle.events$.subscribe(({ value, packet }) => {
    expect(value).toBe(7n);
    ports.add(packet[1] as number);
  });
  const frames = Array.from({ length: 6_000 }, (_, i) => {
    const bytes = packet().ipv4().udp({ sport: i }).bytes();
    bytes[1] = i & 0xff;
    return bytes;
  });
  for await (const _ of running.inject(frames));
  await eventually(() => handle.received + handle.lost === BigInt(frames.length));
  expect([handle.lost, ports.size]).toEqual([0n, 256]);
});
