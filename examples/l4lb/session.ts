/** What the parts of the demo share: the signal that stops it, requests that are shown while they run, and how errors are told. */
import { CompileError, formatDiagnostic, TailraceError } from 'tailrace';
import { UsageError } from './demo-options.ts';
import { type DemoNetwork, REALS, type RealName, VIP } from './network.ts';
import { bars, dim, green, LiveBlock, line, red } from './screen.ts';

const stop = new AbortController();
let stoppedCode = 0;

/** Runs the demo; Ctrl-C, SIGTERM and the end of whoever reads it end it as an error would, with their own exit codes; 2 is wrong use. */
export async function session(demo: () => Promise<boolean>): Promise<void> {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.once(signal, () => {
      stoppedCode = code;
      stop.abort(new TailraceError('timeout', `stopped by ${signal}`));
    });
  process.stdout.on('error', () => {
    // as SIGPIPE has it
    stoppedCode = 141;
    stop.abort(new TailraceError('timeout', 'stopped: nobody reads the output'));
  });
  try {
    if (!(await demo())) process.exitCode = 1;
  } catch (error) {
    report(error);
    process.exitCode = stoppedCode || (error instanceof UsageError ? 2 : 1);
  }
}

/** The promise, unless the demo is stopped first. */
export function untilStopped<T>(promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(stop.signal.reason);
    stop.signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => stop.signal.removeEventListener('abort', abort));
    if (stop.signal.aborted) abort();
  });
}

/**
 * Sends requests to the vip over connections of their own, eight at a time, and shows how they spread while they run.
 * Returns how many failed.
 */
export async function requests(client: DemoNetwork['hosts']['client'], port: number, total: number): Promise<number> {
  const counts = new Map<string, number>(REALS.map((name: RealName) => [name, 0]));
  const block = new LiveBlock();
  let failed = 0;
  let left = total;
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      stop.signal.throwIfAborted();
      try {
        const { name = '?' } = await client.request(`http://${VIP}:${port}/`, { timeoutMs: 2_000 });
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
  line(failed === 0 ? green('no request failed') : red(`${failed} requests failed`));
  return failed;
}

function report(error: unknown): void {
  if (error instanceof CompileError) process.stderr.write(`${formatDiagnostic(error.diagnostic)}\n`);
  else if (error instanceof TailraceError)
    process.stderr.write(`${red('demo:')} ${error.message}\n${error.hint ? dim(`  ${error.hint}\n`) : ''}`);
  else throw error;
}
