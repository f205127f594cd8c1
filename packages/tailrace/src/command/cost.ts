/** `tailrace graph --cost`: what each chain takes, fused or not, and with a capture how long packets take. */
import { type ChainCost, type ChainHook, hookTitle } from '@tailrace/pipeline';
import type { Override } from '@tailrace/stage';
import { readCapture } from '@tailrace/userspace';
import { ExitCode, type GraphOptions } from './arguments.ts';
import type { Input, Output } from './output.ts';
import { engineOf } from './packet-runner.ts';
import { type AnyPipeline, importPipeline } from './pipeline-module.ts';

/** Packets that are measured by, and how often each runs. */
const FRAMES = 64;
const REPEAT = 2_000;

/** One way to build a chain. */
interface CostRow extends ChainCost {
  /** `chained`: every stage a program of its own; `fused`: all of them one. */
  readonly built: 'declared' | 'chained' | 'fused';
  /** Nanoseconds a packet, the root included. */
  readonly ns?: number;
}

/** Imports, compiles in every way, measures where that is asked for, and shows. Returns the exit code. */
export async function cost({ file, measure, json }: GraphOptions, output: Output, input: Input): Promise<number> {
  const { pipeline, services } = await importPipeline(file);
  const frames = measure && (await firstFrames(measure.pcap === '-' ? input() : measure.pcap));
  const ways = { declared: pipeline, chained: pipeline.built({ fuse: false }), fused: pipeline.built({ fuse: true }) };
  const rows: CostRow[] = [];
  for (const [built, way] of Object.entries(ways) as [CostRow['built'], AnyPipeline][]) {
    const times = measure && frames ? await measured(way, services, measure.engine, frames) : undefined;
    rows.push(...way.cost().map((chain) => ({ built, ...chain, ...(times ? { ns: times.get(chain.hook) ?? 0 } : {}) })));
  }
  // hook by hook
  const sorted = ways.declared.cost().flatMap(({ hook }) => rows.filter((row) => row.hook === hook));
  output.write(json ? `${JSON.stringify(sorted, undefined, 2)}\n` : `${drawCost(sorted)}\n`);
  return ExitCode.fine;
}

async function firstFrames(source: Parameters<typeof readCapture>[0]): Promise<readonly Uint8Array[]> {
  const frames: Uint8Array[] = [];
  for await (const batch of readCapture(source, { batchPackets: FRAMES })) {
    frames.push(...batch.map(({ bytes }) => bytes.slice()));
    if (frames.length >= FRAMES) break;
  }
  return frames.slice(0, FRAMES);
}

/** The mean of the frames, by hook: each chain gets them as they are. */
async function measured(
  pipeline: AnyPipeline,
  services: readonly Override[],
  engine: 'userspace' | 'kernel',
  frames: readonly Uint8Array[],
): Promise<ReadonlyMap<ChainHook, number>> {
  await using running = await pipeline.run(engineOf(engine), { services });
  const times = new Map<ChainHook, number>();
  for (const hook of Object.keys(pipeline.describe().chains) as ChainHook[]) {
    let sum = 0;
    for (const frame of frames) sum += (await running.run(frame, { hook, repeat: REPEAT })).durationNs;
    times.set(hook, frames.length === 0 ? 0 : sum / frames.length);
  }
  return times;
}

function drawCost(rows: readonly CostRow[]): string {
  const heading = [
    '',
    'programs',
    'instructions',
    'longest way',
    'stack',
    'tail calls',
    ...(rows[0]?.ns === undefined ? [] : ['ns a packet']),
  ];
  const table = rows.map(({ hook, built, programs, instructions, longest, stackSize, tailCalls, ns }) => [
    `${hookTitle[hook]}, ${built === 'declared' ? 'as declared' : built}`,
    ...[programs, instructions, longest, stackSize, tailCalls].map(String),
    ...(ns === undefined ? [] : [ns.toFixed(1)]),
  ]);
  const widths = heading.map((title, column) => Math.max(title.length, ...table.map((row) => row[column]?.length ?? 0)));
  return [heading, ...table]
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
