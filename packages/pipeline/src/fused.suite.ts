/** Fused programs do what their stages do over tail calls: verdicts, bytes, ways, counters and maps are the same. */
import type { Engine } from '@tailrace/bpf';
import { CompileError } from '@tailrace/compiler';
import { type ChainItem, fuse, stage, struct, u8, u16, u32 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ChainError } from './chain-error.ts';
import { type Pipeline, type PipelineOptions, pipeline } from './pipeline.ts';
import { chainOf, mapsOf, type RandomHook, type RandomMaps, randomChain } from './random-chain.ts';
import { bounce, fork, packetOf, step } from './sample.ts';

const byte = fc.oneof(fc.constantFrom(0, 1, 127, 128, 255), fc.nat(255));
const frame = fc.oneof(
  fc.array(byte, { minLength: 14, maxLength: 70 }).map((bytes) => Uint8Array.from(bytes)),
  fc.tuple(fc.nat(255), fc.nat(20)).map(([ttl, size]) => packet().ipv4({ ttl }).udp().payload('x'.repeat(size)).bytes()),
  fc.nat(255).map((hopLimit) => packet().ipv6({ hopLimit }).tcp().bytes()),
);
const frames = fc.array(frame, { minLength: 2, maxLength: 5 });

/** All that can be seen of a pipeline under packets, as text. */
async function seen(
  engine: Engine,
  chain: readonly ChainItem[],
  { hook, maps, packets, options = {} }: { hook: RandomHook; maps: RandomMaps; packets: readonly Uint8Array[]; options?: PipelineOptions },
): Promise<{ readonly text: string; readonly programs: number }> {
  const made = pipeline('edge', { [hook]: [...chain] } as { xdp: ChainItem[] }, options) as Pipeline<'edge', { xdp: string }>;
  await using running = await made.run(engine);
  const results: unknown[] = [];
  for (const bytes of packets) {
    const { verdict, path, packet: out } = await running.run(bytes);
    results.push({ verdict, path, out: Buffer.from(out).toString('hex') });
  }
  const { roots, ...counted } = running.stats();
  const used = made.compile().flatMap((program) => [...program.maps.values()]);
  const left = Object.values(maps)
    .filter((map) => used.includes(map as never))
    .map((map) => [map.name, [...running.map(map as RandomMaps['hits']).entries()].map(String).sort()]);
  const text = JSON.stringify(
    { results, counted, roots, left },
    (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value),
    1,
  );
  return { text, programs: made.compile().length - 1 };
}

/** False for chains that nobody gets past the compiler: a condition that cannot hold, a stage that none leads to. */
function isPossible(chain: readonly ChainItem[], hook: RandomHook): boolean {
  try {
    pipeline('edge', { [hook]: [...chain] } as { xdp: ChainItem[] }).compile();
    return true;
  } catch (error) {
    if (error instanceof CompileError || error instanceof ChainError) return false;
    throw error;
  }
}

