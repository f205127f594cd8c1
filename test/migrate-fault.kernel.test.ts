/** Each system call of a takeover or an update that migrates a map fails once: all of it is rolled back, or the next one goes on with it. */
import { eventually, Wire } from '@tailrace/testing';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { injectFailure } from '../packages/kernel/src/syscall.ts';
import { failing } from './failing-calls.ts';
import { PROBE } from './kept-edge.ts';
import { openFds } from './kernel-objects.ts';
import { KIND, migratingEdge, type PlainEntry, UNCHANGED } from './migrating-edge.ts';
import { nextNumbered, numberedFrame } from './numbered-frames.ts';
import { expectSame, pinsOf, stopLeft } from './pipeline-objects.ts';

const name = `m${process.pid}`;
let wire: Wire;

beforeAll(() => {
  wire = new Wire();
});

afterEach(async () => {
  injectFailure(0);
  await stopLeft(name);
});

afterAll(() => wire.close());

async function run(form: number, persist = true) {
  const { edge, migrations, entries, fill } = migratingEdge(name, 4096);
  const running = await edge(form).run(wire.engine(), { persist, migrate: persist ? migrations(form) : [] });
  return {
    running,
    update: (next: number) => running.update(edge(next) as never, { migrate: migrations(next) }),
    fill: (list: readonly PlainEntry[]) => fill(running, form, list),
    entries: (now = form) =>
      entries(running, now)
        .map(({ kind, number, of }) => `${kind} ${number} ${of}`)
        .sort(),
  };
}

/** All frames have one number: the first brings an entry, and there are no more calls for those behind it. */
const NUMBER = 7;
/** Entries that no frame has to do with. */
const kept: readonly PlainEntry[] = [1, 2, 3].map((number) => ({ kind: KIND.changes, number: 1000 + number, of: UNCHANGED }));
const expected = [`${KIND.comes} ${NUMBER} ${NUMBER}`, ...kept.map(({ kind, number, of }) => `${kind} ${number} ${of}`)];

/** Sends a frame; the form of the chain that it met. */
async function serving(): Promise<number> {
  while (wire.right.receive());
  wire.left.send(numberedFrame(NUMBER));
  return eventually(() => nextNumbered(wire.right)?.getUint32(PROBE.first), 2_000, 'the frame');
}

test('taking over with a migration', { timeout: 400_000 }, async () => {
  const first = await run(0);
  first.fill(kept);
  await serving();
  await first.running.leave();
  const [fds, pins] = [openFds(), pinsOf(name)];
  let open: Awaited<ReturnType<typeof run>> | undefined;
  let [undone, done] = [0, 0];
  const calls = await failing(
    async () => {
      open = await run(1);
    },
    async ({ nth, error }) => {
      const about = `call ${nth}: ${error?.message}`;
      if (error === undefined) await open?.running.leave();
      const isMade = (await serving()) === 2;
      if (isMade) done += 1;
      else undone += 1;
      if (error === undefined) expect(isMade, about).toBe(true);
      await expectSame(openFds, fds, about);
      if (!isMade) expect(pinsOf(name), about).toEqual(pins);
      const wide = await run(1);
      expect(wide.entries(), about).toEqual(expected);
      expect(wide.running.orphans, about).toEqual([]);
      await wide.running.leave();
      const narrow = await run(0);
      expect(narrow.entries(), about).toEqual(expected);
      await narrow.running.leave();
      expect(pinsOf(name), about).toEqual(pins);
      await expectSame(openFds, fds, about);
    },
  );
  await open?.running.stop();
  expect(calls).toBeGreaterThan(100);
  expect(undone).toBeGreaterThan(60);
  expect(done).toBeGreaterThan(10);
});

test.each([true, false])('updating with a migration, persistent: %s', { timeout: 400_000 }, async (persist) => {
  let one = await run(0, persist);
  one.fill(kept);
  await serving();
  const [fds, pins] = [openFds(), pinsOf(name)];
  let [undone, done] = [0, 0];
  const calls = await failing(
    () => one.update(1),
    async ({ nth, error }) => {
      const about = `call ${nth}: ${error?.message}`;
      const form = (await serving()) - 1;
      if (error === undefined) expect(form, about).toBe(1);
      expect(one.entries(form), about).toEqual(expected);
      if (form === 0) undone += 1;
      else {
        done += 1;
        // what was left open goes with the process or the pipeline
        if (persist) await one.running.leave();
        else await one.running.stop();
        one = await run(persist ? 1 : 0, persist);
        if (persist) await one.update(0);
        else one.fill(kept);
      }
      expect(await serving(), about).toBe(1);
      expect(one.entries(0), about).toEqual(expected);
      expect(pinsOf(name), about).toEqual(pins);
      await expectSame(openFds, fds, about);
    },
  );
  await one.running.stop();
  expect(calls).toBeGreaterThan(30);
  expect(undone).toBeGreaterThan(20);
  expect(done).toBeGreaterThan(3);
});
