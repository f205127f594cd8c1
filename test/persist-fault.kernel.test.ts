/**
 * Each system call of what is done with a pipeline fails once: starting it, taking it over, updating it, replacing a stage, leaving and
 * stopping it. All of it is rolled back, or the error came behind the change: packets go on in one chain or the other, and nothing
 * stays that neither has.
 */
import { kernel, type PacketSocket } from '@tailrace/kernel';
import { keptPipelines, stopKept } from '@tailrace/pipeline';
import { eventually, Wire } from '@tailrace/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { injectFailure } from '../packages/kernel/src/syscall.ts';
import { failing, failingAfter } from './failing-calls.ts';
import { AT, keptEdge, PROBE, STAGES } from './kept-edge.ts';
import { openFds } from './kernel-objects.ts';
import { NOBODY, nextNumbered, numberedFrame } from './numbered-frames.ts';
import { expectSame, heldOf, objectsOf, type PipelineObjects, stopLeft } from './pipeline-objects.ts';

const name = `f${process.pid}`;
let wire: Wire;
let open: Running | undefined;

beforeAll(() => {
  wire = new Wire();
});

afterEach(async () => {
  injectFailure(0);
  // what a test that failed had running
  await open?.stop().catch(() => undefined);
  open = undefined;
  await stopLeft(name);
});

afterAll(() => wire.close());

type Edge = ReturnType<typeof keptEdge>;
type Running = Awaited<ReturnType<ReturnType<Edge['edge']>['run']>>;

const ways = {
  persistent: { persist: true, tc: {} },
  'by TCX': { persist: false, tc: { link: 'tcx' } },
  'by clsact': { persist: false, tc: { link: 'clsact' } },
} as const;
type Way = keyof typeof ways;

async function run(generation: number, way: Way = 'persistent', declared = keptEdge(name)): Promise<Running> {
  const { persist, tc } = ways[way];
  open = await declared.edge(generation).run(wire.engine({ tc }), { persist });
  return open;
}

const place = () => ({ name, stages: STAGES, namespace: wire.namespace, interface: 'right' });
const held = () => heldOf(place());
const objects = () => objectsOf(place());

/** Nothing of the pipeline, and what this file has open. */
function nothing(): PipelineObjects {
  const attached = { xdp: 0, tcIngress: 0, tcEgress: 0, filters: 0, qdisc: undefined };
  return { fds: openFds(), programs: [], maps: 0, links: [], pins: [], attached };
}

const heldIn = ({ fds, pins, attached }: PipelineObjects) => ({ fds, pins, attached });

let sent = 0;

/** Sends a frame, and reads a generation off it where it arrives; undefined where no stage wrote one. */
async function written(from: PacketSocket, to: PacketSocket, offsets: readonly number[]): Promise<readonly (number | undefined)[]> {
  sent += 1;
  from.send(numberedFrame(sent));
  const arrived = await eventually(() => received(to, sent), 2_000, `frame ${sent}`);
  return offsets.map((offset) => (arrived.getUint32(offset) === NOBODY ? undefined : arrived.getUint32(offset)));
}

function received(socket: PacketSocket, number: number): DataView | undefined {
  for (let view = nextNumbered(socket); view; view = nextNumbered(socket)) if (view.getUint32(PROBE.number) === number) return view;
  return undefined;
}

/** The generations that packets meet now, of both stages at XDP and of the one at TC egress. */
async function serving(): Promise<Readonly<Record<'first' | 'last' | 'out', number | undefined>>> {
  const [first, last] = await written(wire.left, wire.right, [PROBE.first, PROBE.last]);
  const [out] = await written(wire.right, wire.left, [PROBE.out]);
  return { first, last, out };
}

const all = (generation: number) => ({ first: generation, last: generation, out: generation });

/** One frame in each direction is counted by all chains, none of them met stages of two generations or an empty slot. */
async function expectWhole({ seen }: Edge, running: Running, about: string): Promise<void> {
  const counts = () => [AT.xdp, AT.tcIngress, AT.tcEgress].map((key) => running.map(seen).get(key) ?? 0n);
  const before = counts();
  await serving();
  expect(counts(), about).toEqual(before.map((count) => count + 1n));
  expect(running.map(seen).get(AT.mixed), about).toBe(0n);
  const none = { misses: 0n, withoutMetadata: 0n };
  expect(running.stats().roots, about).toEqual({ xdp: none, tcIngress: none, tcEgress: none });
}

function fill({ seen }: Edge, running: Running): void {
  for (const key of Object.values(AT)) running.map(seen).set(key, 0n);
}

