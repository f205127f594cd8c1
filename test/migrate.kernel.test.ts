/**
 * Processes that migrate the map of a persistent pipeline are killed, at moments that matter and at random ones, while numbered frames
 * make entries come, change and go: all frames arrive, and in the end every entry is what its frame made of it. `TAILRACE_KILLS=N` kills N
 * at random, default 12.
 */
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { kernel } from '@tailrace/kernel';
import { forgetKept, keptPipelines } from '@tailrace/pipeline';
import { eventually, Wire } from '@tailrace/testing';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { killAll, start } from './killed-process.ts';
import { KIND, migratingEdge, type PlainEntry, UNCHANGED } from './migrating-edge.ts';
import { frames, type NumberedFrames } from './numbered-frames.ts';
import { stopLeft } from './pipeline-objects.ts';

const kills = Number(process.env.TAILRACE_KILLS ?? 12);
const name = `migrated-${process.pid}`;
const folder = `/sys/fs/bpf/tailrace/${name}`;
let wire: Wire;

beforeAll(() => {
  wire = new Wire();
});

/** What a test that failed may have left going. */
const going: NumberedFrames[] = [];
const traffic = (pauseMs: number): NumberedFrames => {
  const sent = frames(wire.left, wire.right, pauseMs);
  going.push(sent);
  return sent;
};

afterEach(async () => {
  for (const one of going.splice(0)) await one.end();
  killAll();
  await stopLeft(name);
});

afterAll(() => wire.close());

const migrating = (form: number, maxEntries: number, stop = '', how: 'run' | 'update' = 'run') =>
  start('migrating-edge-process.ts', [name, wire.namespace.path, String(form), String(maxEntries), how, stop]);
/** Maps that are pinned, as `tailrace pins` tells them. */
async function maps(): Promise<readonly string[]> {
  await using outside = await kernel({ interfaces: [] }).open();
  return keptPipelines(outside).flatMap((kept) => (kept.name === name ? kept.maps.map((map) => map.name.slice(name.length + 1)) : []));
}
const mapPins = () =>
  readdirSync(folder).flatMap((pin) =>
    decodeURIComponent(pin).startsWith('object:map:') ? [decodeURIComponent(pin).replace(name, 'NAME')] : [],
  );

/** Entries for so many frames to change and to take away, left in the narrow form. */
async function left(count: number, maxEntries: number): Promise<void> {
  const { edge, fill } = migratingEdge(name, maxEntries);
  const running = await edge(0).run(wire.engine(), { persist: true });
  const numbers = [...Array(count).keys()];
  fill(
    running,
    0,
    numbers.flatMap((number) => [
      { kind: KIND.changes, number, of: UNCHANGED },
      { kind: KIND.goes, number, of: number },
    ]),
  );
  await running.leave();
}

/** What there has to be once so many frames are through. */
function* model(count: number, sent: number): Generator<PlainEntry> {
  for (let number = 0; number < sent; number++) yield { kind: KIND.comes, number, of: number };
  for (let number = 0; number < count; number++) yield { kind: KIND.changes, number, of: number < sent ? number : UNCHANGED };
  for (let number = sent; number < count; number++) yield { kind: KIND.goes, number, of: number };
}

/** Both sides as text by key, where they differ. */
function differences(found: readonly PlainEntry[], expected: Iterable<PlainEntry>): readonly string[] {
  const text = ({ kind, number, of }: PlainEntry): string => `${kind} ${number}: ${of}`;
  const [ours, theirs] = [new Set(found.map(text)), new Set([...expected].map(text))];
  return [
    ...[...ours.difference(theirs)].map((entry) => `found ${entry}`),
    ...[...theirs.difference(ours)].map((entry) => `missing ${entry}`),
  ];
}

/** Runs it in a form, and compares what it holds. */
async function finish(form: number, count: number, maxEntries: number, traffic: NumberedFrames): Promise<void> {
  const { edge, migrations, entries } = migratingEdge(name, maxEntries);
  const running = await edge(form).run(wire.engine(), { persist: true, migrate: migrations(form) });
  await setTimeout(50);
  const { sent, lost } = await traffic.end();
  try {
    expect(lost).toBe(0);
    expect(differences(entries(running, form), model(count, sent)).slice(0, 10)).toEqual([]);
    expect(running.orphans).toEqual([]);
    expect(mapPins()).toHaveLength(1);
    expect(running.stats().roots).toEqual({ xdp: { misses: 0n, withoutMetadata: 0n }, tcIngress: { misses: 0n, withoutMetadata: 0n } });
    for (const stages of [running.stats().xdp, running.stats().tcIngress])
      for (const { misses } of Object.values(stages)) expect(misses).toBe(0n);
  } finally {
    await running.stop();
  }
  expect(existsSync(folder)).toBe(false);
}

