/** Programs of others beside a persistent pipeline: at TC they keep their places over leaving, taking over and updating; at XDP one is named and left alone. */
import { execFileSync } from 'node:child_process';
import { InterfaceConflictError, type TcOrder } from '@tailrace/kernel';
import { pipeline } from '@tailrace/pipeline';
import { stage } from '@tailrace/stage';
import { Wire } from '@tailrace/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { listTcx } from '../packages/kernel/src/tcx.ts';
import { keptEdge } from './kept-edge.ts';
import { pinsOf, stopLeft } from './pipeline-objects.ts';

const name = `beside-${process.pid}`;
let wire: Wire;

beforeEach(() => {
  wire = new Wire();
});

afterEach(async () => {
  await stopLeft(name);
  wire.close();
});

const run = (generation: number, declared = keptEdge(name)) => declared.edge(generation).run(wire.engine(), { persist: true });
const at = (hook: 'tcIngress' | 'tcEgress') =>
  listTcx({ index: wire.route.interface('right').index, name: 'right', hook }, wire.namespace).map(({ programId }) => programId);

/** Another pipeline on the interface, at both directions of TC. */
function neighbour(as: string, order: TcOrder) {
  const pass = stage({ name: as, hook: 'tc', program: (ctx) => ctx.next() });
  return pipeline(as, { tcIngress: [pass], tcEgress: [pass] }).run(wire.engine({ tc: { order } }));
}

test('programs at TC keep their order', async () => {
  await using _first = await neighbour('inFront', 'first');
  const one = await run(1);
  await using _last = await neighbour('behind', 'last');
  const order = { tcIngress: at('tcIngress'), tcEgress: at('tcEgress') };
  expect(order.tcIngress).toHaveLength(3);
  expect(order.tcEgress).toHaveLength(3);
  const now = () => ({ tcIngress: at('tcIngress'), tcEgress: at('tcEgress') });
  await one.leave();
  expect(now()).toEqual(order);
  const declared = keptEdge(name);
  const two = await run(2, declared);
  expect(now()).toEqual(order);
  await two.update(declared.edge(3));
  expect(now()).toEqual(order);
  await two.stop();
  expect(now()).toEqual({
    tcIngress: [order.tcIngress[0], order.tcIngress[2]],
    tcEgress: [order.tcEgress[0], order.tcEgress[2]],
  });
});

test('a program at XDP that came into the place of one that was taken off is named, and all stays', async () => {
  await (await run(1)).leave();
  const pins = pinsOf(name);
  execFileSync('bpftool', ['link', 'detach', 'pinned', `/sys/fs/bpf/tailrace/${name}/link%3Axdp%3Aright`]);
  const other = await pipeline('other', { xdp: [stage({ name: 'theirs', hook: 'xdp', program: (ctx) => ctx.pass() })] }).run(wire.engine());
  const theirs = wire.route.interface('right').xdp;
  const refused = await run(2).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(InterfaceConflictError);
  expect(refused).toMatchObject({ interface: 'right', program: 'other.root', programId: theirs[0]?.programId });
  expect(wire.route.interface('right').xdp).toEqual(theirs);
  expect(at('tcIngress')).toHaveLength(1);
  expect(pinsOf(name).filter((pin) => !pin.startsWith('link:xdp'))).toEqual(pins.filter((pin) => !pin.startsWith('link:xdp')));
  await other.stop();
  const two = await run(3);
  expect(wire.route.interface('right').xdp).toHaveLength(1);
  expect(pinsOf(name)).toEqual(pins);
  await two.stop();
});
