/** All events of a pipeline in one stream, on an engine. */
import { setTimeout } from 'node:timers/promises';
import { ArgumentError, type Engine } from '@tailrace/bpf';
import { defineFunction, events, stage, struct, u32 } from '@tailrace/stage';
import { map } from 'rxjs';
import { expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { packetOf } from './sample.ts';

const lengths = events({ name: 'lengths', value: struct({ length: u32 }), bytes: 4096 });
const others = events({ name: 'others', value: u32, bytes: 4096 });
const first = stage({
  name: 'first',
  hook: 'xdp',
  uses: { lengths },
  program(ctx, { lengths }) {
    lengths.send({ length: ctx.length });
    return ctx.next();
  },
});
const sending = <const N extends string>(name: N, number: number, to = others) =>
  stage({
    name,
    hook: 'xdp',
    uses: { to, number },
    program(ctx, { to, number }) {
      to.send(number);
      return ctx.next();
    },
  });
const own = events({ name: 'others', value: u32, bytes: 4096 });
const alike = events({ name: 'others', value: u32, bytes: 4096 });
const inner = sending('inner', 3, own);
const watch = defineFunction({ name: 'watch', stages: { xdp: [inner] } });
const edge = pipeline('edge', { xdp: [first, sending('second', 1), sending('third', 2, alike), watch] });

/** The cases, on an engine. */
export function pipelineEventsSuite(engine: Engine): void {
  test('by name, also of those that come with a change; stopping completes', async () => {
    const running = await edge.run(engine);
    const seen: string[] = [];
    let isDone = false;
    const read = () =>
      running.events$.subscribe({
        next: ({ name, event }) => seen.push(`${name} ${JSON.stringify(event)}`),
        complete: () => {
          isDone = true;
        },
      });
    const once = read();
    const reached = async (count: number): Promise<string[]> => {
      for (const until = Date.now() + 5000; seen.length < count && Date.now() < until; ) await setTimeout(2);
      return seen.splice(0).sort();
    };
    await running.run(packetOf(60));
    expect(await reached(4)).toEqual(['lengths {"length":60}', 'others 1', 'third.others 2', 'watch.others 3']);
    once.unsubscribe();
    await running.run(packetOf(61));
    await setTimeout(10);
    expect(seen).toEqual([]);
    read();
    expect(await reached(4)).toHaveLength(4);
    const fresh = events({ name: 'fresh', value: u32, bytes: 4096 });
    await running.replace(first, sending('other', 9, fresh));
    await running.run(packetOf(62));
    expect(await reached(4)).toEqual(['fresh 9', 'others 1', 'third.others 2', 'watch.others 3']);
    await running.run(packetOf(63));
    await running.stop();
    expect(isDone).toBe(true);
    expect(seen).toHaveLength(4);
    isDone = false;
    read();
    expect(isDone).toBe(true);
  });

  test('who fails fails alone, and what nobody reads in time is counted', async () => {
    await using running = await edge.run(engine);
    const [seen, errors]: [string[], unknown[]] = [[], []];
    const failing = map(({ name }: { readonly name: string }) => {
      if (name === 'watch.others') throw new RangeError('mine');
      return name;
    });
    running.events$.pipe(failing).subscribe({ error: (error) => errors.push(error) });
    const other = running.events$.subscribe(({ name }) => seen.push(name));
    const reached = async (count: number): Promise<number> => {
      for (const until = Date.now() + 5000; seen.length < count && Date.now() < until; ) await setTimeout(2);
      return seen.length;
    };
    await running.run(packetOf(60));
    await running.run(packetOf(60));
    expect([await reached(8), errors]).toEqual([8, [new RangeError('mine')]]);
    other.unsubscribe();
    // 4,096 bytes of a ring take 256 records of 4 bytes; packets do not wait for readers
    const rings = [running.handle(lengths), ...[others, alike, own].map((ring) => running.handle(ring))];
    for (let count = 0; count < 300; count++) await running.run(packetOf(60));
    const lost = rings.map((ring) => ring.lost);
    for (const count of lost) expect(count).toBeGreaterThan(40n);
    seen.length = 0;
    running.events$.subscribe(({ name }) => seen.push(name));
    const kept = 4 * 300 - Number(lost.reduce((sum, count) => sum + count));
    expect(await reached(kept)).toBe(kept);
    expect(rings.map((ring) => ring.lost)).toEqual(lost);
    expect(rings.map((ring) => ring.received + ring.lost)).toEqual(rings.map(() => 302n));
  });

  test('a ring that somebody else reads is an error', async () => {
    await using running = await edge.run(engine);
    const reader = running
      .handle(lengths)
      .consume(() => undefined)
      .subscribe();
    const errors: unknown[] = [];
    running.events$.subscribe({ error: (error) => errors.push(error) });
    expect(errors).toEqual([expect.any(ArgumentError)]);
    reader.unsubscribe();
  });
}
