/** Captures that an engine brings along: played once through the pipeline, what leaves written as it leaves. */
import { mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ArgumentError } from '@tailrace/bpf';
import { stage } from '@tailrace/stage';
import { packet, parse } from '@tailrace/testing';
import { CaptureError, CaptureWriter, readPackets, userspace } from '@tailrace/userspace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';

const folder = mkdtempSync(join(tmpdir(), 'tailrace-replay-'));
const [pcap, out] = [join(folder, 'in.pcap'), join(folder, 'out.pcap')];
const COUNT = 2_500;
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Takes one off the hops left; what has none left is dropped. */
const hop = stage({
  name: 'hop',
  hook: 'xdp',
  program(ctx) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.pass();
    if (ip.ttl <= 1) return ctx.drop();
    ip.ttl -= 1;
    return ip.daddr === 0x0a000001 ? ctx.tx() : ctx.next();
  },
});
const edge = pipeline('edge', { xdp: [hop] });

beforeAll(async () => {
  await using writer = await CaptureWriter.open(pcap);
  for (let i = 0; i < COUNT; i++)
    await writer.write(
      packet()
        .ipv4({ daddr: i % 3 === 0 ? '10.0.0.1' : '10.0.0.2', ttl: 1 + (i % 5) })
        .udp({ sport: i })
        .bytes(),
      BigInt(i) * 1_000n,
    );
});

test('all packets, their totals, and those that left with their times', async () => {
  await using running = await edge.run(userspace({ pcap, out }));
  const totals = await running.replayed();
  const dropped = COUNT / 5;
  expect(totals).toEqual({ packets: COUNT, delivered: COUNT - dropped, verdicts: { drop: dropped, tx: 667, pass: 1_333 } });
  expect(running.stats().xdp.hop.packets).toBe(BigInt(COUNT));
  let left = 0;
  for await (const { bytes, timestampNs } of readPackets(out)) {
    left++;
    const [, ip, udp] = parse(bytes);
    const index = Number(udp?.fields.sport);
    expect(timestampNs).toBe(BigInt(index) * 1_000n);
    expect(ip?.fields.ttl).toBe(String(index % 5));
  }
  expect(left).toBe(COUNT - dropped);
});

test('a cut capture: the packets before the cut are through, and the error says where it is', async () => {
  const cut = join(folder, 'cut.pcap');
  await using writer = await CaptureWriter.open(cut);
  for (let i = 0; i < 10; i++) await writer.write(packet().ipv4({ daddr: '10.0.0.1' }).udp({ sport: i }).bytes(), BigInt(i));
  await writer.close();
  truncateSync(cut, statSync(cut).size - 3);
  await using running = await edge.run(userspace({ pcap: cut }));
  await expect(running.replayed()).rejects.toThrow(CaptureError);
  expect(running.stats().xdp.hop.packets).toBe(9n);
});

test('a pipeline that stops takes no more packets, and leaves whole captures', async () => {
  const running = await edge.run(userspace({ pcap, out }));
  await running.stop();
  let left = 0;
  for await (const _ of readPackets(out)) left++;
  expect(left).toBeLessThan(COUNT);
});

test('what cannot be', async () => {
  expect(() => userspace({ out })).toThrow(ArgumentError);
  await using running = await edge.run(userspace());
  await expect(running.replayed()).rejects.toThrow("pipeline 'edge' has no packets to replay");
  await using missing = await edge.run(userspace({ pcap: join(folder, 'nothing.pcap') }));
  await expect(missing.replayed()).rejects.toThrow(CaptureError);
  await expect(edge.run(userspace({ pcap, out: folder }))).rejects.toThrow(CaptureError);
});
