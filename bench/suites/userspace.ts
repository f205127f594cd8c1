/** The userspace engine beside the kernel's JIT running the same bytecode, its own interpreter, and JavaScript by hand. */
import type { EngineInstance } from '@tailrace/bpf';
import { compileStage } from '@tailrace/compiler';
import { hash, stage, toMapSpec, u32, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { userspace } from '@tailrace/userspace';
import { assemble } from '../assembly.ts';
import { loadBalancer } from '../balancer.ts';
import { type Loaded, PathError } from '../contest.ts';
import { type EngineContest, measureEngines, RUNNERS } from '../engines.ts';
import { lightChain, lightFrame, lightReturn } from '../light-chain.ts';
import { measureTask } from '../node-run.ts';
import { restorationFloors, restore } from '../restore.ts';
import { type Row, type Suite, withRatios } from '../row.ts';
import { flows } from './l4lb.ts';

const XDP_DROP = 1;
const XDP_TX = 3;
const FLOWS = 65_536;
const HAND_PACKETS = 1024;

const frame = packet().ipv4({ saddr: '10.0.0.1', daddr: '10.9.9.9' }).tcp({ sport: 1234, dport: 80 }).padTo(64).bytes();

const parse = stage({
  name: 'parse',
  hook: 'xdp',
  program(ctx) {
    if (!ctx.ipv4()) return ctx.pass();
    const tcp = ctx.tcp();
    return tcp && tcp.dport === 80 ? ctx.drop() : ctx.pass();
  },
});

const known = hash({ name: 'known', key: u32, value: u64, maxEntries: FLOWS });
/** Looks up another key each time, in scattered order. */
const lookup = stage({
  name: 'lookup',
  hook: 'xdp',
  uses: { known },
  program(ctx, { known }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.pass();
    ip.id = (ip.id + 1) & 0xffff;
    const hits = known.lookup((ip.id * 40_503) & 0xffff);
    if (!hits) return ctx.pass();
    hits.value += 1n;
    return ctx.drop();
  },
});

async function loadStage(instance: EngineInstance, subject: typeof parse | typeof lookup): Promise<Loaded> {
  const { program, maps } = compileStage(subject);
  const specs = new Map([...maps].map(([name, map]) => [name, toMapSpec(map, map.name)]));
  const { entry, insns, maps: loaded } = await assemble(instance, { maps: specs, entry: program });
  const table = [...loaded.values()].find(({ spec }) => spec.name === 'known');
  if (table) {
    const keys = Uint32Array.from({ length: FLOWS }, (_, key) => key);
    table.updateBatch({ count: FLOWS, keys: new Uint8Array(keys.buffer), values: new Uint8Array(FLOWS * 8) });
  }
  return { entry, insns, maps: loaded, verify: () => undefined };
}

const contests: Readonly<Record<string, () => EngineContest>> = {
  'parse and drop': () => ({
    name: 'parse and drop',
    packet: frame,
    returnValue: XDP_DROP,
    load: (instance) => loadStage(instance, parse),
  }),
  'hash of 65,536': () => ({
    name: 'hash of 65,536',
    packet: frame,
    returnValue: XDP_DROP,
    load: (instance) => loadStage(instance, lookup),
  }),
  ...Object.fromEntries([1, 8, 16].map((length) => [`chain of ${length}`, () => lightContest(length)])),
  ...Object.fromEntries(Object.keys(flows).map((name) => [`l4lb: ${name}`, () => balancerContest(name)])),
};

function lightContest(length: number): EngineContest {
  const chain = { hook: 'xdp', length } as const;
  const [ours] = lightChain(chain);
  if (ours === undefined) throw new PathError('a chain without programs');
  return { name: `chain of ${length}`, packet: lightFrame, returnValue: lightReturn(chain), load: ours.load };
}

function balancerContest(name: string): EngineContest {
  const restoration = flows[name];
  if (restoration === undefined) throw new PathError(`no flows '${name}'`);
  return {
    name: `l4lb: ${name}`,
    packet: restoration.packet,
    returnValue: XDP_TX,
    floors: restorationFloors(restoration),
    async load(instance) {
      const balancer = await loadBalancer(instance, 'tailrace');
      const restored = await restore(instance, balancer.entry, restoration);
      return {
        entry: restored.entry,
        insns: balancer.insns,
        maps: balancer.maps,
        verify(runs) {
          const [forwarded, changed] = [balancer.forwarded(), restored.changed()];
          if (forwarded < runs || changed < runs - 1)
            throw new PathError(`of ${runs} packets ${forwarded} were forwarded and ${changed} came back encapsulated`);
        },
      };
    },
  };
}

/** The parse of `parse`, as one would write it in JavaScript over bytes. */
function parseByHand(bytes: Uint8Array): number {
  if (bytes.length < 34 || bytes[12] !== 8 || bytes[13] !== 0) return 2;
  const first = bytes[14] as number;
  const size = (first & 15) * 4;
  if (first >> 4 !== 4 || size < 20 || bytes[23] !== 6) return 2;
  if ((((bytes[20] as number) << 8) | (bytes[21] as number)) & 0x1fff) return 2;
  const total = ((bytes[16] as number) << 8) | (bytes[17] as number);
  if (total < size + 20 || bytes.length < 14 + size + 20) return 2;
  return (((bytes[14 + size + 2] as number) << 8) | (bytes[14 + size + 3] as number)) === 80 ? 1 : 2;
}

const START_UP = 'l4lb: start-up';

/** The suite. */
export const userspaceSuite: Suite = {
  name: 'userspace',
  hook: 'xdp',
  about: 'WebAssembly beside the kernel running the same bytecode, ns a packet, one core; start-up: the whole balancer, ns',
  cases: [...Object.keys(contests), START_UP],
  async run(effort, wanted) {
    const rows: Row[] = [];
    for (const [name, contest] of Object.entries(contests)) {
      if (!wanted(name)) continue;
      rows.push(...(await measureEngines(contest(), RUNNERS, effort)));
      if (name === 'parse and drop') rows.push(handRow(name, effort));
    }
    if (wanted(START_UP)) rows.push(await startUpRow(effort));
    return { rows: withRatios(rows), notes: [] };
  },
};

function handRow(name: string, effort: Parameters<Suite['run']>[0]): Row {
  const packets = Array.from({ length: HAND_PACKETS }, () => frame.slice());
  let dropped = 0;
  const work = (): void => {
    for (const bytes of packets) if (parseByHand(bytes) === XDP_DROP) dropped++;
  };
  const row = measureTask({ suite: 'userspace', name, work, operations: HAND_PACKETS }, effort);
  if (dropped === 0) throw new PathError('JavaScript by hand dropped nothing');
  return { ...row, hook: 'xdp', variant: 'by-hand' };
}

/** From nothing to a balancer that has run its first packet; stages are compiled anew each time. */
async function startUpRow({ rounds }: Parameters<Suite['run']>[0]): Promise<Row> {
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const start = process.hrtime.bigint();
    await using instance = await userspace().open();
    const { entry } = await loadBalancer(instance, 'tailrace');
    await entry.testRun({ packet: frame });
    samples.push(Number(process.hrtime.bigint() - start));
  }
  samples.sort((a, b) => a - b);
  const at = (share: number): number => samples[Math.floor((samples.length - 1) * share)] ?? Number.NaN;
  return {
    suite: 'userspace',
    hook: 'xdp',
    name: START_UP,
    variant: 'tailrace',
    ns: at(0.5),
    ratio: null,
    spread: (at(0.75) - at(0.25)) / 2,
    insns: null,
  };
}
