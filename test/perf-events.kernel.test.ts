/** C that tells its control plane things by perf event arrays, as clang compiles it, on both engines. */
import { setTimeout as sleep } from 'node:timers/promises';
import { packet } from '@tailrace/testing';
import { userspace } from '@tailrace/userspace';
import { ConflictError, kernel, objectStage, perfEvents, pipeline, struct, u16, u32 } from 'tailrace';
import { expect, test } from 'vitest';
import { compileC } from './clang-object.ts';

const PROGRAM = `
static long (*perf_event_output)(void *ctx, void *map, u64 flags, void *data, u64 size) = (void *)25;
struct event { u16 cookie, length; u32 first; };
SEC("xdp") int sample(struct xdp_md *ctx) {
  u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
  struct event event = { 0xcafe, end - data };
  if (data + 14 > end) return XDP_PASS;
  event.first = data[0];
  u64 bytes = event.length < 64 ? event.length : 64;
  perf_event_output(ctx, &events, 0xffffffffull | bytes << 32, &event, sizeof event);
  return XDP_PASS;
}`;

const MAPS = {
  'defined by BTF': 'struct { __uint(type, 4); __uint(key_size, 4); __uint(value_size, 4); } events SEC(".maps");',
  'defined by types': 'struct { __uint(type, 4); __type(key, int); __type(value, u32); } events SEC(".maps");',
  'of which only the kind is said': 'struct { __uint(type, 4); } events SEC(".maps");',
  'in the older section': 'struct { u32 type, key, value, entries, flags; } events SEC("maps") = { 4, 4, 4, 0, 0 };',
} as const;

const Event = struct({ cookie: u16, length: u16, first: u32 });
const events = perfEvents({ name: 'samples', value: Event, packet: true });
const frame = packet().ipv4().udp().payload(new Uint8Array(100).fill(7)).bytes();

for (const engine of [kernel({ interfaces: [] }), userspace()])
  test.each(Object.entries(MAPS))(`${engine.kind}: a map %s`, async (_name, map) => {
    const sample = objectStage({ name: 'sample', hook: 'xdp', object: compileC(map + PROGRAM), uses: { events } });
    await using running = await pipeline('edge', { xdp: [sample] }).run(engine);
    const handle = running.map(events);
    const got: unknown[] = [];
    handle.events$.subscribe((event) => got.push(event));
    for (const bytes of [frame, frame.subarray(0, 50)]) {
      await running.run(bytes);
      const known = got.length;
      for (let left = 400; left > 0 && got.length === known; left--) await sleep(5);
    }
    const sampled = (length: number, appended: number) => ({
      value: { cookie: 0xcafe, length, first: frame[0] },
      packet: expect.toSatisfy((bytes: Uint8Array) => Buffer.from(bytes.subarray(0, appended)).equals(frame.subarray(0, appended))),
    });
    expect(got).toEqual([sampled(frame.length, 64), sampled(50, 50)]);
    expect([handle.received, handle.lost]).toEqual([2n, 0n]);
  });

test('slots that the object counts are counted in the declaration too', () => {
  const map = 'struct { __uint(type, 4); __uint(max_entries, 128); } events SEC(".maps");';
  const object = compileC(map + PROGRAM);
  const sample = (maxEntries: number) =>
    objectStage({
      name: 'sample',
      hook: 'xdp',
      object,
      uses: { events: perfEvents({ name: 'samples', value: Event, maxEntries }) },
    });
  expect(() => sample(0)).toThrow(
    new ConflictError("stage 'sample': uses.events and map events of its object", [{ field: 'maxEntries', ours: '0', theirs: '128' }]),
  );
  expect(sample(128).name).toBe('sample');
});
