/** What changes of a running pipeline take, in the kernel: from the call until nothing runs the old any more. */
import type { Engine, EngineInstance, LoadedMap } from '@tailrace/bpf';
import { kernel } from '@tailrace/kernel';
import { pipeline } from '@tailrace/pipeline';
import { hash, stage, u32, u64 } from '@tailrace/stage';
import { SLOT } from '../aims.ts';
import { rowOf } from '../contest.ts';
import type { Effort, Row, Suite } from '../row.ts';

const SWAP = 'swap of a stage: all of it';
const UPDATE = 'update of all stages of a chain of 16';
const ADOPT = 'taking over a map of 1,000,000 entries';
const LENGTH = 16;
const ENTRIES = 1_000_000;
const PINNED = 'bench-change';

const step = stage({
  name: 'step',
  hook: 'xdp',
  uses: { version: 0 },
  program(ctx, { version }) {
    const ethernet = ctx.ethernet();
    return !ethernet || ethernet.etherType === version ? ctx.drop() : ctx.next();
  },
});
const place = (at: number) => `step${at}` as string;
const stepAt = (at: number, version: number) => step.as(place(at)).with({ version });
const chainOf = (version: number) => pipeline('change', { xdp: Array.from({ length: LENGTH }, (_, at) => stepAt(at, version)) });

const table = hash({ name: 'table', key: u32, value: u64, maxEntries: ENTRIES });
const known = stage({
  name: 'known',
  hook: 'xdp',
  uses: { table },
  program: (ctx, { table }) => (table.lookup(ctx.length) ? ctx.drop() : ctx.next()),
});

/** The suite. */
export const change: Suite = {
  name: 'change',
  hook: 'xdp',
  about: 'changes of a pipeline that runs in the kernel, ns a change; but for its slot with compiling, loading and the grace period',
  cases: [SLOT, SWAP, UPDATE, ADOPT],
  async run(effort, wanted) {
    const rows: Row[] = [];
    if ([SLOT, SWAP, UPDATE].some(wanted)) rows.push(...(await changes(effort)).filter(({ name }) => wanted(name)));
    if (wanted(ADOPT)) rows.push(await adoption(effort));
    return { rows, notes: [] };
  },
};

async function changes({ rounds }: Effort): Promise<readonly Row[]> {
  const slots: number[] = [];
  await using running = await chainOf(0).run(timed(kernel({}), slots));
  const [swaps, updates]: [number[], number[]] = [[], []];
  const timesOf: number[] = [];
  for (let version = 1; version <= rounds; version++) {
    slots.length = 0;
    swaps.push(await took(() => running.replace(stepAt(7, 0), stepAt(7, 2 * version))));
    timesOf.push(...slots);
    updates.push(await took(() => running.update(chainOf(2 * version + 1))));
  }
  return [row(SLOT, timesOf), row(SWAP, swaps), row(UPDATE, updates)];
}

async function adoption({ rounds }: Effort): Promise<Row> {
  const kept = pipeline(PINNED, { xdp: [known] });
  const run = () => kept.run(kernel({}), { persist: true });
  let running = await run();
  const times: number[] = [];
  try {
    running.map(table).setMany(Array.from({ length: ENTRIES }, (_, key) => [key, BigInt(key)] as const));
    for (let round = 0; round < rounds; round++) {
      await running.leave();
      times.push(
        await took(async () => {
          running = await run();
        }),
      );
    }
  } finally {
    await running.stop();
  }
  return row(ADOPT, times);
}

/** An engine that tells how long each write of a program array's slot took. */
function timed(engine: Engine, times: number[]): Engine {
  const open = async (): Promise<EngineInstance> => {
    const instance = await engine.open();
    const createMap = instance.createMap.bind(instance);
    instance.createMap = (spec): LoadedMap => {
      const map = createMap(spec);
      const setProgram = map.setProgram.bind(map);
      map.setProgram = async (...slot) => void times.push(await took(() => setProgram(...slot)));
      return map;
    };
    return instance;
  };
  return { ...engine, open };
}

/** ns. */
async function took(work: () => Promise<unknown>): Promise<number> {
  const start = process.hrtime.bigint();
  await work();
  return Number(process.hrtime.bigint() - start);
}

const row = (name: string, times: readonly number[]): Row => rowOf({ suite: 'change', hook: 'xdp', name }, 'tailrace', times);
