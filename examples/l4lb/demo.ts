/**
 * The load balancer at work on real traffic, in network namespaces of its own: requests spread over three reals, one
 * real dies and is taken out, a stage is swapped under load. Leaves nothing behind, however it ends.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { decap } from '@tailrace/functions/decap';
import { encap, HealthChecker, l4lb, NextHops, tcpHealth } from '@tailrace/functions/l4lb';
import { firstValueFrom } from 'rxjs';
import { filter } from 'rxjs/operators';
import {
  CompileError,
  connectFrom,
  drawChain,
  formatDiagnostic,
  kernel,
  kernelNextHops,
  override,
  pipeline,
  requireBpf,
  requireCapabilities,
  requireKernel,
  TailraceError,
} from 'tailrace';
import { numberedLoad } from './load.ts';
import { addressOf, type DemoNetwork, demoNetwork, REALS, type RealName, VIP } from './network.ts';
import { bars, bold, color, dim, green, heading, LiveBlock, line, red } from './screen.ts';

const REQUESTS = 300;
const TCP_PORT = 80;
const UDP_PORT = 5_300;

const stop = new AbortController();
let stoppedCode = 0;
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)
  process.once(signal, () => {
    stoppedCode = code;
    stop.abort(new TailraceError('timeout', `stopped by ${signal}`));
  });

try {
  await demo();
} catch (error) {
  report(error);
  process.exitCode = stoppedCode || 1;
}

async function demo(): Promise<void> {
  requireKernel();
  requireCapabilities(true);
  requireBpf();
  heading('A network of five hosts');
  await using network = await demoNetwork();
  line(`client 10.0.0.2 ── lb 10.0.0.1 ── ${REALS.map((r) => `${r} ${addressOf(r)}`).join(', ')}; the VIP is ${bold(VIP)}`);
  const { client, lb } = network.hosts;

  const servers = new Map(
    await Promise.all(REALS.map(async (name) => [name, await network.hosts[name].http({ port: TCP_PORT })] as const)),
  );
  for (const name of REALS) await network.hosts[name].udpEcho({ address: VIP, port: UDP_PORT, name });
  await using _decaps = await startDecaps(network);

  const reals = REALS.map((name) => ({ address: addressOf(name) }));
  const balancer = l4lb({
    source: '10.0.0.1',
    vips: [
      { address: VIP, port: TCP_PORT, protocol: 'tcp', reals },
      { address: VIP, port: UDP_PORT, protocol: 'udp', reals, health: { port: TCP_PORT } },
    ],
  }).on({ notVip: 'next' });
  const edge = pipeline('edge', { xdp: [balancer] });
  await using running = await edge.run(kernel({ interfaces: ['client'], netns: lb.namespace }), {
    services: [
      override(HealthChecker, tcpHealth({ intervalMs: 200, timeoutMs: 150, connect: connectFrom(lb.namespace) })),
      override(NextHops, kernelNextHops({ netns: lb.namespace })),
    ],
  });
  const controller = running.controller(balancer);
  const upCount = (n: number) =>
    firstValueFrom(controller.state$.pipe(filter((vips) => vips.every((vip) => vip.reals.filter((r) => r.slots > 0).length === n))));
  const picture = (): void => {
    for (const row of drawChain(running.describe().chains.xdp, { stats: running.stats().xdp, from: 'client@lb, XDP', color }).split('\n'))
      line(row);
  };
  await untilStopped(upCount(REALS.length));
  line(`three stages in TypeScript, compiled and loaded; all reals are ${green('well')}`);

  heading(`${REQUESTS} requests to http://${VIP}`);
  const spread = await requests(client, REQUESTS);
  line(spread.failed === 0 ? green('no request failed') : red(`${spread.failed} requests failed`));
  picture();

  heading('real2 dies');
  await servers.get('real2')?.close();
  const died = performance.now();
  await untilStopped(upCount(REALS.length - 1));
  line(`the health check took it out after ${Math.round(performance.now() - died)} ms`);
  const after = await requests(client, REQUESTS / 3);
  line(after.failed === 0 ? green('no request failed since') : red(`${after.failed} requests failed`));

  heading('A stage is swapped under load');
  await using load = await numberedLoad(client, VIP, UDP_PORT);
  await untilStopped(sleep(300));
  const swaps = 5;
  const mine = balancer.stage(encap);
  for (let i = 1; i <= swaps; i++) {
    await untilStopped(running.replace(mine, mine.with({ mtu: 1_500 - i }).as('encapV2')));
    await untilStopped(sleep(50));
  }
  const { sent, answered, missing } = await load.end();
  line(
    `${swaps} swaps, ${sent} numbered datagrams, ${answered} answered: ${missing.length === 0 ? green('none was lost') : red(`${missing.length} lost`)}`,
  );
  picture();

  const wrong = spread.failed + after.failed + missing.length;
  heading(wrong === 0 ? green('All of it held.') : red('Something was lost.'));
  if (wrong > 0) process.exitCode = 1;
}

/** On each real: takes the outer header off. The host's own stack does the rest. */
async function startDecaps(network: DemoNetwork): Promise<AsyncDisposable> {
  const stack = new AsyncDisposableStack();
  for (const name of REALS) {
    const inner = pipeline(`decap-${name}`, { xdp: [decap({ addresses: [addressOf(name)] })] });
    stack.use(await inner.run(kernel({ interfaces: ['lb'], netns: network.hosts[name].namespace })));
  }
  return stack;
}

/** Sends requests over connections of their own, eight at a time, and shows how they spread while they run. */
async function requests(
  client: DemoNetwork['hosts']['client'],
  total: number,
): Promise<{ counts: ReadonlyMap<string, number>; failed: number }> {
  const counts = new Map<string, number>(REALS.map((name: RealName) => [name, 0]));
  const block = new LiveBlock();
  let failed = 0;
  let left = total;
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      stop.signal.throwIfAborted();
      try {
        const { name = '?' } = await client.request(`http://${VIP}:${TCP_PORT}/`, { timeoutMs: 2_000 });
        counts.set(name, (counts.get(name) ?? 0) + 1);
      } catch {
        failed++;
      }
      block.update(bars(counts));
    }
  };
  const workers = await Promise.allSettled(Array.from({ length: 8 }, worker));
  block.end();
  for (const result of workers) if (result.status === 'rejected') throw result.reason;
  return { counts, failed };
}

/** The promise, unless the demo is stopped first. */
function untilStopped<T>(promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(stop.signal.reason);
    stop.signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => stop.signal.removeEventListener('abort', abort));
    if (stop.signal.aborted) abort();
  });
}

function report(error: unknown): void {
  if (error instanceof CompileError) process.stderr.write(`${formatDiagnostic(error.diagnostic)}\n`);
  else if (error instanceof TailraceError)
    process.stderr.write(`${red('demo:')} ${error.message}\n${error.hint ? dim(`  ${error.hint}\n`) : ''}`);
  else throw error;
}
