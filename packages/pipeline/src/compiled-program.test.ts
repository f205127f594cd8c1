import { compileStage, outcomesOf } from '@tailrace/compiler';
import { hash, stage, u16, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { IMPORT_PLACE, ROOT_PLACE } from './compiled-program.ts';
import { pipeline } from './pipeline.ts';

const ports = hash({ name: 'ports', key: u16, value: u64, maxEntries: 16 });
const classify = stage({
  name: 'classify',
  hook: 'xdp',
  writes: { tenant: u32 },
  program(ctx) {
    const udp = ctx.udp();
    ctx.meta.tenant = udp ? udp.dport : 0;
    return ctx.next();
  },
});
const count = stage({
  name: 'count',
  hook: 'tcIngress',
  reads: { tenant: u32 },
  uses: { ports },
  program(ctx, { ports }) {
    const udp = ctx.udp();
    const known = ports.lookup(udp ? udp.dport : 0);
    if (!known) return ctx.meta.tenant > 9 ? ctx.exit('unknown') : ctx.next();
    known.value += 1n;
    return ctx.next();
  },
});
const edge = pipeline('edge', { xdp: [classify], tcIngress: [count.on({ unknown: 'drop' })] });

test('programs of every chain, the attached one first', () => {
  const programs = edge.compile();
  expect(programs.map(({ hook, place, program }) => [hook, place, program.name, program.type])).toEqual([
    ['xdp', ROOT_PLACE, 'edge.root', 'xdp'],
    ['xdp', 'classify', 'classify', 'xdp'],
    ['tcIngress', ROOT_PLACE, 'edge.root', 'schedCls'],
    ['tcIngress', IMPORT_PLACE, 'edge.import', 'schedCls'],
    ['tcIngress', 'count', 'count', 'schedCls'],
  ]);
  expect(programs.map(({ maps }) => [...maps.values()].map(({ name }) => name))).toEqual([[], [], [], [], ['ports']]);
  expect(programs[4]?.program.mapReferences.map(({ map }) => map)).toContain('ports');
});

test('the stack of a root is what it stores its key in', () => {
  const [xdp, , ingress] = edge.compile();
  expect([xdp?.stackSize, ingress?.stackSize]).toEqual([8, 8]);
});

test('it is the same every time, and a stage alone is another program', () => {
  expect(edge.compile()).toEqual(edge.compile());
  expect(outcomesOf(classify).next).toBe(true);
  expect(edge.compile()[1]?.program.instructions).not.toEqual(compileStage(classify).program.instructions);
});
