/** A stage, compiled and run by an engine, does on every packet what its body does as plain JavaScript. */
// biome-ignore lint/style/noRestrictedImports: only tests import this file
import type { Engine } from '@tailrace/bpf';
import type { AnyStage, PerCpuArrayHandle, Resource } from '@tailrace/stage';
// biome-ignore lint/style/noRestrictedImports: only tests import this file
import { runner, SimulatedMaps, simulate, simulatedHandle } from '@tailrace/testing';
import { expect } from 'vitest';
import type { Case } from './stage-frames.ts';

/** Gives the handle of a map or structure, of the simulation or of the engine. */
export type HandleOf = <H>(resource: Resource<unknown, H>) => H;

/** Runs the cases on both, one after the other over the same state, and returns the outcomes. */
export async function agree(
  engine: Engine,
  stage: AnyStage,
  cases: readonly Case[],
  prepare: (handleOf: HandleOf) => void,
  counters?: Resource<unknown, PerCpuArrayHandle<unknown>>,
  after?: (simulated: HandleOf, live: HandleOf) => void,
) {
  const maps = new SimulatedMaps();
  await using loaded = await runner(stage, { engine });
  prepare((resource) => simulatedHandle(maps, resource));
  prepare((resource) => loaded.handle(resource));
  const outcomes = new Map<string, number>();
  for (const { frame, meta = {} } of cases) {
    const expected = simulate(stage, frame, { maps, meta });
    const { durationNs: _, ...actual } = await loaded.run(frame, { meta });
    const { verdict, exit, reason, redirect: __, packet: bytes, meta: left } = expected;
    expect({ ...actual, packet: hex(actual.packet) }).toEqual({
      verdict,
      ...(exit === undefined ? {} : { exit }),
      ...(reason === undefined ? {} : { reason }),
      packet: hex(bytes),
      meta: left,
    });
    const outcome = exit ?? verdict;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  if (counters) {
    const [simulated, live] = [simulatedHandle(maps, counters), loaded.handle(counters)];
    for (let index = 0; index < live.size; index++) expect(live.sum(index)).toEqual(simulated.sum(index));
  }
  after?.(
    (resource) => simulatedHandle(maps, resource),
    (resource) => loaded.handle(resource),
  );
  return Object.fromEntries([...outcomes].sort());
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
