/**
 * The demo where there are no privileges: the balancer in the userspace engine, on traffic that was recorded. A real fails
 * half-way, a stage is swapped while packets flow, and the packets that left are a capture in the end.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encap } from '@tailrace/functions/l4lb';
import { parse } from '@tailrace/testing';
import { type CapturedPacket, CaptureWriter, readPackets, userspace } from '@tailrace/userspace';
import { drawPipeline } from 'tailrace';
import { type CaptureBalancer, runCaptureBalancer, TRAFFIC } from './capture-balancer.ts';
import { CaptureReplay, type ReplayedPart } from './capture-replay.ts';
import { addressOf, REALS, type RealName, VIP, VIP6 } from './network.ts';
import { bars, bold, color, green, heading, line, red } from './screen.ts';
import { untilStopped } from './session.ts';

const FAILING: RealName = 'real2';
const SWAPS = 5;

/**
 * Runs it; `out` is the file for the packets that left, by default one in a new folder among the temporary ones. Returns how many
 * packets were lost and flows led astray. Leaves no file behind on errors.
 */
export async function captureSession(out?: string): Promise<number> {
  const name = relative(process.cwd(), fileURLToPath(TRAFFIC));
  const packets = await Array.fromAsync(readPackets(TRAFFIC));
  heading(`Traffic from ${name}`);
  line(`${count(packets.length)} packets: ${kinds(packets)}`);
  line(
    `client 10.0.0.2 ── lb 10.0.0.1 ── ${REALS.map((r) => `${r} ${addressOf(r)}`).join(', ')}; the VIPs are ${bold(VIP)}, ${bold(VIP6)}`,
  );
  // everybody's folder may hold another user's file of that name
  const folder = out === undefined ? await mkdtemp(join(tmpdir(), 'tailrace-')) : undefined;
  const file = out ?? join(folder ?? '', 'lb-out.pcap');
  const writer = await CaptureWriter.open(file);
  try {
    await using balancer = await untilStopped(runCaptureBalancer(userspace()));
    line(`stages in TypeScript, compiled to eBPF and on to WebAssembly; all reals are ${green('well')}`);
    const lost = await replay(balancer, packets, writer, name);
    await writer.close();
    line(`${count(writer.packets)} packets left, to look at: tcpdump -nr ${file}`);
    return lost;
  } catch (error) {
    await writer.close().catch(() => undefined);
    await rm(folder ?? file, { recursive: true, force: true });
    throw error;
  }
}

async function replay(balancer: CaptureBalancer, packets: readonly CapturedPacket[], writer: CaptureWriter, name: string): Promise<number> {
  const run = new CaptureReplay(balancer, writer);
  const third = Math.ceil(packets.length / 3);
  const part = (n: number): readonly CapturedPacket[] => packets.slice(n * third, (n + 1) * third);

  heading(`Packets 1 to ${count(third)}`);
  let astray = show(await untilStopped(run.feed(part(0))));

  heading(`${FAILING} dies`);
  balancer.health.set(FAILING, false);
  const after = await untilStopped(run.feed(part(1)));
  const left = after.moved.filter(({ from }) => from === FAILING).length;
  line(`packets ${count(third + 1)} to ${count(2 * third)}: ${left} flows left it and were picked anew`);
  astray += show(after);

  heading('A stage is swapped while packets flow');
  const { running } = balancer;
  const mine = balancer.balancer.stage(encap);
  const swaps: Promise<void>[] = [];
  const due = (done: number): boolean => swaps.length < SWAPS && done >= (swaps.length * third) / SWAPS;
  const swapped = await untilStopped(
    run.feed(part(2), (done) => {
      if (!due(done)) return;
      // swaps wait for one another; packets do not wait for them
      const swap = running.replace(mine, mine.as(`encapV${swaps.length + 2}`));
      // told below, unless packets fail before
      swap.catch(() => undefined);
      swaps.push(swap);
    }),
  );
  await untilStopped(Promise.all(swaps));
  const stats = running.stats();
  const misses = Object.values(stats.xdp).reduce((sum, stage) => sum + stage.misses, stats.roots.xdp.misses);
  const lost = part(2).length - swapped.packets + Number(misses);
  const told = lost === 0 ? green('none was lost') : red(`${lost} lost`);
  line(`${swaps.length} swaps, ${part(2).length} packets in, ${swapped.packets} out: ${told}`);
  astray += show(swapped);
  for (const row of drawPipeline(running.describe(), { stats, wire: name, color }).split('\n')) line(row);

  heading(`${count(packets.length)} packets, ${count(run.packets)} verdicts`);
  for (const row of bars(run.verdicts)) line(row);
  return astray + lost + Math.abs(packets.length - run.packets);
}

/** Shows how flows spread; returns how many went to another real though theirs was well. */
function show({ flows, moved }: ReplayedPart): number {
  for (const row of bars(flows)) line(row);
  const astray = moved.filter(({ from }) => from !== FAILING).length;
  line(astray === 0 ? green('no flow left a real that is well') : red(`${astray} flows left a real that is well`));
  return astray;
}

/** What a capture holds: `TCP 812, UDP 190 …`, by the innermost header that says so, the most frequent first. */
function kinds(packets: readonly CapturedPacket[]): string {
  const counts = new Map<string, number>();
  for (const { bytes } of packets) {
    const kind = kindOf(bytes);
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([kind, packets]) => `${kind} ${packets}`)
    .join(', ');
}

function kindOf(frame: Uint8Array): string {
  const layers = parse(frame);
  if (layers.some(({ problems }) => problems.length > 0)) return 'malformed';
  const isPart = layers.some(
    ({ fields: { fragmentOffset, moreFragments } }) => moreFragments === 'true' || Number(fragmentOffset ?? 0) > 0,
  );
  if (isPart) return 'fragments';
  const names = { tcp: 'TCP', udp: 'UDP', icmp: 'ICMP', icmpv6: 'ICMPv6', arp: 'ARP' } as const;
  for (const { kind } of layers) if (kind in names) return names[kind as keyof typeof names];
  return 'other';
}

function count(packets: number): string {
  return packets.toLocaleString('en-US');
}
