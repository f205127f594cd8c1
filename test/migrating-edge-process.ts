/**
 * A process that takes over the pipeline of migrating-edge.ts in another form, or as it is and then updates it to that, says when it begins, when it follows what changed, and when
 * it is done (how long it took, and how long from there), and waits to be killed. Arguments: the pipeline's name, the path of a network
 * namespace, the form, entries that the map takes, `run` or `update`, and where it stops until then, if it does: `copying`, `announced` (the first chain is
 * about to be led over), `half` (the second one is), `flipped` (both are).
 */
import type { Engine, PinningInstance } from '@tailrace/bpf';
import { kernel } from '@tailrace/kernel';
import type { RunOptions } from '@tailrace/pipeline';
import { migratingEdge } from './migrating-edge.ts';

const [name = '', netns = '', form = '', maxEntries = '', how = '', stop = ''] = process.argv.slice(2);
/** Before an update there is a run that stops nowhere. */
let stops = how === 'run';
const { edge, migrations } = migratingEdge(name, Number(maxEntries));

function say(word: string): void {
  process.stdout.write(`${word}\n`);
}

setInterval(() => undefined, 1000);

/** Stops where one of the chains would be led over, or once both are. */
function stopping(engine: Engine): Engine {
  return {
    kind: engine.kind,
    async open() {
      const instance = (await engine.open()) as PinningInstance;
      around(instance.pins, 'take', (take) => (taken) => {
        const folder = take(taken);
        around(folder, 'openMap', (open) => (pin, spec) => {
          const map = open(pin, spec);
          const place = placeAt(spec.name);
          if (place)
            around(
              map,
              'setProgram',
              (set) =>
                (...args) =>
                  stopAt(place) ?? set(...args),
            );
          return map;
        });
        return folder;
      });
      around(instance, 'gracePeriod', (wait) => async () => {
        await wait();
        await stopAt('flipped');
      });
      return instance;
    },
  };
}

/** TC is led over first. */
function placeAt(entry: string): string | undefined {
  if (entry === `${name}/tcIngress.entry`) return 'announced';
  return entry === `${name}/xdp.entry` ? 'half' : undefined;
}

/** Says so and never goes on, where it is to stop there. */
function stopAt(place: string): Promise<never> | undefined {
  if (!stops || stop !== place) return undefined;
  say(place);
  return new Promise(() => undefined);
}

/** Puts something around a method of an object, which stays itself: engines tell their own by class. */
function around<T extends object, K extends keyof T>(object: T, method: K, wrap: (original: T[K]) => T[K]): void {
  const original = object[method] as T[K] & ((...args: unknown[]) => unknown);
  Object.defineProperty(object, method, { value: wrap(original.bind(object) as T[K]) });
}

let looks = 0;
function look(): void {
  looks += 1;
  if (stop !== 'copying' || looks < 3) return;
  say('copying');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

say('starting');
const began = performance.now();
let followed: number | undefined;
const engine = stopping(kernel({ interfaces: ['right'], netns }));
const migrating: Pick<RunOptions, 'migrate' | 'onMigration'> = {
  migrate: migrations(Number(form), look),
  onMigration({ pass }) {
    if (pass === 'all' || followed !== undefined) return;
    followed = performance.now();
    say('following');
  },
};
if (how === 'run') await edge(Number(form)).run(engine, { persist: true, ...migrating });
else {
  const running = await edge(1 - Number(form)).run(engine, { persist: true });
  stops = true;
  await running.update(edge(Number(form)) as never, migrating);
}
const done = performance.now();
say(`running ${Math.round(done - began)} ${Math.round(done - (followed ?? done))}`);
