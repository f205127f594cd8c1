/** `tailrace run --interface`: a pipeline on interfaces until it is stopped, with live counters. Takes it off cleanly, however it ends. */
import { ArgumentError } from '@tailrace/bpf';
import { kernel } from '@tailrace/kernel';
import { drawPipeline, type PipelineDescription, type Running, type Stats } from '@tailrace/pipeline';
import type { Observable } from 'rxjs';
import type { RunCommandOptions } from './arguments.ts';
import { objectBytes } from './object-file.ts';
import { runObject } from './object-run.ts';
import { LiveBlock, type Output, type Outputs } from './output.ts';
import { type AnyLayout, importPipeline } from './pipeline-module.ts';
import { drawTable } from './stats-table.ts';
import { exitCodeOf, type StopReason, StopSignal } from './stop-signal.ts';
import { observeOf, toldPackets } from './told-packets.ts';

/** Imports, runs until a signal comes or the time is over, and shows. Returns the exit code. */
export async function run(options: RunCommandOptions, { output, errors }: Outputs): Promise<number> {
  using stop = new StopSignal(output, () => errors.write('tailrace: it did not stop in time\n'));
  const { file, interfaces, netns, tc, xdp, intervalMs, forMs } = options;
  const bytes = objectBytes(file);
  if (bytes !== undefined && (options.trace !== undefined || options.drops))
    throw new ArgumentError(`${file} is an object file, and --trace and --drops are for pipelines only`);
  if (bytes !== undefined) return await runObject(bytes, options, output, stop);
  if (options.section !== undefined || options.direction !== undefined)
    throw new ArgumentError(`${file} is no object file, and --section and --direction are for those only`);
  const { pipeline, services } = await importPipeline(file);
  const engine = kernel({ interfaces, mode: xdp, tc: { link: tc }, ...(netns === undefined ? {} : { netns }) });
  await using running = await pipeline.run(engine, { services, statsIntervalMs: intervalMs, observe: observeOf(options) });
  const view = viewOf(options, running, output);
  const told = toldPackets(options, running, view.tell);
  if (forMs !== undefined) stop.after(forMs);
  const reason = await untilStopped(running, view.update, told, stop.reason);
  const last = running.stats();
  const description = running.describe();
  try {
    await running.stop();
  } finally {
    view.end(last, description);
  }
  return exitCodeOf(reason);
}

/** Hands over counters until there is a reason to stop. Throws what reading them throws. */
async function untilStopped(
  running: Running<AnyLayout>,
  update: View['update'],
  told: Observable<unknown>,
  stopped: Promise<StopReason>,
): Promise<StopReason> {
  const { promise: failed, reject } = Promise.withResolvers<never>();
  const shown = running.stats$.subscribe({ next: update, error: reject });
  shown.add(told.subscribe({ error: reject }));
  try {
    return await Promise.race([stopped, failed]);
  } finally {
    shown.unsubscribe();
  }
}

type AnyStats = Stats<AnyLayout>;

/** What is shown while it runs, and at its end. */
interface View {
  readonly update: (stats: AnyStats) => void;
  /** A packet that is told of. */
  readonly tell: (line: string, data: object) => void;
  end(stats: AnyStats, description: PipelineDescription<AnyLayout>): void;
}

function viewOf({ json }: RunCommandOptions, running: Running<AnyLayout>, output: Output): View {
  if (json) return jsonLines(running, output);
  const wire = running.interfaces.join(', ');
  if (!output.live) {
    output.write(`${running.name} runs on ${wire}\n`);
    const tell = (line: string): void => output.write(`${line}\n`);
    return { update: () => undefined, tell, end: (stats, description) => output.write(`${drawTable(stats, description)}\n`) };
  }
  const block = new LiveBlock(output);
  const picture = (stats: AnyStats, description: PipelineDescription<AnyLayout>): readonly string[] =>
    drawPipeline(description, { stats, wire, color: output.color }).split('\n');
  return {
    update: (stats) => block.draw(picture(stats, running.describe())),
    tell: (line) => block.above(line),
    end: (stats, description) => block.end(picture(stats, description)),
  };
}

/** A line for each interval, and for each packet that is told of; numbers of 64 bits are strings, which keep all of their digits. */
function jsonLines({ name, interfaces }: Running<AnyLayout>, output: Output): View {
  const write = (data: object): void => {
    const line = { time: new Date().toISOString(), pipeline: name, interfaces, ...data };
    output.write(`${JSON.stringify(line, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))}\n`);
  };
  const writeStats = (stats: AnyStats): void => write({ stats });
  return { update: writeStats, tell: (_, data) => write(data), end: writeStats };
}
