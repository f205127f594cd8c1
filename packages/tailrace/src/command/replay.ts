/**
 * `tailrace run --pcap`: the packets of a capture through a pipeline or a program, in constant memory. What leaves is written
 * as it is then; totals and a table come at the end, also where that is damage, a trap or a signal.
 */
import { statSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { ArgumentError } from '@tailrace/bpf';
import { type CapturedPacket, CaptureError, CaptureWriter, readCapture } from '@tailrace/userspace';
import { ExitCode, type ReplayOptions } from './arguments.ts';
import { objectBytes } from './object-file.ts';
import { objectRunner } from './object-runner.ts';
import { type Input, LiveBlock, type Outputs } from './output.ts';
import { leaves, type PacketRunner } from './packet-runner.ts';
import { pipelineRunner } from './pipeline-runner.ts';
import { type Settled, settle } from './settlement.ts';
import { exitCodeOf, StopSignal } from './stop-signal.ts';
import { figure, Totals } from './totals.ts';

/** Time between two pictures of the progress. */
const PROGRESS_MS = 200;
/** Characters of JSON that are written at once, within a batch. */
const LINES_AT_ONCE = 1 << 16;

/** Loads, runs the capture to its end, and shows. Returns the exit code; throws what went wrong once what was done is shown. */
export async function replay(options: ReplayOptions, outputs: Outputs, input: Input): Promise<number> {
  const { file, pcap, out, quiet } = options;
  checkApart(pcap, out);
  const { output, errors } = outputs;
  using stop = new StopSignal(output, () => errors.write('tailrace: it did not stop in time\n'));
  const bytes = objectBytes(file);
  await using runner = await (bytes ? objectRunner(bytes, options) : pipelineRunner(options));
  if (runner.note !== undefined && !quiet) errors.write(`tailrace: ${runner.note}\n`);
  const pass = new Pass(options, outputs, runner, stop);
  const failures: unknown[] = [];
  await pass.through(pcap === '-' ? input() : pcap).catch((error: unknown) => failures.push(error));
  await pass.close().catch((error: unknown) => failures.push(error));
  if (stop.stopped === 'closed' || failures.some(isClosedPipe)) return ExitCode.fine;
  if (!quiet && (failures.length === 0 || pass.totals.packets > 0)) pass.show();
  await output.ready();
  if (failures.length > 0) throw failures[0];
  return stop.stopped === undefined ? ExitCode.fine : exitCodeOf(stop.stopped);
}

/** Throws ArgumentError where the output would empty the capture before it is read. */
function checkApart(pcap: string, out: string | undefined): void {
  if (out === undefined || out === '-' || pcap === '-') return;
  const [from, to] = [pcap, out].map((path) => statSync(path, { throwIfNoEntry: false }));
  if (from?.isFile() && to && from.ino === to.ino && from.dev === to.dev)
    throw new ArgumentError(`--out ${out} is the capture that is read, expected another file`);
}

/** Nobody reads the capture that is written to the standard output any more. */
function isClosedPipe(error: unknown): boolean {
  return error instanceof CaptureError && error.cause instanceof Error && 'code' in error.cause && error.cause.code === 'EPIPE';
}

/** One way through a capture. */
class Pass {
  readonly totals = new Totals();
  readonly #options: ReplayOptions;
  readonly #outputs: Outputs;
  readonly #runner: PacketRunner;
  readonly #stop: StopSignal;
  readonly #progress: LiveBlock | undefined;
  #drawnAt = performance.now();
  #writer: CaptureWriter | undefined;
  #lines = '';

  constructor(options: ReplayOptions, outputs: Outputs, runner: PacketRunner, stop: StopSignal) {
    this.#options = options;
    this.#outputs = outputs;
    this.#runner = runner;
    this.#stop = stop;
    // on one terminal, lines of packets and the progress would be drawn over each other
    const isAlone = !options.json || !outputs.output.live;
    this.#progress = outputs.errors.live && isAlone && !options.quiet ? new LiveBlock(outputs.errors) : undefined;
  }

  /** Runs a capture to its end, or until there is a reason to stop. */
  async through(source: string | AsyncIterable<Uint8Array>): Promise<void> {
    for await (const captured of untilStopped(readCapture(source), this.#stop.reason)) {
      await this.#open();
      await this.#run(captured);
      if (this.#stop.stopped !== undefined) return;
      this.#draw();
      await this.#outputs.output.ready();
      // signals and closed pipes are heard between two batches
      await setImmediate();
    }
    await this.#open();
  }

  /** Ends the progress and the capture that is written. Throws CaptureError. */
  async close(): Promise<void> {
    this.#progress?.end([]);
    await this.#writer?.close();
  }

  /** Writes the totals and the table of stages. */
  show(): void {
    const { json, out, pcap, engine } = this.#options;
    const output = json || out === '-' ? this.#outputs.errors : this.#outputs.output;
    const title = `${this.#runner.title} on ${pcap === '-' ? 'the standard input' : pcap}`;
    const how = engine === 'kernel' ? `${title}, by test runs in the kernel, attached to nothing` : title;
    output.write(`${this.totals.draw(how)}\n\n${this.#runner.table()}\n`);
  }

  /** Begins the capture that is written: not before the one that is read has turned out to be one. */
  async #open(): Promise<void> {
    const { out } = this.#options;
    if (out !== undefined) this.#writer ??= await CaptureWriter.open(out === '-' ? process.stdout : out);
  }

  async #run(captured: readonly CapturedPacket[]): Promise<void> {
    try {
      for await (const settled of settle(captured, this.#runner, this.totals.packets)) {
        for (const one of settled) {
          if (this.#options.json) this.#lines += lineOf(this.totals.packets, one);
          this.totals.take(one);
          const behind = this.#write(one);
          if (behind !== undefined) await behind;
        }
        if (this.#lines.length > LINES_AT_ONCE) this.#say();
        if (this.#stop.stopped !== undefined) return;
      }
    } finally {
      this.#say();
    }
  }

  #say(): void {
    if (this.#lines !== '') this.#outputs.output.write(this.#lines);
    this.#lines = '';
  }

  #write(settled: Settled): Promise<void> | undefined {
    if ('refusal' in settled || !leaves(settled.outcome.verdict)) return undefined;
    const { frame, outcome } = settled;
    // what the capture cut off is still missing
    const length = outcome.packet.length + frame.originalLength - frame.bytes.length;
    return this.#writer?.write(outcome.packet, frame.timestampNs, length);
  }

  #draw(): void {
    const now = performance.now();
    if (this.#progress === undefined || now - this.#drawnAt < PROGRESS_MS) return;
    this.#drawnAt = now;
    this.#progress.draw([`${figure(this.totals.packets)} packets, ${figure(this.totals.rate)} packets/s`]);
  }
}

/** One packet as JSON, with its number in the capture. */
function lineOf(index: number, settled: Settled): string {
  if ('refusal' in settled) {
    const { length, refusal } = settled;
    return `${JSON.stringify({ index, verdict: null, length, path: [], refused: refusal })}\n`;
  }
  const { verdict, packet, path = null, redirect } = settled.outcome;
  const to = redirect && ('map' in redirect ? { map: redirect.map.spec.name, key: redirect.key } : redirect);
  return `${JSON.stringify({ index, verdict, length: packet.length, path, redirect: to })}\n`;
}

/** What a source gives until there is a reason to stop, which must not wait for a source that has nothing to give. */
async function* untilStopped<T>(values: AsyncGenerator<T, void>, stopped: Promise<unknown>): AsyncGenerator<T, void> {
  let isStopped = false;
  let wake = (): void => {};
  void stopped.then(() => {
    isStopped = true;
    wake();
  });
  let pending = false;
  try {
    while (!isStopped) {
      const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<T, void> | undefined>();
      wake = () => resolve(undefined);
      pending = true;
      values.next().then(resolve, reject);
      const next = await promise;
      if (next === undefined) return;
      pending = false;
      if (next.done) return;
      yield next.value;
    }
  } finally {
    // while it waits for more it would answer only then
    if (!pending) await values.return();
  }
}
