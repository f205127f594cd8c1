/** Chains under packets: swaps while test runs flow, and slots that are empty. */
import { setImmediate } from 'node:timers/promises';
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { hash, stage, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { bounce, fork, packetOf, step } from './sample.ts';

const seen = hash({ name: 'seen', key: u32, value: u64, maxEntries: 8 });
const first = stage({
  name: 'first',
  hook: 'xdp',
  uses: { seen },
  program: (ctx, { seen }) => (seen.lookup(1) ? ctx.drop() : ctx.next()),
});
const guard = fork('guard');
/** The chain's last stage, to which two ways lead. */
export const last = step('last');
/** A chain with an exit that rejoins it. */
export const edge = pipeline('edge', { xdp: [first, guard.on({ odd: [step('odd'), 'next'] }), last] });

/** The cases, on an engine. */
export function liveSuite(engine: Engine): void {
  test('while packets run, stages are swapped back and forth: each packet meets one of them, none is missed', async () => {
    await using running = await edge.run(engine);
    const answer = bounce('answer');
    let [going, packets] = [true, 0];
    const results = new Set<string>();
    const traffic = async (length: number): Promise<void> => {
      while (going) {
        results.add((await running.run(packetOf(length))).verdict);
        packets += 1;
        await setImmediate();
      }
    };
    const flows = [traffic(60), traffic(61)];
    const swaps = [
      () => running.replace(last, answer), // two ways lead there: a generation
      () => running.replace(guard, fork('guardV2')), // one way: a slot
      () => running.replace(last, last),
      () => running.replace(guard, guard),
    ];
    for (let i = 0; i < 5; i++)
      for (const swap of swaps) {
        await swap();
        await setImmediate();
      }
    going = false;
    await Promise.all(flows);
    const { xdp, roots } = running.stats();
    expect([...results].sort()).toEqual(['pass', 'tx']);
    expect(xdp.first).toMatchObject({ packets: BigInt(packets), next: BigInt(packets), misses: 0n });
    expect(xdp.last.packets).toBe(BigInt(packets));
    expect([xdp.guard.misses, xdp.odd.misses, roots.xdp.misses]).toEqual([0n, 0n, 0n]);
    expect(xdp.guard.exits.odd).toBe(xdp.odd.packets);
  }, 60_000);

  test('an empty slot is a miss, counted, and ends with what the stage says', async () => {
    const strict = stage({ name: 'strict', hook: 'xdp', onMiss: 'drop', program: (ctx) => ctx.next() });
    const tampered: { instance?: EngineInstance; array?: ReturnType<EngineInstance['createMap']> } = {};
    const watching: Engine = {
      kind: engine.kind,
      async open() {
        const instance = await engine.open();
        return watched(instance, (name, result) => {
          const map = result as ReturnType<EngineInstance['createMap']>;
          if (name === 'createMap' && map.spec.name === 'miss/xdp.array') tampered.array = map;
        });
      },
    };
    await using running = await pipeline('miss', { xdp: [strict, last] }).run(watching);
    await tampered.array?.clearProgram(0);
    expect((await running.run(packetOf(60))).verdict).toBe('drop');
    expect(running.stats().xdp.strict).toMatchObject({ packets: 1n, next: 1n, misses: 1n });
    expect(running.stats().xdp.last.packets).toBe(0n);
  });
}

/** An engine instance that tells what its calls gave. */
export function watched(instance: EngineInstance, on: (name: string, result: unknown) => void): EngineInstance {
  return new Proxy(instance, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        const result: unknown = value.apply(target, args);
        const tell = (made: unknown): unknown => {
          on(String(name), made);
          return made;
        };
        return result instanceof Promise ? result.then(tell) : tell(result);
      };
    },
  });
}
