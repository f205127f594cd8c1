/**
 * The demo's capture through the demo's balancer, in the kernel and in userspace: the same verdict, bytes, path and counters for
 * every packet, over the failure of a real and the swap of a stage. Nothing in the balancer depends on time, and the CPU decides
 * only where a flow is remembered, so that there is no packet on which they may differ.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encap } from '@tailrace/functions/l4lb';
import { describe as text } from '@tailrace/testing';
import { readPackets, userspace } from '@tailrace/userspace';
import { type ChainVerdict, kernel } from 'tailrace';
import { expect, test } from 'vitest';
import { type CaptureBalancer, captureBalancer, runCaptureBalancer, TRAFFIC } from '../examples/l4lb/capture-balancer.ts';
import { ENDS, oddFrames, ROUNDS, SEED, SeededRandom } from '../examples/l4lb/odd-frames.ts';
import { sharedCompiler } from './shared-compiler.ts';

const packets = (await Array.fromAsync(readPackets(TRAFFIC))).map(({ bytes }) => bytes);
const third = Math.ceil(packets.length / 3);

/** What came of a packet, to be compared. */
interface Told {
  readonly verdict: ChainVerdict;
  readonly packet: Uint8Array;
  /** Names of the stages; not of packets that ran in batches. */
  readonly path: readonly string[] | undefined;
}

/** Runs all packets, a third at a time: a real fails behind the first, a stage is swapped behind the second. */
async function replay(balancer: CaptureBalancer, run: (some: readonly Uint8Array[]) => Promise<readonly Told[]>): Promise<readonly Told[]> {
  const told = [...(await run(packets.slice(0, third)))];
  balancer.health.set('real2', false);
  told.push(...(await run(packets.slice(third, 2 * third))));
  const mine = balancer.balancer.stage(encap);
  await balancer.running.replace(mine, mine.as('other'));
  return [...told, ...(await run(packets.slice(2 * third)))];
}

/** One by one, as both engines can. */
const singly =
  ({ running }: CaptureBalancer) =>
  async (some: readonly Uint8Array[]): Promise<readonly Told[]> => {
    const told: Told[] = [];
    for (const packet of some) {
      const result = await running.run(packet);
      const steps = result.path?.map(({ stage, verdict, exit }) => [stage, verdict, exit ?? ''].join(' '));
      told.push({ verdict: result.verdict, packet: result.packet, path: steps });
    }
    return told;
  };

/** In batches, as userspace runs packets that come in. */
const batched =
  ({ running }: CaptureBalancer) =>
  async (some: readonly Uint8Array[]): Promise<readonly Told[]> => {
    const told = await Array.fromAsync(running.inject(some));
    return told.map(({ verdict, packet }) => ({ verdict, packet, path: undefined }));
  };

/** Lines about the packets that two runs tell apart. */
function differences(expected: readonly Told[], actual: readonly Told[]): readonly string[] {
  return packets.flatMap((packet, i) => {
    const [one, other] = [expected[i], actual[i]];
    const same =
      one?.verdict === other?.verdict &&
      Buffer.compare(one?.packet ?? new Uint8Array(), other?.packet ?? new Uint8Array()) === 0 &&
      (other?.path === undefined || one?.path?.join() === other.path.join());
    return same ? [] : [`packet ${i + 1}: ${one?.verdict} ${one?.path} against ${other?.verdict} ${other?.path}\n${text(packet)}`];
  });
}

test('the kernel and userspace agree on every packet of the capture', async () => {
  const [declared, services] = [captureBalancer(), [sharedCompiler()]];
  await using inKernel = await runCaptureBalancer(kernel({ interfaces: [] }), declared, services);
  const expected = await replay(inKernel, singly(inKernel));
  expect(expected).toHaveLength(packets.length);
  expect(expected.every(({ path }) => path !== undefined)).toBe(true);
  for (const [mode, way] of [
    ['wasm', batched],
    ['wasm', singly],
    ['interpreter', singly],
  ] as const) {
    await using inUserspace = await runCaptureBalancer(userspace({ mode }), declared, services);
    const actual = await replay(inUserspace, way(inUserspace));
    expect(actual).toHaveLength(packets.length);
    expect(differences(expected, actual), `${mode}, ${way === singly ? 'one by one' : 'in batches'}`).toEqual([]);
    expect(inUserspace.running.stats()).toEqual(inKernel.running.stats());
    const traffic = ({ running, balancer }: CaptureBalancer) => running.controller(balancer).traffic();
    expect(traffic(inUserspace)).toEqual(traffic(inKernel));
  }
}, 60_000);

test('it can be recorded anew, with the same odd frames', async () => {
  const file = join(tmpdir(), `tailrace-record-${process.pid}.pcap`);
  try {
    const [code] = await once(
      spawn(process.execPath, [fileURLToPath(new URL('../examples/l4lb/record.ts', import.meta.url)), file]),
      'exit',
    );
    expect(code).toBe(0);
    const anew = (await Array.fromAsync(readPackets(file))).map(({ bytes }) => bytes);
    expect(Math.abs(anew.length - packets.length)).toBeLessThan(0.1 * packets.length);
    const random = new SeededRandom(SEED);
    const odd = Array.from({ length: ROUNDS }, (_, round) => oddFrames(round, ENDS, random)).flat();
    expect(odd.length).toBeGreaterThan(250);
    for (const recorded of [anew, packets]) {
      const frames = new Set(recorded.map((bytes) => Buffer.from(bytes).toString('hex')));
      expect(odd.filter((bytes) => !frames.has(Buffer.from(bytes).toString('hex')))).toEqual([]);
    }
  } finally {
    await rm(file, { force: true });
  }
});
