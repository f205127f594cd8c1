/** Paths of test runs in the kernel, while other packets take the same chains. */
import type { LoadedProgram } from '@tailrace/bpf';
import { createNamespace, kernel, Rtnetlink } from '@tailrace/kernel';
import { stage } from '@tailrace/stage';
import { kernelAlone } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { pathSuite, shown, udp, watched } from './path.suite.ts';
import { pipeline } from './pipeline.ts';

pathSuite(kernelAlone());

const audit = stage({ name: 'audit', hook: 'tc', program: (ctx) => ctx.pass() });
test('while others pass, it is the packet’s own or none', async () => {
  const first = stage({
    name: 'first',
    hook: 'tc',
    program: (ctx) => (ctx.mark === 1 ? ctx.exit('one') : ctx.mark === 2 ? ctx.drop() : ctx.next()),
  });
  const last = stage({ name: 'last', hook: 'tc', program: (ctx) => ctx.next() });
  // at TC, and in no namespace of its own, test runs go on several threads at once
  const { engine, roots } = watched(kernel({ interfaces: [] }));
  await using running = await pipeline('busy', { tcEgress: [first.on({ one: audit }), last] }).run(engine);
  const root = roots[0] as LoadedProgram;
  const ways = ['pass: first next, last next', 'pass: first one, audit pass', 'drop: first drop'];
  const bytes = udp().bytes();
  const told = { same: 0, none: 0 };
  const ran = async (mark: number) => {
    const { verdict, path } = await running.run(bytes, { skb: { mark } });
    if (path) expect(`${verdict}: ${shown(path)}`).toBe(ways[mark]);
    told[path ? 'same' : 'none']++;
  };
  for (const other of [0, 1, 2]) {
    let going = true;
    const traffic = (async () => {
      while (going) await root.testRun({ packet: bytes, skb: { mark: other }, repeat: 100_000 });
    })();
    for (let i = 0; i < 100; i++) for (const mark of [0, 1, 2]) await ran(mark);
    going = false;
    await traffic;
  }
  expect(told.same).toBeGreaterThan(0);
  expect(told.none).toBeGreaterThan(0);
  Object.assign(told, { same: 0, none: 0 });
  for (const mark of [0, 1, 2]) await ran(mark);
  expect(told).toEqual({ same: 3, none: 0 });
});

test('a copy that takes the same chain meanwhile', async () => {
  // the copy leaves through the loopback, whose way out is the chain that sends it
  using own = createNamespace();
  using route = new Rtnetlink(own);
  route.change('lo', { up: true });
  const mirror = stage({
    name: 'mirror',
    hook: 'tcEgress',
    program(ctx) {
      if (ctx.mark === 0) return ctx.next();
      const copies = ctx.mark;
      ctx.mark = 0;
      return ctx.clone(ctx.ifindex) && copies === 1 ? ctx.next() : ctx.drop();
    },
  });
  await using running = await pipeline('mirror', { tcEgress: [mirror] }).run(kernel({ interfaces: ['lo'], netns: own }));
  const ran = async (mark: number) => {
    const { verdict, path } = await running.run(udp().bytes(), { skb: { mark } });
    return `${verdict}: ${shown(path)}`;
  };
  expect(await ran(0)).toBe('pass: mirror next');
  // both go on; then the copy does and the packet does not
  expect(await ran(1)).toBe('pass: mirror next');
  expect(await ran(2)).toBe('drop: undefined');
  expect(running.stats().tcEgress.mirror).toMatchObject({ next: 4n, verdicts: { drop: 1n } });
});
