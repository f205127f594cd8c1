/** Chains under packets: swaps while test runs and real traffic flow, and what is left after errors and stops. */
import { createSocket } from 'node:dgram';
import { readdirSync, readlinkSync } from 'node:fs';
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { bindUdp, createNamespace, kernel, Rtnetlink } from '@tailrace/kernel';
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
const last = step('last');
const edge = pipeline('edge', { xdp: [first, guard.on({ odd: [step('odd'), 'next'] }), last] });

/** Files of this process that are bpf objects or sockets. */
function openFds(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return /bpf|socket|net:/.test(readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      return false;
    }
  }).length;
}

test('while packets run, stages are swapped back and forth: each packet meets one of them, none is missed', async () => {
  await using running = await edge.run(kernel({ interfaces: [] }));
  const answer = bounce('answer');
  let [going, packets] = [true, 0];
  const results = new Set<string>();
  const traffic = async (length: number): Promise<void> => {
    while (going) {
      results.add((await running.run(packetOf(length))).verdict);
      packets += 1;
    }
  };
  const flows = [traffic(60), traffic(61)];
  for (let i = 0; i < 5; i++) {
    await running.replace(last, answer); // two ways lead there: a generation
    await running.replace(guard, fork('guardV2')); // one way: a slot
    await running.replace(last, last);
    await running.replace(guard, guard);
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
  const engine: Engine = {
    kind: 'kernel',
    async open() {
      const instance = await kernel({ interfaces: [] }).open();
      return watched(instance, (name, result) => {
        const map = result as ReturnType<EngineInstance['createMap']>;
        if (name === 'createMap' && map.spec.name === 'miss/xdp.array') tampered.array = map;
      });
    },
  };
  await using running = await pipeline('miss', { xdp: [strict, last] }).run(engine);
  await tampered.array?.clearProgram(0);
  expect((await running.run(packetOf(60))).verdict).toBe('drop');
  expect(running.stats().xdp.strict).toMatchObject({ packets: 1n, next: 1n, misses: 1n });
  expect(running.stats().xdp.last.packets).toBe(0n);
});

test('an error at any step leaves no file open', async () => {
  const before = openFds();
  let steps = 0;
  const counting = failing(Number.POSITIVE_INFINITY, () => {
    steps += 1;
  });
  await (await edge.run(counting)).stop();
  expect(steps).toBe(10);
  for (let at = 0; at < steps; at++) await expect(edge.run(failing(at, () => undefined))).rejects.toThrow(`step ${at} was told to fail`);
  expect(openFds()).toBe(before);
});

test('real packets on an interface', async () => {
  using namespace = createNamespace();
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'left' }, { name: 'right' });
  for (const [name, address] of [
    ['left', '10.9.0.1/24'],
    ['right', '10.9.1.1/24'],
  ] as const) {
    route.change(name, { up: true });
    route.addAddress(name, address);
  }
  route.setNeighbour('left', '10.9.0.2', '02:00:00:00:00:02');
  const running = await edge.run(kernel({ interfaces: ['right'], netns: namespace }));
  expect(running.interfaces).toEqual(['right']);
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind({ fd: bindUdp(namespace, '10.9.0.1', 0) }, resolve));
  try {
    const send = (count: number) =>
      Promise.all(
        Array.from(
          { length: count },
          () =>
            new Promise<void>((resolve, reject) =>
              socket.send(new Uint8Array(100), 9, '10.9.0.2', (error) => (error ? reject(error) : resolve())),
            ),
        ),
      );
    await send(20);
    await running.replace(last, bounce('v2'));
    await send(20);
    const counted = () => running.stats().xdp;
    for (let i = 0; i < 100 && counted().last.packets < 40n; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(counted().first.packets).toBeGreaterThanOrEqual(40n);
    expect(counted().last.verdicts.tx).toBeGreaterThanOrEqual(20n);
    expect(counted().first.packets).toBe(counted().guard.packets);
    const other = pipeline('other', { xdp: [last] }).run(kernel({ interfaces: ['right'], netns: namespace }));
    await expect(other).rejects.toMatchObject({ code: 'conflict' });
  } finally {
    await new Promise<void>((resolve) => socket.close(resolve));
    await running.stop();
  }
  expect(route.interface('right').xdp).toEqual([]);
});

/** An engine instance that tells what its calls gave. */
function watched(instance: EngineInstance, on: (name: string, result: unknown) => void): EngineInstance {
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

/** The kernel engine, with one call that fails after it was made: what it gave is the engine's to close. */
function failing(at: number, onStep: () => void): Engine {
  let steps = 0;
  return {
    kind: 'kernel',
    open: async () =>
      watched(await kernel({ interfaces: [] }).open(), (name) => {
        if (!['createMap', 'loadProgram', 'attach'].includes(name)) return;
        onStep();
        if (steps++ === at) throw new RangeError(`step ${at} was told to fail`);
      }),
  };
}
