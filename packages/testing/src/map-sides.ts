/** Programs with maps run on an engine and simulated, and what handles see of the maps on both sides. */
import type { EngineInstance } from '@tailrace/bpf';
import { type AnyMap, type AnyStage, type HandleOf, type Resource, struct, u8 } from '@tailrace/stage';
import fc from 'fast-check';
import { expect } from 'vitest';
import { runner } from './run.ts';
import { simulatedHandle } from './simulated-handle.ts';
import { SimulatedMaps } from './simulated-map.ts';
import { simulate } from './simulation.ts';

type Handles = <M extends AnyMap>(map: M) => HandleOf<M>;
/** A frame whose first byte says what to do. */
export const frame = (...bytes: readonly number[]): Uint8Array => Uint8Array.from({ length: 64 }, (_, i) => bytes[i] ?? 0);

/** Runs frames on both sides; `see` reads the maps after each, through the handles. All that is seen must be the same. */
export async function bothSides(
  engine: EngineInstance,
  subject: AnyStage,
  frames: readonly Uint8Array[],
  { prepare, see }: { prepare?: (handle: Handles) => Promise<void> | void; see: (handle: Handles) => unknown },
): Promise<readonly { readonly verdict: string; readonly seen: unknown }[]> {
  await using live = await runner(subject, { engine, attach: false });
  const maps = new SimulatedMaps();
  const handles = new Map<unknown, unknown>();
  const ours = (resource: Resource<unknown, unknown>): unknown => live.handle(resource);
  const simulated = (resource: Resource<unknown, unknown>): unknown => {
    if (!handles.has(resource)) handles.set(resource, simulatedHandle(maps, resource));
    return handles.get(resource);
  };
  await prepare?.(ours as Handles);
  await prepare?.(simulated as Handles);
  const results: { verdict: string; seen: unknown }[] = [];
  for (const [i, bytes] of frames.entries()) {
    const { verdict } = await live.run(bytes);
    const seen = await see(ours as Handles);
    const about = `frame ${i} of ${frames.map(([first]) => first).join(' ')}`;
    expect({ verdict, seen }, about).toEqual({
      verdict: simulate(subject, bytes, { maps }).verdict,
      seen: await see(simulated as Handles),
    });
    results.push({ verdict, seen });
  }
  return results;
}

/** Entries in one order, whichever an engine has. */
export const sorted = <T>(entries: readonly T[]): readonly T[] =>
  entries.toSorted((a, b) => (JSON.stringify(a, text) < JSON.stringify(b, text) ? -1 : 1));
const text = (_name: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}n` : value);

/** Sequences of what to do, with an operand. */
export const orders = (last: number, most = 25) =>
  fc.array(
    fc.tuple(fc.nat(last), fc.nat(5)).map(([what, operand]) => frame(what, operand)),
    { maxLength: most },
  );
/** What a frame says. */
export const Order = struct({ what: u8, key: u8 });
/** For properties: each run loads a program. */
export const runs = { numRuns: 6 };
