/**
 * Runs a small pipeline and tells on stdout what came of it, as JSON. Started with capabilities taken away by
 * privilege.kernel.test.ts; an argument is the path of a network namespace to run in.
 */
import { writeSync } from 'node:fs';
import { kernel, PrivilegeError, pipeline, stage, TailraceError } from 'tailrace';

/** What is told. */
export type Told =
  | { readonly verdict: string; readonly packets: number }
  | {
      readonly error: string;
      readonly message: string;
      readonly hint: string | undefined;
      readonly missing: readonly string[] | undefined;
    };

const [netns] = process.argv.slice(2);
const last = stage({ name: 'last', hook: 'xdp', program: (ctx) => (ctx.length > 100 ? ctx.drop() : ctx.next()) });

async function told(): Promise<Told> {
  try {
    await using running = await pipeline('least', { xdp: [last] }).run(
      kernel({ interfaces: [], ...(netns === undefined ? {} : { netns }) }),
    );
    const { verdict } = await running.run(new Uint8Array(64));
    return { verdict, packets: Number(running.stats().xdp.last.packets) };
  } catch (error) {
    if (!(error instanceof TailraceError)) throw error;
    const { name, message, hint } = error;
    return { error: name, message, hint, missing: error instanceof PrivilegeError ? error.missing : undefined };
  }
}

writeSync(1, JSON.stringify(await told()));
