/** What the program does with data that come twice, as described connections have them: no real one does so when it is asked to. */
import { pipeline } from '@tailrace/pipeline';
import { userspace } from '@tailrace/userspace';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { carryStage, FlowState, spliceMaps } from './stage.ts';

const maps = spliceMaps(2);
const chain = pipeline('twice', { skSkb: [carryStage.with(maps)] });
let running: Awaited<ReturnType<typeof chain.run>>;
const half = (lastByte: number): bigint => 0xffff_0a00_0000n | BigInt(lastByte);
const connection = { localAddress: '10.0.0.1', localPort: 80, remoteAddress: '10.0.0.9', remotePort: 4711 };

beforeAll(async () => {
  running = await chain.run(userspace());
  running.map(maps.flows).set({ localHi: 0n, localLo: half(1), remoteHi: 0n, remoteLo: half(9), localPort: 80, remotePort: 4711 }, 0);
});
afterAll(() => running.stop());
beforeEach(() => {
  running.map(maps.carried).set(0, { sent: 0n, left: 0n, next: 0, state: FlowState.fresh });
  // nothing may be sent, all is left to the process
  running.map(maps.allowed).set(0, { passedOn: 0n, until: 0n, mark: 0n });
});

/** What of a segment is left to the process. */
async function left(bytes: Uint8Array, sequence: number): Promise<Uint8Array> {
  const { verdict, packet } = await running.run(bytes, { hook: 'skSkb', socket: { ...connection, sequence } });
  return verdict === 'drop' ? new Uint8Array() : packet;
}

const stream = Uint8Array.from({ length: 200_000 }, (_, at) => (at * 31 + (at >>> 8)) & 0xff);

test('segments that overlap, and come again: each byte is left once', async () => {
  const cut = fc.record({ length: fc.integer({ min: 1, max: 65_000 }), back: fc.integer({ min: 0, max: 65_000 }) });
  await fc.assert(
    fc.asyncProperty(fc.array(cut, { minLength: 1, maxLength: 6 }), fc.integer({ min: 0, max: 0xffff_ffff }), async (cuts, first) => {
      running.map(maps.carried).set(0, { sent: 0n, left: 0n, next: 0, state: FlowState.fresh });
      const got: Uint8Array[] = [];
      let known = 0;
      for (const { length, back } of cuts) {
        // never beyond what is known: TCP hands over nothing with a gap in front
        const from = known - Math.min(known, back);
        const to = Math.min(from + length, stream.length);
        got.push(await left(stream.subarray(from, to), (first + from) >>> 0));
        known = Math.max(known, to);
      }
      expect(Buffer.concat(got).equals(stream.subarray(0, known))).toBe(true);
      expect(running.map(maps.carried).get(0)).toMatchObject({ sent: 0n, left: BigInt(known), next: (first + known) >>> 0 });
    }),
    { numRuns: 60 },
  );
});

test('more than can be taken off breaks the flow, and the process is told', async () => {
  const told: number[] = [];
  const ring = running.handle(maps.news);
  const news = ring.events$.subscribe((index) => told.push(index));
  await expect.poll(() => ring.pending).toBe(0);
  told.length = 0;
  await left(stream.subarray(0, 100_000), 7);
  // of the first bytes that are left
  await expect.poll(() => told).toEqual([0]);
  expect(await left(stream.subarray(0, 150_000), 7)).toHaveLength(0);
  expect(running.map(maps.carried).get(0)).toMatchObject({ state: FlowState.broken });
  expect(await left(stream.subarray(150_000, 150_010), 150_007)).toHaveLength(0);
  await expect.poll(() => told).toEqual([0, 0]);
  news.unsubscribe();
});
