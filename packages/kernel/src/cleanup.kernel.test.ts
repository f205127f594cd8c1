/**
 * Nothing is left open or attached after a failure at any step: every operation is repeated with its first, second, third … system
 * call failing, until one run has no call left to fail, and the open files are counted and TC is looked at after each.
 */
import { BtfBuilder, insn, TailraceError } from '@tailrace/bpf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kernel } from './engine.ts';
import { Errno } from './errno.ts';
import { mapSpec, openFds, passProgram, programSpec, u32 } from './fixture.ts';
import { createMap } from './map.ts';
import { watchNeighbours } from './neighbour.ts';
import { RouteSocket } from './netlink.ts';
import { createNamespace, inNamespace, type NetworkNamespace, openNamespace } from './netns.ts';
import { requireBpf } from './privilege.ts';
import { loadProgram } from './program.ts';
import { Rtnetlink } from './rtnetlink.ts';
import { bindUdp, connectTcp, listenTcp } from './socket.ts';
import { closeFd, failureTaken, injectFailure } from './syscall.ts';
import { listTcx } from './tcx.ts';
import { clsactKind, listFilters } from './traffic-control.ts';

let namespace: NetworkNamespace;
let route: Rtnetlink;

beforeAll(() => {
  namespace = createNamespace();
  route = new Rtnetlink(namespace);
  route.createVeth({ name: 'one' }, { name: 'two' });
  for (const name of ['lo', 'one', 'two']) route.change(name, { up: true });
});

afterAll(() => {
  route.close();
  namespace.close();
});

const btf = (() => {
  const builder = new BtfBuilder();
  const keyTypeId = builder.int('u32', 4, 'unsigned');
  const valueTypeId = builder.array(builder.int('u8', 1, 'unsigned'), 16);
  return { blob: builder.toBytes(), keyTypeId, valueTypeId };
})();

const mapReader = programSpec('sample.map', [insn.wideMap(1), insn.mov(0, 2), insn.exit()], {
  mapReferences: [{ pc: 0, map: 'map' }],
});

const filterProgram = programSpec('sample.next', [insn.mov(0, -1), insn.exit()], { type: 'schedCls', frags: false });

/** Each makes something and closes it again. */
const operations: Readonly<Record<string, () => void | Promise<void>>> = {
  'a map with BTF': () => createMap(mapSpec('hash', { btf }), { cpus: 1 }).close(),
  'map entries': () => {
    const map = createMap(mapSpec('hash'), { cpus: 1 });
    try {
      map.update(u32(1), new Uint8Array(16));
      map.lookup(u32(1));
      map.updateBatch({ count: 1, keys: u32(2), values: new Uint8Array(16) });
      map.readAll();
      map.deleteBatch(u32(2), 1);
      map.nextKey();
      map.delete(u32(1));
    } finally {
      map.close();
    }
  },
  'a program with a map': async () => {
    const map = createMap(mapSpec('hash'), { cpus: 1 });
    try {
      const program = await loadProgram(mapReader, new Map([['map', map]]));
      program.close();
    } finally {
      map.close();
    }
  },
  'a slot of a program array': async () => {
    await using engine = await kernel({ interfaces: [] }).open();
    const array = engine.createMap(mapSpec('programArray'));
    await array.setProgram(0, await engine.loadProgram(passProgram, new Map()));
    await array.clearProgram(0);
    await engine.gracePeriod();
  },
  'an engine at two interfaces of a namespace': async () => {
    await using engine = await kernel({ interfaces: ['one', 'lo'], netns: namespace }).open();
    const program = await engine.loadProgram(passProgram, new Map());
    await program.testRun({ packet: new Uint8Array(64) });
    const attachment = await engine.attach(program, 'xdp');
    await attachment.detach();
    await engine.attach(program, 'xdp');
  },
  'an occupied interface': async () => {
    await using other = await kernel({ interfaces: ['two'], netns: namespace }).open();
    await other.attach(await other.loadProgram(passProgram, new Map()), 'xdp');
    await using engine = await kernel({ interfaces: ['one', 'two'], netns: namespace }).open();
    const program = await engine.loadProgram(passProgram, new Map());
    await expect(engine.attach(program, 'xdp')).rejects.toThrow(TailraceError);
  },
  'TCX links': () => attachTc('tcx'),
  'clsact filters': () => attachTc('clsact'),
  'a TCX program to stand beside that is missing at one interface': () => attachBeside('tcx'),
  'a filter to stand beside that is missing at one interface': () => attachBeside('clsact'),
  'the probe for bpf': requireBpf,
  'a namespace': () => createNamespace().close(),
  'a namespace opened again': () => openNamespace(namespace.fd).close(),
  'a visit to a namespace': () => inNamespace(namespace, () => undefined),
  rtnetlink: () => {
    using netlink = new Rtnetlink(namespace);
    netlink.createVeth({ name: 'brief' }, { name: 'other' });
    netlink.addAddress('brief', '10.9.0.1/24');
    netlink.change('brief', { up: true });
    netlink.setNeighbour('brief', '10.9.0.2', '02:00:00:00:00:02');
    netlink.neighbours('brief');
    netlink.addRoute({ to: '10.8.0.0/16', via: '10.9.0.2' });
    netlink.setOffloads('brief', { txChecksum: false });
    netlink.delete('brief');
  },
  'a watch on neighbours': () => watchNeighbours(namespace, () => undefined).close(),
  'a listening socket': () => closeFd(listenTcp(namespace, '127.0.0.1', 0)),
  'a UDP socket': () => closeFd(bindUdp(namespace, '127.0.0.1', 0)),
  'a connection': async () => {
    const fd = listenTcp(namespace, '127.0.0.1', 7100);
    try {
      const socket = await connectTcp(namespace, '127.0.0.1', 7100);
      await new Promise((resolve) => socket.once('close', resolve).destroy());
    } finally {
      closeFd(fd);
    }
  },
};

