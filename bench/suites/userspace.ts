/** The userspace engine beside the kernel's JIT running the same bytecode, its own interpreter, and JavaScript by hand. */
import type { EngineInstance } from '@tailrace/bpf';
import { compileFused, compileRoot, compileStage, outcomesOf } from '@tailrace/compiler';
import { l4lb } from '@tailrace/functions/l4lb';
import { Compiler, pipeline, type StageCompiler } from '@tailrace/pipeline';
import { hash, override, stage, toMapSpec, u32, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { userspace } from '@tailrace/userspace';
import { assemble } from '../assembly.ts';
import { loadBalancer, VIP } from '../balancer.ts';
import { type Loaded, PathError, rowOf } from '../contest.ts';
import { type EngineContest, measureEngines, RUNNERS } from '../engines.ts';
import { lightChain, lightFrame, lightReturn } from '../light-chain.ts';
import { measureTask } from '../node-run.ts';
import { restorationFloors } from '../restore.ts';
import { type Effort, type Row, type Suite, withRatios } from '../row.ts';
import { SWAP_GAP, SWAP_TIME, swapRows } from '../swap.ts';
import { countFlows } from './count.ts';
import { flows, loadRestored } from './l4lb.ts';

const XDP_DROP = 1;
const XDP_PASS = 2;
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

async function loadStage(instance: EngineInstance, subject: typeof parse | typeof lookup | typeof countFlows): Promise<Loaded> {
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
  'five-tuple counters': () => ({
    name: 'five-tuple counters',
    packet: frame,
    returnValue: XDP_PASS,
    load: (instance) => loadStage(instance, countFlows),
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
    load: (instance) => loadRestored(instance, 'tailrace', restoration),
  };
}

/** A packet of a flow that the balancer sends on. */
function balancerPacket(): Uint8Array {
  const [restoration] = Object.values(flows);
  if (restoration === undefined) throw new PathError('no flows');
  return restoration.packet;
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
const LOAD = 'l4lb: start-up, stages compiled before';
const MEMORY = 'l4lb: bytes a flow, of 1,000,000';
const BATCHES = 'parse and drop from JavaScript';
const BATCH = 4096;

/** The suite. */
export const userspaceSuite: Suite = {
  name: 'userspace',
  hook: 'xdp',
  about: 'WebAssembly beside the kernel running the same bytecode, ns a packet, one core; start-up and swaps: the whole balancer, ns',
  cases: [...Object.keys(contests), BATCHES, START_UP, LOAD, SWAP_GAP, SWAP_TIME, MEMORY],
  async run(effort, wanted) {
    const rows: Row[] = [];
    for (const [name, contest] of Object.entries(contests)) {
      if (!wanted(name)) continue;
      rows.push(...(await measureEngines(contest(), RUNNERS, effort)));
      if (name === 'parse and drop') rows.push(handRow(name, effort));
    }
    if (wanted(BATCHES)) rows.push(...(await batchRows(effort)));
    rows.push(...(await startUpRows(effort, wanted)));
    if (wanted(SWAP_GAP) || wanted(SWAP_TIME)) rows.push(...(await swapRows(balancerPacket(), effort)).filter(({ name }) => wanted(name)));
    if (wanted(MEMORY)) rows.push(await memoryRow());
    return { rows: withRatios(rows), notes: [] };
  },
};

function handRow(name: string, effort: Effort): Row {
  const packets = Array.from({ length: HAND_PACKETS }, () => frame.slice());
  let dropped = 0;
  const work = (): void => {
    for (const bytes of packets) if (parseByHand(bytes) === XDP_DROP) dropped++;
  };
  const row = measureTask({ suite: 'userspace', name, work, operations: HAND_PACKETS }, effort);
  if (dropped === 0) throw new PathError('JavaScript by hand dropped nothing');
  return { ...row, hook: 'xdp', variant: 'by-hand' };
}

/** From nothing to a balancer that has run its first packet: with its stages compiled anew, and with those of the run before. */
async function startUpRows(effort: Effort, wanted: (name: string) => boolean): Promise<readonly Row[]> {
  const rows: Row[] = [];
  const reals = [{ address: '10.0.1.1', nextHop: '02:00:00:00:01:01' }];
  const vips = [{ address: VIP, port: 80, protocol: 'tcp', health: false, reals }] as const;
  const edge = pipeline('bench', { xdp: [l4lb({ source: '10.0.0.1', vips }).on({ notVip: 'pass' })] });
  for (const [name, compiler] of [
    [START_UP, () => defaultCompiler],
    [LOAD, remembering(defaultCompiler)],
  ] as const) {
    if (!wanted(name)) continue;
    const samples: number[] = [];
    // the first one warms everything up, and fills what remembers
    for (let round = -1; round < effort.rounds; round++) {
      const start = process.hrtime.bigint();
      await using running = await edge.run(userspace(), { services: [override(Compiler, compiler())] });
      await running.inject(frame);
      if (round >= 0) samples.push(Number(process.hrtime.bigint() - start));
    }
    rows.push(rowOf({ suite: 'userspace', hook: 'xdp', name }, 'tailrace', samples));
  }
  return rows;
}

/** A compiler that gives what it gave the first time, call by call: for measuring what loading takes without it. */
function remembering(compiler: StageCompiler): () => StageCompiler {
  const known: unknown[] = [];
  return () => {
    let at = 0;
    const remember =
      <A extends unknown[], R>(call: (...args: A) => R) =>
      (...args: A): R => {
        if (at >= known.length) known.push(call(...args));
        return known[at++] as R;
      };
    return {
      outcomesOf: remember(compiler.outcomesOf),
      compileStage: remember(compiler.compileStage),
      compileFused: remember(compiler.compileFused),
      compileRoot: remember(compiler.compileRoot),
    };
  };
}

const defaultCompiler: StageCompiler = { outcomesOf, compileStage, compileFused, compileRoot };

/** What a remembered flow takes, in bytes, of an engine that has room for a million. */
async function memoryRow(): Promise<Row> {
  const flows = 1_000_000;
  await using instance = await userspace().open();
  const before = instance.memoryUsed;
  await loadBalancer(instance, 'tailrace', { flows, flowsPerCpu: flows });
  return {
    suite: 'userspace',
    hook: 'xdp',
    name: MEMORY,
    variant: 'tailrace',
    ns: (instance.memoryUsed - before) / flows,
    ratio: null,
    spread: 0,
    insns: null,
  };
}

/** Batches from JavaScript: bytes in and out are copied, packets spread by flow. */
async function batchRows(effort: Effort): Promise<readonly Row[]> {
  const rows: Row[] = [];
  const packets = Array.from({ length: BATCH }, (_, i) => {
    const bytes = frame.slice();
    new DataView(bytes.buffer).setUint32(26, 0x0a00_0000 + i);
    return { packet: bytes };
  });
  for (const workers of [1, 2]) {
    await using instance = await userspace({ workers }).open();
    const { program } = compileStage(parse);
    const entry = await instance.loadProgram(program, new Map());
    const work = (): unknown => entry.runBatch(packets);
    rows.push({
      ...measureTask(
        { suite: 'userspace', name: `${BATCHES}, ${workers} worker${workers > 1 ? 's' : ''}`, work, operations: BATCH },
        effort,
      ),
      hook: 'xdp',
    });
  }
  return rows;
}
