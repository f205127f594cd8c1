/** `tailrace run --interface`: a pipeline on interfaces until it is stopped, with live counters. Takes it off cleanly, however it ends. */
import { ArgumentError } from '@tailrace/bpf';
import { kernel } from '@tailrace/kernel';
import type { Running } from '@tailrace/pipeline';
import type { RunCommandOptions } from './arguments.ts';
import { Keyboard } from './keyboard.ts';
import { objectBytes } from './object-file.ts';
import { runObject } from './object-run.ts';
import type { Output, Outputs } from './output.ts';
import { type AnyLayout, importPipeline } from './pipeline-module.ts';
import { type CanaryEnd, importNext, RunCanary } from './run-canary.ts';
import { type Moment, type View, viewOf } from './run-view.ts';
import { exitCodeOf, type StopReason, StopSignal } from './stop-signal.ts';
import { observeOf, Telling } from './told-packets.ts';

/** Imports, runs until a signal comes or the time is over, and shows. Returns the exit code. */
export async function run(options: RunCommandOptions, { output, errors }: Outputs): Promise<number> {
  using stop = new StopSignal(output, () => errors.write('tailrace: it did not stop in time\n'));
  const { file, interfaces, netns, tc, xdp, intervalMs, forMs, persist } = options;
  const bytes = objectBytes(file);
  if (bytes !== undefined) checkForObject(options);
  if (bytes !== undefined) return await runObject(bytes, options, output, stop);
  if (options.section !== undefined || options.direction !== undefined)
    throw new ArgumentError(`${file} is no object file, and --section and --direction are for those only`);
  const { pipeline, services } = await importPipeline(file);
  const next = options.canary && (await importNext(options.canary));
  const engine = kernel({ interfaces, mode: xdp, tc: { link: tc }, ...(netns === undefined ? {} : { netns }) });
  await using running = await pipeline.run(engine, { services, statsIntervalMs: intervalMs, observe: observeOf(options), persist });
  const canary = next && (await RunCanary.start(running, next));
  const view = viewOf(options, running, output);
  const session = new Session(options, running, view, canary);
  if (forMs !== undefined) stop.after(forMs);
  const reason = await session.until(stop, output);
  const last = session.now();
  if (persist) await session.withdraw();
  try {
    await (persist ? running.leave() : running.stop());
  } finally {
    view.end(last);
  }
  if (persist) view.tell(`${running.name} goes on without this process; to end it: tailrace stop ${running.name}`, { left: true });
  return exitCodeOf(reason);
}

function checkForObject({ file, trace, drops, canary, persist }: RunCommandOptions): void {
  if (trace !== undefined || drops) throw new ArgumentError(`${file} is an object file, and --trace and --drops are for pipelines only`);
  if (canary) throw new ArgumentError(`${file} is an object file, and --canary is for pipelines only`);
  if (persist) throw new ArgumentError(`${file} is an object file, and --persist is for pipelines only`);
}

/** Packets that `t` traces, where the options do not say: one in so many. */
const TRACE_EVERY = 1000;

/** A run that goes on: what it shows, and what keys and time do to it. */
class Session {
  readonly #options: RunCommandOptions;
  readonly #running: Running<AnyLayout>;
  readonly #view: View;
  readonly #canary: RunCanary | undefined;
  readonly #telling: Telling;
  /** Rejects with what reading or changing the pipeline throws. */
  readonly #failed = Promise.withResolvers<never>();
  #hasKeys = false;
  #pressed = Promise.resolve();

  constructor(options: RunCommandOptions, running: Running<AnyLayout>, view: View, canary: RunCanary | undefined) {
    this.#options = options;
    this.#running = running;
    this.#view = view;
    this.#canary = canary;
    this.#telling = new Telling(running, view.tell, this.#failed.reject);
  }

  /** What there is to show now. */
  now(): Moment {
    const { stats, canary } = this.#canary?.shown() ?? { stats: this.#running.stats() };
    return { stats, description: this.#running.describe(), canary };
  }

  /** Before the pipeline is left: what only this process has a use for ends. */
  async withdraw(): Promise<void> {
    await this.#canary?.end('rolled back');
    await this.#running.observe({ trace: false, drops: false });
  }

  /** Hands over counters until there is a reason to stop. Throws what reading them throws. */
  async until(stop: StopSignal, output: Output): Promise<StopReason> {
    using resources = new DisposableStack();
    const show = (): void => this.#view.update({ ...this.now(), keys: this.#keys() });
    const keyboard = output.live ? Keyboard.of(process.stdin, (key) => this.#press(key, show)) : undefined;
    if (keyboard) resources.use(keyboard);
    this.#hasKeys = keyboard !== undefined;
    const shown = this.#running.stats$.subscribe({ next: show, error: this.#failed.reject });
    resources.defer(() => shown.unsubscribe());
    resources.use(this.#telling).begin(this.#options);
    const { promoteMs } = this.#options.canary ?? {};
    if (promoteMs !== undefined) {
      const timer = setTimeout(() => void this.#endCanary('promoted').catch(this.#failed.reject), promoteMs);
      resources.defer(() => clearTimeout(timer));
    }
    return await Promise.race([stop.reason, this.#failed.promise]);
  }

  #keys(): string | undefined {
    if (!this.#hasKeys) return undefined;
    if (this.#options.persist) return 'q leaves it at work';
    return `${this.#canary?.runs ? 'p promotes the canary · r rolls it back' : 't traces · d drops'} · q quits`;
  }

  /** Keys are taken one after the other. */
  #press(key: string, show: () => void): void {
    if (key === 'q') process.kill(process.pid, 'SIGINT');
    this.#pressed = this.#pressed.then(() => this.#take(key)).then(show);
    this.#pressed.catch(this.#failed.reject);
  }

  async #take(key: string): Promise<void> {
    if (key === 'p') await this.#endCanary('promoted');
    if (key === 'r') await this.#endCanary('rolled back');
    // while there is a canary the pipeline does not change, and one that is left tells of no packets
    if (this.#canary?.runs || this.#options.persist) return;
    if (key === 't') await this.#telling.switchTraces(this.#options.trace ?? TRACE_EVERY);
    if (key === 'd') await this.#telling.switchDrops();
  }

  async #endCanary(end: CanaryEnd): Promise<void> {
    const line = await this.#canary?.end(end);
    if (line !== undefined) this.#view.tell(line, { canary: end });
  }
}
