/**
 * The demo's capture at all three hooks, in the kernel and in userspace: full NAT, a monitor and a policy see every packet at each,
 * and verdict, bytes, path and counters are the same.
 *
 * One thing the kernel cannot be asked: its test runs at TC refuse a frame that ends within the IP header which its EtherType
 * announces (net/bpf/test_run.c). Userspace takes them.
 */
import type { Engine } from '@tailrace/bpf';
import { HealthChecker, l4lb, NextHops } from '@tailrace/functions/l4lb';
import { monitor } from '@tailrace/functions/monitor';
import { policy } from '@tailrace/functions/policy';
import { describe as text } from '@tailrace/testing';
import { readPackets, userspace } from '@tailrace/userspace';
import { of } from 'rxjs';
import { kernel, override, pipeline, SyscallError } from 'tailrace';
import { expect, test } from 'vitest';
import { TRAFFIC } from '../examples/l4lb/capture-balancer.ts';
import { addressOf, REALS, TCP_PORT, UDP_PORT, VIP, VIP6 } from '../examples/l4lb/network.ts';
import { sharedCompiler } from './shared-compiler.ts';

const hooks = ['xdp', 'tcIngress', 'tcEgress'] as const;
const packets = (await Array.fromAsync(readPackets(TRAFFIC))).map(({ bytes }) => bytes);

const reals = REALS.map((name) => ({ address: addressOf(name) }));
const balancer = l4lb({
  mode: 'nat',
  source: '10.0.0.1',
  vips: [
    { address: VIP, port: TCP_PORT, protocol: 'tcp', realPort: 8_080, reals },
    { address: VIP, port: UDP_PORT, protocol: 'udp', reals },
  ],
}).on({ notVip: 'next' });
const flows = monitor();
const guard = policy({
  endpoints: [VIP, VIP6].map((address) => ({
    name: address,
    address,
    rules: [{ direction: 'ingress', protocol: 'tcp', ports: [TCP_PORT] }],
  })),
  strangers: 'pass',
}).on({ denied: 'drop' });
const declared = pipeline('host', { xdp: [balancer], tcIngress: [flows, guard, balancer], tcEgress: [balancer, guard, flows] });
const compiler = sharedCompiler();

async function host(engine: Engine) {
  const running = await declared.run(engine, {
    services: [
      compiler,
      override(HealthChecker, { watch: () => of(true) }),
      override(NextHops, { watch: () => of({ mac: '02:00:00:00:00:99' }) }),
    ],
  });
  return { running, traffic: () => running.controller(balancer).traffic(), [Symbol.asyncDispose]: () => running.stop() };
}

/** What came of a packet at each hook, in a line each. */
async function told({ running }: Awaited<ReturnType<typeof host>>, packet: Uint8Array): Promise<readonly string[]> {
  const lines: string[] = [];
  for (const hook of hooks) {
    if (hook !== 'xdp' && !holdsIpHeader(packet)) continue;
    const { verdict, path, packet: left } = await running.run(packet, { hook });
    const steps = path?.map(({ stage, verdict, exit = '' }) => `${stage} ${verdict} ${exit}`) ?? ['no path'];
    lines.push([hook, verdict, ...steps, Buffer.from(left).toString('hex')].join('\n'));
  }
  return lines;
}

function holdsIpHeader(frame: Uint8Array): boolean {
  const etherType = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0);
  return frame.length >= 14 + (etherType === 0x0800 ? 20 : etherType === 0x86dd ? 40 : 0);
}

test('the kernel and userspace agree at every hook on every packet of the capture', async () => {
  await using inKernel = await host(kernel({ interfaces: [] }));
  await using inUserspace = await host(userspace());
  const differences: string[] = [];
  let verdicts = 0;
  for (const [i, packet] of packets.entries()) {
    const [expected, actual] = [await told(inKernel, packet), await told(inUserspace, packet)];
    verdicts += expected.length;
    if (expected.join() !== actual.join())
      differences.push(`packet ${i + 1}\n${text(packet)}\n${expected.join('\n')}\nagainst\n${actual.join('\n')}`);
  }
  expect(differences).toEqual([]);
  expect(inUserspace.running.stats()).toEqual(inKernel.running.stats());
  expect(inUserspace.traffic()).toEqual(inKernel.traffic());
  expect(verdicts).toBeGreaterThan(2.9 * packets.length);
  for (const hook of hooks) for (const stage of Object.values(inKernel.running.stats()[hook])) expect(stage.misses).toBe(0n);

  const cut = packets.filter((packet) => !holdsIpHeader(packet));
  expect(cut.length).toBeGreaterThan(5);
  for (const packet of cut) {
    await expect(inKernel.running.run(packet, { hook: 'tcIngress' })).rejects.toThrow(SyscallError);
    expect((await inUserspace.running.run(packet, { hook: 'tcIngress' })).verdict).not.toBe('redirect');
  }
}, 60_000);
