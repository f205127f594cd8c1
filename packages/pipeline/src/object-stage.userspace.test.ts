import { objectStage, stage, u16 } from '@tailrace/stage';
import { assembledObject, packet } from '@tailrace/testing';
import { userspace } from '@tailrace/userspace';
import { describe, expect, test } from 'vitest';
import { objectStageSuite } from './object-stage.suite.ts';
import { pipeline } from './pipeline.ts';

describe.each(['wasm', 'interpreter'] as const)('%s', (mode) => {
  objectStageSuite(userspace({ mode }));
});

test('metadata cross from XDP to TC behind a program that knows nothing of them', async () => {
  const tenant = stage({
    name: 'tenant',
    hook: 'xdp',
    writes: { tenant: u16 },
    program(ctx) {
      const ip = ctx.ipv4();
      ctx.meta.tenant = ip ? ip.saddr & 0xff : 0;
      return ctx.next();
    },
  });
  const passing = (name: string, type: 'xdp' | 'schedCls') =>
    assembledObject([{ name, type, text: `r0 = ${type === 'xdp' ? 2 : 0}\nexit` }]);
  const c = objectStage({ name: 'c', hook: 'xdp', object: passing('c', 'xdp') });
  const d = objectStage({ name: 'd', hook: 'tcIngress', object: passing('d', 'schedCls') });
  const guard = stage({
    name: 'guard',
    hook: 'tcIngress',
    reads: { tenant: u16 },
    program: (ctx) => (ctx.meta.tenant === 9 ? ctx.drop() : ctx.next()),
  });
  await using running = await pipeline('edge', { xdp: [tenant, c], tcIngress: [d, guard] }).run(userspace());
  const verdictOf = async (saddr: string) => (await running.inject(packet().ipv4({ saddr }).udp().bytes())).verdict;
  expect([await verdictOf('10.0.0.9'), await verdictOf('10.0.0.8')]).toEqual(['drop', 'pass']);
  expect(running.stats().roots.tcIngress).toEqual({ misses: 0n, withoutMetadata: 0n });
});

test('a program that no verifier has seen is stopped at its line', async () => {
  const wild = objectStage({
    name: 'wild',
    hook: 'xdp',
    object: assembledObject([{ name: 'wild', text: 'r0 = 2\nr1 = *(u32 *)(r10 +8)\nexit' }]),
  });
  await using running = await pipeline('wild', { xdp: [wild] }).run(userspace());
  await expect(running.run(packet().bytes())).rejects.toThrow('program wild, pc 1 (assembled.c:2:3)');
});
