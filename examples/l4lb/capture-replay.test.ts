/** The balancer on the demo's capture, without privileges: numbers add up, flows stay, and what leaves is right to the byte. */
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encap } from '@tailrace/functions/l4lb';
import { type ParsedLayer, parse } from '@tailrace/testing';
import { type CapturedPacket, CaptureWriter, LinkType, readPackets, userspace } from '@tailrace/userspace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type BalancedFlow, balancedFlow } from './balanced-flow.ts';
import { runCaptureBalancer, TRAFFIC } from './capture-balancer.ts';
import { CaptureReplay, type ReplayedPart } from './capture-replay.ts';
import { addressOf, REALS } from './network.ts';

const file = join(tmpdir(), `tailrace-replay-${process.pid}.pcap`);

/** A run as the demo makes it: all of the first third, the second one without real2, the last one over a swap. */
async function run() {
  await using balancer = await runCaptureBalancer(userspace());
  const { running, health } = balancer;
  const packets = await Array.fromAsync(readPackets(TRAFFIC));
  await using writer = await CaptureWriter.open(file);
  const replay = new CaptureReplay(balancer, writer);
  const third = Math.ceil(packets.length / 3);
  const parts = [await replay.feed(packets.slice(0, third))];
  health.set('real2', false);
  parts.push(await replay.feed(packets.slice(third, 2 * third)));
  const mine = balancer.balancer.stage(encap);
  const swapped: number[] = [];
  const swap = async (): Promise<void> => {
    await running.replace(mine, mine.as('other'));
    swapped.push(replay.packets);
  };
  const swaps: Promise<void>[] = [];
  const last = replay.feed(packets.slice(2 * third), (done) => {
    if (swaps.length < 2 && done >= 100 * (swaps.length + 1)) swaps.push(swap());
  });
  parts.push(await last);
  await Promise.all(swaps);
  await writer.close();
  const [stats, traffic] = [running.stats(), running.controller(balancer.balancer).traffic()];
  return { packets, replay, parts, stats, traffic, swapped, left: await Array.fromAsync(readPackets(file)) };
}

let told: Awaited<ReturnType<typeof run>>;
beforeAll(async () => {
  told = await run();
}, 30_000);
afterAll(() => rm(file, { force: true }));

const sum = (counts: Iterable<number>): number => [...counts].reduce((total, count) => total + count, 0);
const bytesOf = (packets: readonly CapturedPacket[]): number => sum(packets.map(({ bytes }) => bytes.length));

test('the capture has what a balancer meets', () => {
  const kinds = new Set(told.packets.flatMap(({ bytes }) => parse(bytes).map(({ kind }) => kind)));
  for (const kind of ['vlan', 'arp', 'ipv4', 'ipv6', 'fragment', 'hopByHop', 'routing', 'tcp', 'udp', 'icmp', 'icmpv6', 'gre'] as const)
    expect(kinds).toContain(kind);
  expect(new Set(told.packets.map(({ linkType }) => linkType))).toEqual(new Set([LinkType.ethernet]));
  expect(told.packets.length).toBeGreaterThan(1_000);
  expect(bytesOf(told.packets)).toBeLessThan(300_000);
  const times = told.packets.map(({ timestampNs }) => timestampNs);
  expect(times.every((time, i) => i === 0 || time >= (times[i - 1] ?? 0n))).toBe(true);
});

test('every packet has one verdict, and every counter agrees', () => {
  const { packets, replay, parts, stats, left } = told;
  expect(replay.packets).toBe(packets.length);
  expect(sum(replay.verdicts.values())).toBe(packets.length);
  expect(sum(parts.map((part) => part.packets))).toBe(packets.length);
  for (const part of parts) expect(sum(part.verdicts.values())).toBe(part.packets);
  const [first] = Object.values(stats.xdp);
  expect(first?.packets).toBe(BigInt(packets.length));
  expect(first?.bytes).toBe(BigInt(bytesOf(packets)));
  const given = (verdict: 'drop' | 'redirect' | 'tx'): number =>
    sum(Object.values(stats.xdp).map(({ verdicts }) => Number(verdicts[verdict])));
  expect(given('redirect')).toBe(replay.verdicts.get('redirect'));
  expect(given('tx')).toBe(replay.verdicts.get('tx'));
  const { exits } = stats.xdp['l4lb.vip'];
  const dropped = given('drop') + Number(exits.fragment) + Number(exits.malformed) + Number(stats.xdp['l4lb.pick'].exits.noReal);
  expect(dropped).toBe(replay.verdicts.get('drop'));
  for (const verdict of ['pass', 'drop', 'tx', 'redirect'] as const) expect(replay.verdicts.get(verdict)).toBeGreaterThan(20);
  expect(left).toHaveLength(given('redirect') + given('tx'));
});

