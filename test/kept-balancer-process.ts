/**
 * A process that runs a persistent load balancer for l4lb-restart.kernel.test.ts in its own network namespace, until it is killed.
 * Arguments: the pipeline's name, and the vips as JSON. Prints the addresses of reals that are up, vip by vip, whenever that changes.
 */
import { HealthChecker, l4lb, NextHops, tcpHealth, type VipOptions } from '@tailrace/functions/l4lb';
import { kernel, kernelNextHops, override, pipeline } from 'tailrace';
import { SOURCE } from './balanced-network.ts';

const [name = '', vips = '[]'] = process.argv.slice(2);
const balancer = l4lb({ source: SOURCE, vips: JSON.parse(vips) as VipOptions[] }).on({ notVip: 'next' });
const running = await pipeline(name, { xdp: [balancer] }).run(kernel({ interfaces: ['client'] }), {
  persist: true,
  services: [override(HealthChecker, tcpHealth({ intervalMs: 50 })), override(NextHops, kernelNextHops())],
});
running.controller(balancer).state$.subscribe((state) => {
  const up = state.map(({ reals }) =>
    reals
      .flatMap(({ address, slots }) => (slots > 0 ? [address] : []))
      .sort()
      .join(),
  );
  process.stdout.write(`up ${up.join(' ')}\n`);
});
