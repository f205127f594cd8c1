/** Marks on real packets: found at XDP, put on at TC ingress, seen by the stage behind. */
import { kernel, type NetworkNamespace } from '@tailrace/kernel';
import { pipeline } from '@tailrace/pipeline';
import { hash, stage, u32, u64 } from '@tailrace/stage';
import { eventually, kernelAlone, topology } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { mark } from './index.ts';
import { markSuite } from './mark.suite.ts';

const seen = hash({ name: 'seen', key: u32, value: u64, maxEntries: 64 });
/** Counts UDP by mark. */
const count = stage({
  name: 'count',
  hook: 'tcIngress',
  uses: { seen },
  program(ctx, { seen }) {
    if (!ctx.udp()) return ctx.next();
    const known = seen.lookup(ctx.mark);
    if (known) known.value += 1n;
    else seen.update(ctx.mark, 1n);
    return ctx.next();
  },
});

const network = () =>
  topology({
    hosts: { near: {}, far: {} },
    links: [
      {
        ends: [
          { host: 'near', interface: 'far', addresses: ['10.4.0.1/24', 'fd04::1/64'], xdp: true },
          { host: 'far', interface: 'near', addresses: ['10.4.0.2/24', '10.4.0.3/24', 'fd04::2/64'] },
        ],
      },
    ],
  });

const started = (marker: ReturnType<typeof mark>, netns: NetworkNamespace) =>
  pipeline('marks', { xdp: [marker], tcIngress: [marker, count] }).run(kernel({ interfaces: ['far'], netns }));

test('a mark travels from XDP to TC ingress', async () => {
  await using hosts = await network();
  const { near, far } = hosts.hosts;
  const marker = mark({ marks: { '10.4.0.3': 7, 'fd04::/64': 9 } });
  await using running = await started(marker, near.namespace);
  expect(running.describe().crossing).toEqual(['mark']);
  const sent = async (mark: number, to: string): Promise<void> => {
    const before = running.map(seen).get(mark) ?? 0n;
    const socket = await far.udp(to.includes(':') ? { address: 'fd04::2' } : {});
    await socket.send('hello', to, 9);
    await eventually(() => (running.map(seen).get(mark) ?? 0n) === before + 1n, 2_000, `a packet with mark ${mark}`);
    await socket.close();
  };
  await sent(0, '10.4.0.1');
  await sent(9, 'fd04::1');
  running.controller(marker).set('10.4.0.0/24', 0xffff_ffff);
  await sent(0xffff_ffff, '10.4.0.1');
  expect(running.controller(marker).delete('10.4.0.0/24')).toBe(true);
  await sent(0, '10.4.0.1');
  expect(running.stats().roots.tcIngress.withoutMetadata).toBe(0n);
  expect([...running.controller(marker).marks]).toEqual([
    ['10.4.0.3/32', 7],
    ['fd04::/64', 9],
  ]);
});

markSuite(kernelAlone());