/** The cases, on an engine; properties are tried so many times. */
export function fusedSuite(engine: Engine, runs = Number(process.env.TAILRACE_RUNS ?? 8)): void {
  for (const hook of ['xdp', 'tcIngress'] as const)
    test(`random chains at ${hook}, fused, in groups, and not`, { timeout: 120_000 }, async () => {
      let fused = 0;
      await fc.assert(
        fc.asyncProperty(randomChain(hook), frames, async (chain, packets) => {
          const maps = mapsOf();
          const given = { hook, maps, packets };
          fc.pre(isPossible(chainOf(chain, hook, maps, false), hook));
          const chained = await seen(engine, chainOf(chain, hook, maps, false), given);
          const whole = await seen(engine, chainOf(chain, hook, maps, false), { ...given, options: { fuse: true } });
          const grouped = await seen(engine, chainOf(chain, hook, maps, true), given);
          expect(whole.text).toBe(chained.text);
          expect(grouped.text).toBe(chained.text);
          if (whole.programs < chained.programs) fused += 1;
        }),
        { numRuns: runs, interruptAfterTimeLimit: 60_000, endOnFailure: true },
      );
      expect(fused).toBeGreaterThan(0);
    });

  test('a stage of a group is replaced under its own name, and a pipeline becomes a fused one', async () => {
    const [a, b, c] = [step('a'), fork('b').on({ odd: 'drop' }), step('c')];
    await using running = await pipeline('edge', { xdp: [a, fuse(b, c)] }).run(engine);
    expect((await running.run(packetOf(61))).verdict).toBe('drop');
    await running.replace(c, bounce('answer'));
    expect(await running.run(packetOf(60))).toMatchObject({
      verdict: 'tx',
      path: [
        { stage: 'a', verdict: 'next' },
        { stage: 'b', verdict: 'next' },
        { stage: 'c', verdict: 'tx' },
      ],
    });
    const whole = await running.update(pipeline('edge', { xdp: [a, b, c] }, { fuse: true }));
    expect((await whole.run(packetOf(62))).verdict).toBe('pass');
    expect(whole.stats().xdp).toMatchObject({
      a: { next: 3n, misses: 0n },
      b: { next: 2n, exits: { odd: 1n } },
      c: { next: 1n, verdicts: { tx: 1n } },
    });
  });

  test('metadata go on from group to group, and from XDP to TC ingress', async () => {
    const field = { mark: u32, color: struct({ hue: u8, shade: u16 }) };
    const write = stage({
      name: 'write',
      hook: 'xdp',
      writes: field,
      program(ctx) {
        ctx.meta.mark = ctx.length;
        ctx.meta.color = { hue: 5, shade: 6 };
        return ctx.next();
      },
    });
    const change = stage({
      name: 'change',
      hook: 'xdp',
      reads: field,
      writes: { mark: u32 },
      program(ctx) {
        if (ctx.meta.color.hue !== 5) return ctx.drop();
        ctx.meta.mark = (ctx.meta.mark ^ ctx.meta.color.shade) >>> 0;
        return ctx.next();
      },
    });
    const check = stage({ name: 'check', hook: 'xdp', reads: field, program: (ctx) => (ctx.meta.mark === 66 ? ctx.next() : ctx.drop()) });
    const count = stage({
      name: 'count',
      hook: 'tcIngress',
      reads: field,
      program: (ctx) => (ctx.meta.mark === 66 && ctx.meta.color.shade === 6 ? ctx.next() : ctx.drop()),
    });
    for (const options of [{}, { fuse: true }]) {
      await using running = await pipeline(
        'edge',
        { xdp: [fuse(write, change), fuse(check, step('last'))], tcIngress: [fuse(count, count.as('again'))] },
        options,
      ).run(engine);
      expect(await running.run(packetOf(68))).toMatchObject({ verdict: 'pass' });
      if (engine.kind !== 'userspace') continue;
      expect(await running.inject(packetOf(68))).toMatchObject({ hook: 'tcIngress', verdict: 'pass' });
    }
  });

  test('single packets are told of stage by stage', async () => {
    const gate = stage({ name: 'gate', hook: 'xdp', program: (ctx) => (ctx.length > 100 ? ctx.drop('long') : ctx.next()) });
    const chain = [step('a'), fork('b').on({ odd: [step('x'), 'next'] }), gate, step('last')] as const;
    for (const fuse of [false, true]) {
      const made = pipeline('edge', { xdp: [...chain] }, { fuse });
      await using running = await made.run(engine, { observe: { trace: { every: 1 }, drops: true } });
      const told: string[] = [];
      using _traces = unsubscribing(
        running.trace$.subscribe(({ steps, verdict }) => told.push([...steps.map(({ stage, exit }) => exit ?? stage), verdict].join(' '))),
      );
      using _drops = unsubscribing(running.drops$.subscribe(({ stage, reason }) => told.push(`${stage} ${reason}`)));
      for (const length of [60, 61, 101]) await running.run(packetOf(length));
      await expect.poll(() => [...told].sort()).toEqual(['a b gate last pass', 'a odd x gate drop', 'a odd x gate last pass', 'gate long']);
    }
  });
}

const unsubscribing = (subscription: { unsubscribe(): void }): Disposable => ({ [Symbol.dispose]: () => subscription.unsubscribe() });
