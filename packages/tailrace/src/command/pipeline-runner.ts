/** Packets of a capture through a pipeline: injected into the userspace engine, or by test runs of the kernel, hook by hook. */
import { ArgumentError } from '@tailrace/bpf';
import { type ChainHook, chainHooks, type Injected, type InjectedStep, type Running } from '@tailrace/pipeline';
import type { Direction, ReplayOptions } from './arguments.ts';
import { engineOf, type Outcome, type PacketRunner } from './packet-runner.ts';
import { type AnyLayout, importPipeline } from './pipeline-module.ts';
import { drawTable } from './stats-table.ts';

/** Imports a module and loads its pipeline. Throws what that throws, and ArgumentError where it has no chain for the direction. */
export async function pipelineRunner({ file, engine, direction, json, section }: ReplayOptions): Promise<PacketRunner> {
  if (section !== undefined) throw new ArgumentError(`${file} is no object file, and --section is for those only`);
  const { pipeline, services } = await importPipeline(file);
  const { chains, crossing } = pipeline.describe();
  const hooks = hooksOf(Object.keys(chains), direction);
  const running = await pipeline.run(engineOf(engine), { services });
  const isCut = engine === 'kernel' && hooks.length > 1 && crossing.length > 0;
  return {
    title: pipeline.name,
    ...(isCut ? { note: `test runs carry no metadata from XDP to TC ingress: ${crossing.join(', ')} are 0 there` } : {}),
    isOneByOne: json || engine === 'kernel',
    run(frames) {
      if (engine === 'kernel') return testRuns(running, hooks, frames);
      return json ? oneByOne(running, direction, frames) : together(running, direction, frames);
    },
    table: () => drawTable(running.stats(), running.describe()),
    [Symbol.asyncDispose]: () => running.stop(),
  };
}

/** The chains that packets of a direction meet. */
function hooksOf(has: readonly string[], direction: Direction): readonly ChainHook[] {
  const hooks = chainHooks.filter((hook) => has.includes(hook) && (hook === 'tcEgress') === (direction === 'egress'));
  if (hooks.length === 0)
    throw new ArgumentError(`the pipeline has no chain for ${direction}, only ${has.join(', ')}`, {
      hint: `say --direction ${direction === 'ingress' ? 'egress' : 'ingress'}`,
    });
  return hooks;
}

/** As one batch: paths are not told. */
async function* together(
  running: Running<AnyLayout>,
  direction: Direction,
  frames: readonly Uint8Array[],
): AsyncGenerator<readonly Outcome[], void> {
  const outcomes: Outcome[] = [];
  for await (const injected of running.inject(batchOf(frames), { direction })) outcomes.push(outcomeOf(injected));
  yield outcomes;
}

async function* batchOf(frames: readonly Uint8Array[]): AsyncGenerator<readonly Uint8Array[], void> {
  yield frames;
}

async function* oneByOne(
  running: Running<AnyLayout>,
  direction: Direction,
  frames: readonly Uint8Array[],
): AsyncGenerator<readonly Outcome[], void> {
  for (const frame of frames) yield [outcomeOf(await running.inject(frame, { direction, path: true }))];
}

function outcomeOf({ verdict, packet, redirect, path }: Injected): Outcome {
  return { verdict, packet, path, ...(redirect ? { redirect } : {}) };
}

/** Each packet by itself, from hook to hook as long as it passes. */
async function* testRuns(
  running: Running<AnyLayout>,
  hooks: readonly ChainHook[],
  frames: readonly Uint8Array[],
): AsyncGenerator<readonly Outcome[], void> {
  for (const frame of frames) {
    let [verdict, packet]: [string, Uint8Array] = ['pass', frame];
    let path: readonly InjectedStep[] | undefined = [];
    for (const hook of hooks) {
      if (verdict !== 'pass') break;
      const result = await running.run(packet, { hook });
      ({ verdict, packet } = result);
      path = result.path && path?.concat(result.path.map((step) => ({ hook, ...step })));
    }
    yield [{ verdict, packet, path }];
  }
}
