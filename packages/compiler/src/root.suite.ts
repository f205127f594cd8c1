/** A chain as the pipeline builds it: a root, a program array, edges that are tail calls, and the state between them. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { type AnyStage, array, perCpuArray, programArray, stage, struct, toMapSpec, u32, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compileRoot, compileStage } from './compile.ts';
import { counterNames, type Edge } from './placement.ts';

const first = stage({
  name: 'first',
  hook: 'xdp',
  writes: { mark: u32 },
  program(ctx) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.drop();
    ctx.meta.mark = ip.ttl * 2;
    if (ip.ttl === 1) return ctx.exit('expired');
    if (ip.ttl === 2) return ctx.exit('nowhere');
    if (ip.ttl === 3 && !ctx.adjustHead(-6)) return ctx.abort();
    return ctx.next();
  },
});
const second = stage({
  name: 'second',
  hook: 'xdp',
  reads: { mark: u32 },
  onMiss: 'drop',
  program: (ctx) => (ctx.meta.mark > 100 ? ctx.tx() : ctx.next()),
});
const last = stage({ name: 'last', hook: 'xdp', program: (ctx) => (ctx.length > 200 ? ctx.pass() : ctx.drop()) });

const State = struct({ length: u64, rootMisses: u64, mark: u32, first: array(u64, 10), second: array(u64, 8), last: array(u64, 8) });
const offsets = State.layout.kind === 'struct' ? State.layout.fields : {};
const offsetOf = (name: string): number => offsets[name]?.offset ?? 0;

function placed(subject: AnyStage, next: Edge, exits: Readonly<Record<string, Edge>>) {
  const metadata = { mark: { layout: u32.layout, offset: offsetOf('mark') } };
  const state = { map: 'state', length: offsetOf('length'), counters: offsetOf(subject.name) };
  return compileStage(subject, { placement: { array: 'chain', next, exits, state, metadata } }).program;
}

/** The cases, on an engine. */
export function rootSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  test('a packet travels a chain', async () => {
    const chain = engine.createMap(toMapSpec(programArray({ name: 'chain', maxEntries: 8 }), 'chain'));
    const stateMap = engine.createMap(toMapSpec(perCpuArray({ name: 'state', value: State, maxEntries: 1 }), 'state'));
    const maps = new Map([
      ['chain', chain],
      ['state', stateMap],
    ]);
    const load = (program: ReturnType<typeof placed>) => engine.loadProgram(program, maps);
    const root = await load(
      compileRoot({ name: 'root', array: 'chain', state: { map: 'state', length: offsetOf('length'), misses: offsetOf('rootMisses') } }),
    );
    const programs = await Promise.all([
      load(placed(first, { slot: 1 }, { expired: { slot: 2 }, nowhere: { slot: 5 } })),
      load(placed(second, { slot: 6 }, {})),
      load(placed(last, { verdict: 'tx' }, {})),
    ]);
    const run = async (frame: ReturnType<typeof packet>): Promise<number> => (await root.testRun({ packet: frame.bytes() })).returnValue;
    const words = (from: string, count: number): bigint[] => {
      const values = stateMap.lookup(new Uint8Array(4)) ?? new Uint8Array(0);
      const stride = values.length / engine.cpus;
      const view = new DataView(values.buffer, values.byteOffset);
      return Array.from({ length: count }, (_, i) =>
        Array.from({ length: engine.cpus }, (__, cpu) => view.getBigUint64(cpu * stride + offsetOf(from) + 8 * i, true)).reduce(
          (a, b) => a + b,
        ),
      );
    };

    // nothing is there yet: the root lets it pass
    expect(await run(packet().ipv4().udp())).toBe(2);
    expect(words('rootMisses', 1)).toEqual([1n]);
    for (const [slot, program] of programs.entries()) await chain.setProgram(slot, program);

    expect(await run(packet().ipv4({ ttl: 60 }).udp())).toBe(3);
    // the second's next() finds slot 6 empty: its onMiss is drop
    expect(await run(packet().ipv4({ ttl: 10 }).udp())).toBe(1);
    // an exit to a stage, to an empty slot, and a drop
    expect(await run(packet().ipv4({ ttl: 1 }).udp().payload(300))).toBe(2);
    expect(await run(packet().ipv4({ ttl: 1 }).udp())).toBe(1);
    expect(await run(packet().ipv4({ ttl: 2 }).udp())).toBe(2);
    expect(await run(packet().ipv6().udp())).toBe(1);
    expect(await run(packet().ipv4({ ttl: 3 }).udp())).toBe(1);

    const counted = (name: 'first' | 'second' | 'last', labels: readonly string[]): Record<string, bigint> => {
      const names = counterNames('xdp', labels);
      const values = words(name, names.length);
      return Object.fromEntries(names.map((counter, i) => [counter, values[i] ?? 0n]).filter(([, value]) => value !== 0n));
    };
    const udp = 42n;
    expect(counted('first', ['expired', 'nowhere'])).toEqual({
      bytes: 5n * udp + 342n + 62n + 6n,
      misses: 1n,
      drop: 1n,
      next: 3n,
      'exit:expired': 2n,
      'exit:nowhere': 1n,
    });
    expect(counted('second', [])).toEqual({ bytes: 3n * udp + 6n, misses: 2n, tx: 1n, next: 2n });
    expect(counted('last', [])).toEqual({ bytes: 342n + udp, pass: 1n, drop: 1n });
    for (const program of [root, ...programs]) program.close();
    chain.close();
    stateMap.close();
  });
}