test('nothing is lost in a swap, and every exit that the capture leads to is taken', () => {
  const { stats } = told;
  const behind = told.swapped.map((packets) => told.packets.length - packets);
  expect(behind).toHaveLength(2);
  for (const packets of behind) expect(packets).toBeGreaterThan(50);
  expect(stats.roots.xdp.misses).toBe(0n);
  for (const [name, stage] of Object.entries(stats.xdp)) {
    expect(stage.misses, name).toBe(0n);
    expect(stage.packets, name).toBeGreaterThan(0n);
  }
  for (const exit of ['echo', 'fragment', 'icmpError', 'ipv6', 'malformed', 'notVip'] as const)
    expect(stats.xdp['l4lb.vip'].exits[exit], exit).toBeGreaterThan(0n);
});

test('flows stay at their real unless it fails', () => {
  const [before, after, swapped] = told.parts as [ReplayedPart, ReplayedPart, ReplayedPart];
  for (const name of REALS) expect(before.flows.get(name)).toBeGreaterThan(10);
  for (const part of [after, swapped]) expect(part.flows.get('real2')).toBe(0);
  expect(before.moved).toEqual([]);
  expect(after.moved.length).toBeGreaterThan(0);
  expect(after.moved.filter(({ from }) => from !== 'real2')).toEqual([]);
  // one that had no packet since the real failed moves later
  expect(swapped.moved.filter(({ from }) => from !== 'real2')).toEqual([]);
});

test('what is sent on is what the controller counted for each real', () => {
  const counts = new Map<string, number>();
  for (const { bytes } of told.left) {
    const [, outer] = parse(bytes);
    const address = outer?.fields.daddr ?? '';
    counts.set(address, (counts.get(address) ?? 0) + 1);
  }
  const counted = (address: string): number =>
    sum(told.traffic.map(({ reals }) => Number(reals.find((real) => real.address === address)?.packets)));
  for (const name of REALS) expect(counts.get(addressOf(name)), name).toBe(counted(addressOf(name)));
});

test('an ICMP error goes to the real that has its flow', () => {
  const flows = new Map<string, BalancedFlow>();
  let errors = 0;
  for (const { bytes } of told.left) {
    const balanced = balancedFlow(bytes);
    if (balanced === undefined) continue;
    const isError = parse(bytes).some(({ kind }) => kind === 'icmp' || kind === 'icmpv6');
    const known = flows.get(balanced.flow);
    if (isError && known?.real !== 'real2') expect(balanced).toEqual(known);
    if (isError) errors++;
    else flows.set(balanced.flow, balanced);
  }
  expect(errors).toBeGreaterThan(20);
});

/** The IP packet in a frame, behind Ethernet and tags. */
function ipOf(frame: Uint8Array): Uint8Array {
  let start = 14;
  while ([0x8100, 0x88a8].includes(((frame[start - 2] ?? 0) << 8) | (frame[start - 1] ?? 0))) start += 4;
  return frame.subarray(start);
}

const keyOf = (timestampNs: bigint, bytes: Uint8Array): string => `${timestampNs} ${Buffer.from(bytes).toString('hex')}`;

test('outer headers are right, and what they hold is what came in', () => {
  const came = new Map<string, number>();
  for (const { bytes, timestampNs } of told.packets) {
    const key = keyOf(timestampNs, ipOf(bytes));
    came.set(key, (came.get(key) ?? 0) + 1);
  }
  let sent = 0;
  for (const { bytes, timestampNs } of told.left) {
    const [ethernet, outer] = parse(bytes) as [ParsedLayer, ParsedLayer];
    const real = REALS.findIndex((name) => addressOf(name) === outer.fields.daddr);
    if (real === -1) continue;
    sent++;
    expect(ethernet.fields.dst).toBe(`02:00:00:00:0${2 * (real + 1)}:02`);
    expect(outer).toMatchObject({ kind: 'ipv4', checksum: 'valid', problems: [], fields: { saddr: '10.0.0.1', ttl: '64' } });
    const key = keyOf(timestampNs, bytes.subarray(34));
    const left = came.get(key) ?? 0;
    if (left === 0) expect.unreachable(`a packet that did not come in: ${key}`);
    came.set(key, left - 1);
  }
  expect(sent).toBe(told.replay.verdicts.get('redirect'));
});

test('answers are right to the checksum', () => {
  const answers = told.left
    .map(({ bytes }) => parse(bytes))
    .filter((layers) => layers.every(({ fields }) => !fields.daddr?.startsWith('10.1.')));
  expect(answers).toHaveLength(told.replay.verdicts.get('tx') ?? 0);
  const types = new Set<string>();
  for (const layers of answers) {
    const icmp = layers.find(({ kind }) => kind === 'icmp' || kind === 'icmpv6');
    expect(icmp?.checksum).toBe('valid');
    expect(layers.find(({ kind }) => kind === 'ipv4' || kind === 'ipv6')?.checksum).not.toBe('invalid');
    types.add(`${icmp?.kind} ${icmp?.fields.type} ${icmp?.fields.code}`);
  }
  // echo replies, fragmentation needed, packet too big
  expect(types).toEqual(new Set(['icmp 0 0', 'icmpv6 129 0', 'icmp 3 4', 'icmpv6 2 0']));
});