describe.each(Object.keys(ways) as Way[])('%s', (way) => {
  test('starting', { timeout: 240_000 }, async () => {
    const before = nothing();
    const calls = await failing(
      () => run(1, way),
      async ({ nth, error }) => {
        if (error === undefined) await open?.stop();
        await expectSame(held, heldIn(before), `behind call ${nth}`);
        expect(await serving()).toEqual({ first: undefined, last: undefined, out: undefined });
      },
    );
    expect(calls).toBeGreaterThan(60);
    expect(await serving()).toEqual(all(1));
    await open?.stop();
    await expectSame(objects, before, 'in the end');
  });

  test('updating, and replacing the stage behind one slot', { timeout: 240_000 }, async () => {
    const declared = keptEdge(name);
    let running = await run(1, way, declared);
    fill(declared, running);
    const before = objects();
    let generation = 1;
    const changes = {
      update: () => running.update(declared.edge(generation) as never),
      replace: () => running.replace(declared.stages(0).last as never, declared.stages(generation).last as never),
    };
    for (const [title, change] of Object.entries(changes)) {
      const calls = await failing(
        () => {
          generation += 1;
          return change();
        },
        async ({ nth, error }) => {
          const about = `${title}, behind call ${nth}: ${error?.message}`;
          const now = await serving();
          const isMade = now.last === generation;
          expect(now, about).toEqual(title === 'replace' ? { ...now, last: now.last } : all(isMade ? generation : generation - 1));
          if (error === undefined) expect(isMade, about).toBe(true);
          await expectWhole(declared, running, about);
          if (error && isMade) {
            // without its grace period what is old stays open until the pipeline stops; anything else goes with the next change
            if (error.message.startsWith('membarrier')) {
              await running.stop();
              running = await run(generation, way, declared);
              fill(declared, running);
            } else await change();
          }
          await expectSame(held, heldIn(before), about);
          if (!isMade) await change();
        },
      );
      expect(calls, title).toBeGreaterThan(title === 'update' ? 30 : 5);
    }
    await expectSame(objects, before, 'in the end');
    await running.stop();
  });
});

test('taking over', { timeout: 240_000 }, async () => {
  const declared = keptEdge(name);
  const first = await run(1, 'persistent', declared);
  fill(declared, first);
  await first.leave();
  const before = objects();
  let generation = 1;
  const calls = await failing(
    () => {
      generation += 1;
      return run(generation);
    },
    async ({ nth, error }) => {
      const about = `call ${nth}: ${error?.message}`;
      if (error === undefined) await open?.leave();
      const now = await serving();
      const isMade = now.last === generation;
      expect(now, about).toEqual(all(isMade ? generation : generation - 1));
      if (error === undefined) expect(isMade, about).toBe(true);
      const expected = heldIn(before);
      // what an error behind the change left goes with the next process
      await expectSame(held, isMade && error ? { ...expected, pins: held().pins } : expected, about);
      generation += 1;
      const next = keptEdge(name);
      const running = await run(generation, 'persistent', next);
      await expectWhole(next, running, about);
      await running.leave();
      await expectSame(held, heldIn(before), about);
    },
  );
  expect(calls).toBeGreaterThan(60);
  await open?.leave();
  await expectSame(objects, before, 'in the end');
});

test('leaving', { timeout: 120_000 }, async () => {
  const [declared, before] = [keptEdge(name), nothing()];
  fill(declared, await run(1, 'persistent', declared));
  await open?.leave();
  const left = objects();
  let generation = 1;
  const calls = await failingAfter(
    async () => {
      generation += 1;
      const running = await run(generation);
      return () => running.leave();
    },
    async ({ nth }) => {
      await expectSame(held, heldIn(left), `call ${nth}`);
      expect(await serving()).toEqual(all(generation));
    },
  );
  expect(calls).toBeGreaterThan(0);
  await expectSame(objects, left, 'in the end');
  await (await run(generation)).stop();
  await expectSame(objects, before, 'once it is stopped');
});

test('stopping', { timeout: 120_000 }, async () => {
  const before = nothing();
  await using outside = await kernel({ interfaces: [] }).open();
  const fds = openFds();
  const finish = {
    'stopped by name': async () => {
      if (keptPipelines(outside).some((kept) => kept.name === name)) await stopKept(outside, name);
    },
    'run and stopped': async () => (await run(1)).stop(),
  };
  for (const [title, finished] of Object.entries(finish)) {
    const calls = await failingAfter(
      async () => {
        const running = await run(1);
        return () => running.stop();
      },
      async ({ nth }) => {
        await expectSame(openFds, fds, `call ${nth}`);
        await finished();
        await expectSame(held, { ...heldIn(before), fds }, `${title} after call ${nth}`);
      },
    );
    expect(calls).toBeGreaterThan(15);
  }
  await outside.close();
  await expectSame(objects, before, 'in the end');
});
