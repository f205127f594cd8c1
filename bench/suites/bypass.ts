/** Connections between processes of one host past TCP, as long as who sends is answered and whatever is sent, beside plain TCP over loopback. */
import { type BypassOptions, bypass as bypassFunction } from '@tailrace/functions/bypass';
import { kernel } from '@tailrace/kernel';
import { pipeline } from '@tailrace/pipeline';
import { Cgroup } from '@tailrace/testing';
import { clangMissing } from '../clang.ts';
import { PathError } from '../contest.ts';
import { Generator } from '../load/generator.ts';
import { runTrial, TRIAL_ROWS } from '../load/trial.ts';
import type { Suite } from '../row.ts';

/** The suite. */
export const bypass: Suite = {
  name: 'bypass',
  hook: null,
  about: 'two processes over loopback on one CPU, past TCP and through it, ns; 1,000 ns a KB are 1 GB/s, and of CPU 1 s a GB',
  cases: TRIAL_ROWS.filter((name) => !name.endsWith('CPU of the proxy')),
  async run(effort, wanted) {
    const reason = clangMissing();
    if (reason !== null) return { rows: [], notes: [`${reason}, and with it the load generator`] };
    using generator = new Generator();
    await using stack = new AsyncDisposableStack();
    const past = async (options: BypassOptions) => {
      const { path: cgroup } = stack.use(new Cgroup());
      const local = bypassFunction(options);
      const running = stack.use(await pipeline('bench', { sockOps: [local], skMsg: [local] }).run(kernel({ cgroup })));
      const { process, port } = await generator.serve({ cgroup });
      stack.use(process);
      return { running, local, place: { port, cgroup } };
    };
    const [bounded, unbounded] = [await past({}), await past({ maxUnanswered: Number.POSITIVE_INFINITY })];
    const outside = await generator.serve();
    stack.use(outside.process);
    const contestants = [
      { variant: 'tailrace', ...bounded.place },
      { variant: 'kernel', ...unbounded.place },
      { variant: 'direct', port: outside.port },
    ] as const;
    const rows = await runTrial('bypass', generator, contestants, effort, wanted);
    for (const { running, local } of [bounded, unbounded]) {
      const { verdicts, next } = running.stats().skMsg['bypass.handOver'];
      // a stream that nothing answers is TCP's before long
      if (verdicts.redirect === 0n || (next > 0n && running.controller(local).unanswered === 0n))
        throw new PathError(`${verdicts.redirect} messages went past TCP and ${next} through it`);
    }
    return { rows, notes: [] };
  },
};
