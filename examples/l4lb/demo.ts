/**
 * The load balancer at work on real traffic. In the kernel, in network namespaces of its own: requests spread over three
 * reals, one real dies and is taken out, a stage is swapped under load; then the same with full NAT, at all three hooks.
 * Without privileges in the userspace engine, on traffic that was recorded. Leaves nothing behind, however it ends, but
 * the capture that the latter is asked for.
 */
import { captureSession } from './capture-session.ts';
import { chooseEngine, parseDemoOptions } from './demo-options.ts';
import { addressOf, demoNetwork, REALS, VIP } from './network.ts';
import { bold, green, heading, line, red } from './screen.ts';
import { session } from './session.ts';
import { threeHooksDemo } from './three-hooks.ts';
import { tunnelDemo } from './tunnel.ts';

await session(async () => {
  const options = parseDemoOptions(process.argv.slice(2));
  const { engine, why } = chooseEngine(options);
  heading(`The ${engine} engine, ${why}`);
  const lost = engine === 'kernel' ? await kernelDemo() : await captureSession(options.out);
  heading(lost === 0 ? green('All of it held.') : red('Something was lost.'));
  return lost === 0;
});

async function kernelDemo(): Promise<number> {
  heading('A network of five hosts');
  await using network = await demoNetwork();
  line(`client 10.0.0.2 ── lb 10.0.0.1 ── ${REALS.map((r) => `${r} ${addressOf(r)}`).join(', ')}; the VIP is ${bold(VIP)}`);
  return (await tunnelDemo(network)) + (await threeHooksDemo(network));
}
