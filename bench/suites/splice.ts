/**
 * A TCP proxy that splices, beside the same with all bytes left to the kernel, the least that a program in C does, Node's `pipe`, haproxy,
 * and no proxy at all.
 */
import { clangMissing } from '../clang.ts';
import { PathError } from '../contest.ts';
import { Generator } from '../load/generator.ts';
import { haproxy, haproxyMissing, nodeProxy, type TcpProxy, twinProxy } from '../load/proxies.ts';
import { type Contestant, runTrial, TRIAL_ROWS } from '../load/trial.ts';
import type { Suite, Variant } from '../row.ts';

/** The suite. */
export const splice: Suite = {
  name: 'splice',
  hook: null,
  about: 'a TCP proxy over loopback, clients, proxy and server on one CPU, ns; 1,000 ns a KB are 1 GB/s, and of CPU 1 s a GB',
  cases: TRIAL_ROWS,
  async run(effort, wanted) {
    const reason = clangMissing();
    if (reason !== null) return { rows: [], notes: [`${reason}, and with it the load generator`] };
    const missing = haproxyMissing();
    using generator = new Generator();
    await using stack = new AsyncDisposableStack();
    const server = await generator.serve();
    stack.use(server.process);
    const enter = (variant: Variant, { process, port }: TcpProxy): Contestant => {
      stack.use(process);
      return { variant, port, pid: process.pid };
    };
    const ours = [await nodeProxy('measured', server.port), await nodeProxy('kernel', server.port)] as const;
    const contestants: readonly Contestant[] = [
      enter('tailrace', ours[0]),
      enter('kernel', ours[1]),
      { ...enter('c-same', await twinProxy(server.port)), onlyRoundTrips: true },
      enter('pipe', await nodeProxy('pipe', server.port)),
      ...(missing === null ? [enter('haproxy', await haproxy(server.port, generator.folder))] : []),
      { variant: 'direct', port: server.port },
    ];
    const rows = await runTrial('splice', generator, contestants, effort, wanted);
    for (const { process } of ours) {
      const { sent } = JSON.parse(await process.stop()) as { readonly sent: number };
      if (sent === 0) throw new PathError('the kernel sent on no data at all, expected them to go past the proxy');
    }
    return { rows, notes: missing === null ? [] : [missing] };
  },
};
