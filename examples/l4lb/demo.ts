/**
 * The load balancer at work on real traffic, in network namespaces of its own: requests spread over three reals, one
 * real dies and is taken out, a stage is swapped under load; then the same with full NAT, at all three hooks. Leaves
 * nothing behind, however it ends.
 */
import { requireBpf, requireCapabilities, requireKernel } from 'tailrace';
import { addressOf, demoNetwork, REALS, VIP } from './network.ts';
import { bold, green, heading, line, red } from './screen.ts';
import { session } from './session.ts';
import { threeHooksDemo } from './three-hooks.ts';
import { tunnelDemo } from './tunnel.ts';

await session(async () => {
  requireKernel();
  requireCapabilities(true);
  requireBpf();
  heading('A network of five hosts');
  await using network = await demoNetwork();
  line(`client 10.0.0.2 ── lb 10.0.0.1 ── ${REALS.map((r) => `${r} ${addressOf(r)}`).join(', ')}; the VIP is ${bold(VIP)}`);
  const lost = (await tunnelDemo(network)) + (await threeHooksDemo(network));
  heading(lost === 0 ? green('All of it held.') : red('Something was lost.'));
  return lost === 0;
});
