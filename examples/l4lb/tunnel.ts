/** First half of the demo: packets go to reals in IP in IP, which answer directly. A real dies; a stage is swapped under load. */
import { setTimeout as sleep } from 'node:timers/promises';
import { decap } from '@tailrace/functions/decap';
import { encap, HealthChecker, l4lb, NextHops, tcpHealth } from '@tailrace/functions/l4lb';
import { filter, firstValueFrom } from 'rxjs';
import { connectFrom, drawPipeline, kernel, kernelNextHops, override, pipeline } from 'tailrace';
import { numberedLoad } from './load.ts';
import { addressOf, type DemoNetwork, REALS, TCP_PORT, UDP_PORT, VIP } from './network.ts';
import { color, green, heading, line, red } from './screen.ts';
import { requests, untilStopped } from './session.ts';

const REQUESTS = 300;
const SWAPS = 5;

/** Returns how many requests and datagrams were lost. */
export async function tunnelDemo({ hosts }: DemoNetwork): Promise<number> {
  const { client, lb } = hosts;
  const servers = new Map(await Promise.all(REALS.map(async (name) => [name, await hosts[name].http({ port: TCP_PORT })] as const)));
  await using closing = new AsyncDisposableStack();
  for (const server of servers.values()) closing.defer(() => server.close());
  for (const name of REALS) await hosts[name].udpEcho({ address: VIP, port: UDP_PORT, name });
  for (const name of REALS) {
    // on each real: takes the outer header off; the host's own stack does the rest
    const inner = pipeline(`decap-${name}`, { xdp: [decap({ addresses: [addressOf(name)] })] });
    closing.use(await inner.run(kernel({ interfaces: ['lb'], netns: hosts[name].namespace })));
  }

  const reals = REALS.map((name) => ({ address: addressOf(name) }));
  const balancer = l4lb({
    source: '10.0.0.1',
    vips: [
      { address: VIP, port: TCP_PORT, protocol: 'tcp', reals },
      { address: VIP, port: UDP_PORT, protocol: 'udp', reals, health: { port: TCP_PORT } },
    ],
  }).on({ notVip: 'next' });
  await using running = await pipeline('edge', { xdp: [balancer] }).run(kernel({ interfaces: ['client'], netns: lb.namespace }), {
    services: [
      override(HealthChecker, tcpHealth({ intervalMs: 200, timeoutMs: 150, connect: connectFrom(lb.namespace) })),
      override(NextHops, kernelNextHops({ netns: lb.namespace })),
    ],
  });
  const controller = running.controller(balancer);
  const upCount = (n: number) =>
    firstValueFrom(controller.state$.pipe(filter((vips) => vips.every((vip) => vip.reals.filter((r) => r.slots > 0).length === n))));
  await untilStopped(upCount(REALS.length));
  line(`stages in TypeScript, compiled and loaded; all reals are ${green('well')}`);

  heading(`${REQUESTS} requests to http://${VIP}`);
  let lost = await requests(client, TCP_PORT, REQUESTS);

  heading('real2 dies');
  await servers.get('real2')?.close();
  const died = performance.now();
  await untilStopped(upCount(REALS.length - 1));
  line(`the health check took it out after ${Math.round(performance.now() - died)} ms`);
  lost += await requests(client, TCP_PORT, REQUESTS / 3);

  heading('A stage is swapped under load');
  await using load = await numberedLoad(client, VIP, UDP_PORT);
  await untilStopped(sleep(300));
  const mine = balancer.stage(encap);
  for (let i = 1; i <= SWAPS; i++) {
    await untilStopped(running.replace(mine, mine.as(`encapV${i + 1}`)));
    await untilStopped(sleep(50));
  }
  const { sent, answered, missing } = await load.end();
  const told = missing.length === 0 ? green('none was lost') : red(`${missing.length} lost`);
  line(`${SWAPS} swaps, ${sent} numbered datagrams, ${answered} answered: ${told}`);
  for (const row of drawPipeline(running.describe(), { stats: running.stats(), wire: 'client', color }).split('\n')) line(row);
  return lost + missing.length;
}