async function attachTc(link: 'tcx' | 'clsact'): Promise<void> {
  await using engine = await kernel({ interfaces: ['one', 'lo'], netns: namespace, tc: { link } }).open();
  const program = await engine.loadProgram(filterProgram, new Map());
  const attachment = await engine.attach(program, 'tcIngress');
  await engine.attach(program, 'tcEgress');
  await attachment.detach();
  await engine.attach(program, 'tcIngress');
}

async function attachBeside(link: 'tcx' | 'clsact'): Promise<void> {
  await using other = await kernel({ interfaces: ['two'], netns: namespace, tc: { link } }).open();
  const theirs = await other.loadProgram(filterProgram, new Map());
  await other.attach(theirs, 'tcEgress');
  const tc = { link, order: { before: theirs.id } };
  await using engine = await kernel({ interfaces: ['two', 'one'], netns: namespace, tc }).open();
  const program = await engine.loadProgram(filterProgram, new Map());
  await expect(engine.attach(program, 'tcEgress')).rejects.toThrow(TailraceError);
}

/** What is attached to TC, by interface. */
function tcLeftovers(): string[] {
  using socket = new RouteSocket(namespace);
  return ['lo', 'one', 'two'].flatMap((name) => {
    const { index } = route.interface(name);
    const programs = (['tcIngress', 'tcEgress'] as const).flatMap((hook) => [
      ...listTcx({ index, name, hook }, namespace),
      ...listFilters(socket, { index, name, hook }),
    ]);
    return [clsactKind(socket, index) ?? [], programs.map((program) => program.name)].flat().map((found) => `${name}: ${found}`);
  });
}

describe.each(Object.keys(operations))('%s', (name) => {
  const run = operations[name];

  test.each([Errno.ENOMEM, Errno.EOPNOTSUPP])('leaves no file open when a call fails with errno %i', async (errno) => {
    await run?.();
    const before = openFds();
    let steps = 0;
    for (let nth = 1; ; nth += 1) {
      injectFailure(nth, errno);
      let failure: unknown;
      try {
        await run?.();
      } catch (error) {
        failure = error;
      }
      const taken = failureTaken();
      injectFailure(0);
      // A request may have been carried out although its answer was not received.
      route.delete('brief');
      expect(openFds(), `after call ${nth} failed`).toBe(before);
      expect(tcLeftovers(), `after call ${nth} failed`).toEqual([]);
      if (!taken) {
        expect(failure).toBeUndefined();
        break;
      }
      if (failure !== undefined) expect(failure).toBeInstanceOf(TailraceError);
      steps = nth;
    }
    expect(steps).toBeGreaterThan(0);
    expect(route.interface('one').xdp).toEqual([]);
  });
});
