/**
 * Second half of the demo: the balancer with full NAT, one function at three hooks. Requests are translated at XDP, answers
 * at TC ingress and TC egress; a monitor beside it keeps flow records.
 */
import { HealthChecker, l4lb, NextHops, tcpHealth } from '@tailrace/functions/l4lb';
import { monitor } from '@tailrace/functions/monitor';
import { filter, firstValueFrom } from 'rxjs';
import { connectFrom, drawPipeline, kernel, kernelNextHops, override, pipeline } from 'tailrace';
import { addressOf, type DemoNetwork, REALS, VIP } from './network.ts';
import { color, dim, heading, line } from './screen.ts';
import { requests, untilStopped } from './session.ts';

const REQUESTS = 100;
const VIP_PORT = 80;
const REAL_PORT = 8_080;
/** Flow records that are shown. */
const SHOWN = 3;

/** Returns how many requests failed. */
export async function threeHooksDemo({ hosts }: DemoNetwork): Promise<number> {
  const { client, lb } = hosts;
  await using closing = new AsyncDisposableStack();
  for (const name of REALS) {
    const server = await hosts[name].http({ port: REAL_PORT });
    closing.defer(() => server.close());
  }
  heading('Full NAT: one function at three hooks');
  const reals = REALS.map((name) => ({ address: addressOf(name) }));
  const balancer = l4lb({
    mode: 'nat',
    source: '10.0.0.1',
    vips: [{ address: VIP, port: VIP_PORT, realPort: REAL_PORT, protocol: 'tcp', reals }],
  }).on({ notVip: 'next' });
  const flows = monitor();
  const edge = pipeline('edge', { xdp: [balancer], tcIngress: [flows, balancer], tcEgress: [balancer, flows] });
  await using running = await edge.run(kernel({ interfaces: ['client', ...REALS], netns: lb.namespace }), {
    services: [
      override(HealthChecker, tcpHealth({ intervalMs: 200, timeoutMs: 150, connect: connectFrom(lb.namespace) })),
      override(NextHops, kernelNextHops({ netns: lb.namespace })),
    ],
  });
  const { state$ } = running.controller(balancer);
  await untilStopped(firstValueFrom(state$.pipe(filter(([vip]) => vip?.reals.every((real) => real.slots > 0) === true))));
  line(`the reals listen at port ${REAL_PORT}, the client knows http://${VIP} only`);
  const failed = await requests(client, VIP_PORT, REQUESTS);
  for (const row of drawPipeline(running.describe(), { stats: running.stats(), wire: ['client', ...REALS].join(', '), color }).split('\n'))
    line(row);
  const answers = running
    .controller(flows)
    .flows()
    .filter(({ direction, source }) => direction === 'out' && source === VIP);
  line(`${answers.length} flows of answers, as they leave:`);
  for (const { source, sourcePort, destination, destinationPort, packets, bytes } of answers.slice(0, SHOWN))
    line(`  ${source}:${sourcePort} ${dim('─▶')} ${destination}:${destinationPort}  ${packets} packets, ${bytes} bytes`);
  return failed;
}