for (const how of ['run', 'update'] as const)
  for (const [stop, pinned] of [
    ['copying', ['entries']],
    ['announced', ['entries', 'entries:before']],
    ['half', ['entries', 'entries:before']],
    ['flipped', ['entries', 'entries:before']],
  ] as const)
    test(`${how}, killed while it is ${stop}: the next process goes on, and every entry is what its frame made of it`, async () => {
      // before packets are led over nothing speaks against the old form
      for (const next of stop === 'copying' || stop === 'announced' ? [1, 0] : [1]) {
        await left(5_000, 20_000);
        const sent = traffic(1);
        const process = migrating(1, 20_000, stop, how);
        await process.says(stop);
        // the old chain goes on with the old map, what was led over with the new
        await setTimeout(100);
        await process.kill();
        await setTimeout(50);
        expect(await maps()).toEqual(pinned);
        await finish(next, 5_000, 20_000, sent);
      }
    });

test('unfinished, it is refused without the migration and in another form; what was to come can be given up', async () => {
  await left(10, 100);
  const process = migrating(1, 100, 'flipped');
  await process.says('flipped');
  await process.kill();
  const { edge, migrations, size } = migratingEdge(name, 100);
  const before = mapPins();
  const refused = async (...[form, migrate]: [number, ReturnType<typeof migrations>]): Promise<unknown> => {
    const error = await edge(form)
      .run(wire.engine(), { persist: true, migrate })
      .then(
        () => undefined,
        (caught: { message: string; hint: string }) => `${caught.message} (${caught.hint})`.replaceAll(name, 'NAME'),
      );
    expect(mapPins()).toEqual(before);
    return error;
  };
  expect(await refused(1, [])).toMatchInlineSnapshot(
    `"map 'NAME/entries' as it is declared, and as its last entries are pinned: value.check is u8 and missing, value.of is u64 and u32 (migrate() them, or give them up: tailrace forget NAME NAME/entries:before)"`,
  );
  expect(await refused(0, migrations(0))).toMatchInlineSnapshot(
    `"map 'NAME/entries' as it is declared, and as it is pinned: value.of is u32 and u64, value.check is missing and u8 (entries are on their way into it: run it once as it is pinned, or give them up: tailrace forget NAME NAME/entries:before)"`,
  );
  await using outside = await kernel({ interfaces: [] }).open();
  forgetKept(outside, name, `${name}/entries:before`);
  expect(mapPins()).toHaveLength(1);
  const running = await edge(1).run(wire.engine(), { persist: true });
  expect(size(running, 1)).toBe(20);
  await running.stop();
});

test('killed between leading one chain over and the other, neither map is forgotten before it is known which holds', async () => {
  await left(10, 100);
  const process = migrating(1, 100, 'half');
  await process.says('half');
  await process.kill();
  await using outside = await kernel({ interfaces: [] }).open();
  expect(() => forgetKept(outside, name, `${name}/entries:before`)).toThrow(
    `pipeline '${name}' may need map '${name}/entries:before': a process died while it took its entries over`,
  );
  forgetKept(outside, name, `${name}/entries`);
  expect(mapPins()).toEqual([]);
});

test('kill -9 at any moment', { timeout: 60_000 + 6_000 * kills }, async () => {
  const count = Math.min(400 * kills, 8_000);
  const maxEntries = 2 * count + 2_000 * kills + 20_000;
  await left(count, maxEntries);
  const sent = traffic(2);
  let [form, finished] = [1, 0];
  // how long a process takes, from the start and from where it follows what changed: the first one is not disturbed
  let [whole, tail] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  const found = new Map<string, number>();
  for (let at = 0; at <= kills; at++) {
    const process = migrating(form, maxEntries);
    const isLate = at % 2 === 1;
    await process.says('starting');
    // one that only finishes what another began says so at its end
    if (isLate) await eventually(() => /following|running/.test(process.output), 30_000, 'a migration that follows');
    const [began, moment] = [performance.now(), Math.random() * 1.1 * (isLate ? tail : whole)];
    await eventually(() => process.output.includes('running') || performance.now() - began > moment, 30_000, 'a migration');
    await process.kill();
    const took = /running (\d+) (\d+)/.exec(process.output);
    const state = took ? 'done' : (await maps()).join(' ');
    found.set(state, (found.get(state) ?? 0) + 1);
    if (took === null) {
      // there are more and more entries
      whole *= 1.1;
      continue;
    }
    [whole, tail] = [Number(took[1]), Number(took[2]) || tail];
    finished += 1;
    form = 1 - form;
  }
  console.log(`${kills} kills, ${finished} migrations done, ${sent.sent} frames; found:`, Object.fromEntries(found));
  expect(sent.sent).toBeLessThan(maxEntries - 2 * count);
  await finish(form, count, maxEntries, sent);
});
