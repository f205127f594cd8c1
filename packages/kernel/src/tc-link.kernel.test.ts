import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { kernel } from './engine.ts';
import { Errno, SyscallError } from './errno.ts';
import { openFds, passProgram, tracedFrame, traceMap, tracer, u32 } from './fixture.ts';
import { allocate } from './memory.ts';
import { RouteSocket } from './netlink.ts';
import { createNamespace, inNamespace, type NetworkNamespace } from './netns.ts';
import { PacketSocket } from './packet-socket.ts';
import { Rtnetlink } from './rtnetlink.ts';
import { injectFailure, syscall } from './syscall.ts';
import type { TcLinkKind, TcOptions } from './tc-link.ts';
import type { TcHook, TcOrder } from './tc-order.ts';
import { listTcx } from './tcx.ts';
import { addFilter, listFilters } from './traffic-control.ts';

const TCX_NEXT = -1;
const TC_ACT_SHOT = 2;
const kinds = ['tcx', 'clsact'] as const satisfies readonly TcLinkKind[];
const hooks = ['tcIngress', 'tcEgress'] as const satisfies readonly TcHook[];

let namespace: NetworkNamespace;
let route: Rtnetlink;

beforeAll(() => {
  namespace = createNamespace();
  route = new Rtnetlink(namespace);
  route.createVeth({ name: 'one' }, { name: 'two' });
  route.createVeth({ name: 'three' }, { name: 'four' });
  for (const name of ['one', 'two', 'three', 'four']) route.change(name, { up: true });
});

afterAll(() => {
  route.close();
  namespace.close();
});

afterEach(() => {
  for (const name of ['one', 'three']) expect(onInterface(name), `left on ${name}`).toEqual({ qdisc: false, tcx: [], filters: [] });
});

/** An engine with the map that all of its tracers append to. */
async function open(tc: TcOptions = {}, interfaces: readonly string[] = ['one']) {
  const engine = await kernel({ interfaces, netns: namespace, tc }).open();
  const map = engine.createMap(traceMap);
  return {
    engine,
    attach: async (hook: TcHook, digit: number, verdict = TCX_NEXT, trace = map) => {
      const program = await engine.loadProgram(tracer(digit, verdict), new Map([['trace', trace]]));
      return { id: program.id, attachment: await engine.attach(program, hook) };
    },
    map,
    /** The digits since the last call. */
    trace: () => {
      const digits = new DataView(map.lookup(u32(0))?.buffer ?? new ArrayBuffer(8)).getBigUint64(0, true).toString(16);
      map.update(u32(0), new Uint8Array(8));
      return digits;
    },
    [Symbol.asyncDispose]: () => engine.close(),
  };
}

/** Sends a frame through a hook of `name`, whose peer is given, and tells whether it came out of the peer. */
function pass(hook: TcHook, name = 'one', peer = 'two'): boolean {
  using outside = new PacketSocket(namespace, peer);
  using inside = new PacketSocket(namespace, name);
  try {
    (hook === 'tcIngress' ? outside : inside).send(tracedFrame);
  } catch (error) {
    // What a sender is told of a drop at egress.
    if (!(error instanceof SyscallError && error.errno === Errno.ENOBUFS)) throw error;
  }
  for (let frame = outside.receive(); frame; frame = outside.receive()) if (frame[12] === 0x88 && frame[13] === 0xb5) return true;
  return false;
}

/** A process in the namespace with a dropping program on both hooks of `one`; it prints the program's id. */
function runElsewhere(link: TcLinkKind) {
  const source = `
    import { kernel } from ${JSON.stringify(new URL('./engine.ts', import.meta.url).href)};
    const engine = await kernel({ interfaces: ['one'], tc: { link: '${link}' } }).open();
    const map = engine.createMap(${JSON.stringify(traceMap)});
    const program = await engine.loadProgram(${JSON.stringify(tracer(9, TC_ACT_SHOT))}, new Map([['trace', map]]));
    await engine.attach(program, 'tcIngress');
    await engine.attach(program, 'tcEgress');
    console.log(program.id);
    process.stdin.resume();
  `;
  return inNamespace(namespace, () =>
    spawn(process.execPath, ['--input-type=module', '--eval', source], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
}

/** What is on the hooks of an interface, filters as iproute2 sees them. */
function onInterface(name: string) {
  const run = (command: string, ...args: string[]) => inNamespace(namespace, () => spawnSync(command, args, { encoding: 'utf8' })).stdout;
  const filters = ['ingress', 'egress'].flatMap(
    (hook) => run('tc', 'filter', 'show', 'dev', name, hook).match(/tailrace:\S+|foreign/g) ?? [],
  );
  return { qdisc: run('tc', 'qdisc', 'show', 'dev', name).includes('clsact'), tcx: tcxIds(name), filters };
}

function tcxIds(name: string): number[] {
  const { index } = route.interface(name);
  return hooks.flatMap((hook) => listTcx({ index, name, hook }, namespace).map(({ programId }) => programId));
}

describe.each(kinds)('%s', (link) => {
  test.each(hooks)('%s: a program sees the traffic, and its verdict counts', async (hook) => {
    const before = openFds();
    {
      await using us = await open({ link }, ['one', 'three']);
      const { attachment, id } = await us.attach(hook, 1);
      expect(attachment.interfaces).toEqual(['one', 'three']);
      expect([...attachment.modes]).toEqual([
        ['one', link],
        ['three', link],
      ]);
      expect(onInterface('one')).toEqual(
        link === 'tcx' ? { qdisc: false, tcx: [id], filters: [] } : { qdisc: true, tcx: [], filters: ['tailrace:sample.trace1'] },
      );
      expect(pass(hook)).toBe(hook === 'tcEgress');
      pass(hook, 'three', 'four');
      expect(us.trace()).toBe('11');
      await attachment.detach();
      await attachment.detach();
      pass(hook);
      expect(us.trace()).toBe('0');
      await us.attach(hook, 2, TC_ACT_SHOT);
      expect(pass(hook)).toBe(false);
      expect(us.trace()).toBe('2');
    }
    // Closing the engine detached.
    expect(openFds()).toBe(before);
  });

  test('both hooks of one interface, with one program', async () => {
    await using us = await open({ link });
    const program = await us.engine.loadProgram(tracer(1, TCX_NEXT), new Map([['trace', us.map]]));
    const [first] = [await us.engine.attach(program, 'tcIngress'), await us.engine.attach(program, 'tcEgress')];
    pass('tcIngress');
    pass('tcEgress');
    expect(us.trace()).toBe('11');
    await expect(us.engine.attach(program, 'tcEgress')).rejects.toMatchObject({
      code: 'conflict',
      interface: 'one',
      programId: program.id,
      message: `program sample.trace1 (id ${program.id}) is on tcEgress of interface one already`,
    });
    // The hook that is still used keeps what it needs.
    await first.detach();
    pass('tcIngress');
    pass('tcEgress');
    expect(us.trace()).toBe('1');
  });

  test.each(hooks)('%s: programs stand where they were told to, and a foreign one stays', async (hook) => {
    await using them = await open({ link });
    const foreign = await them.attach(hook, 0xf);
    {
      const order = async (order: TcOrder, digit: number) => {
        const engine = await open({ link, order });
        const { id } = await engine.attach(hook, digit, TCX_NEXT, them.map);
        return { id, [Symbol.asyncDispose]: () => engine.engine.close() };
      };
      await using _first = await order('first', 1);
      await using last = await order('last', 2);
      await using before = await order({ before: last.id }, 3);
      await using _after = await order({ after: foreign.id }, 4);
      await using _between = await order({ before: before.id }, 5);
      await using _zero = await order('first', 6);
      await using _end = await order('last', 7);
      pass(hook);
      expect(them.trace()).toBe('61f45327');
    }
    pass(hook);
    expect(them.trace()).toBe('f');
  });

  test('a foreign program in front that drops, and one behind that is dropped for', async () => {
    await using them = await open({ link });
    const { attachment } = await them.attach('tcIngress', 0xf, TC_ACT_SHOT);
    await using us = await open({ link });
    await us.attach('tcIngress', 1, TC_ACT_SHOT, them.map);
    // Whoever leaves last takes the qdisc along.
    pass('tcIngress');
    expect(them.trace()).toBe('f');
    await attachment.detach();
    pass('tcIngress');
    expect(them.trace()).toBe('1');
  });

  test('a neighbour that is not there: the error lists what is, and nothing is attached', async () => {
    await using them = await open({ link });
    const { id } = await them.attach('tcEgress', 0xf);
    const xdp = await them.engine.loadProgram(passProgram, new Map());
    for (const [order, missing, place] of [
      [{ before: 0x7fff_0001 }, 0x7fff_0001, 'before'],
      [{ after: 0x7fff_0001 }, 0x7fff_0001, 'after'],
      [{ after: xdp.id }, xdp.id, 'after'],
    ] as const) {
      await using us = await open({ link, order });
      await expect(us.attach('tcEgress', 1)).rejects.toMatchObject({
        code: 'conflict',
        interface: 'one',
        hook: 'tcEgress',
        programs: [{ programId: id }],
        message: `tcEgress of interface one has no program with id ${missing} to stand ${place}`,
        hint: expect.stringMatching(new RegExp(`^there now, in order: ${id} \\(.*sample.trace.*\\)$`)),
      });
    }
    expect(onInterface('one')).toMatchObject(link === 'tcx' ? { tcx: [id] } : { filters: ['tailrace:sample.trace15'] });
  });

  test('an interface that cannot be attached to: none is', async () => {
    await using us = await open({ link }, ['one', 'three']);
    await using them = await open({ link }, ['three']);
    const { id } = await them.attach('tcIngress', 1);
    await using beside = await open({ link, order: { after: id } }, ['three', 'one']);
    await expect(beside.attach('tcIngress', 2)).rejects.toMatchObject({ interface: 'one' });
    expect(onInterface('three')).toMatchObject(link === 'tcx' ? { tcx: [id] } : { filters: ['tailrace:sample.trace1'] });
    expect(onInterface('one')).toEqual({ qdisc: false, tcx: [], filters: [] });
    await us.attach('tcIngress', 3);
  });

  test('an interface without Ethernet headers is refused by name', async () => {
    // As in link.kernel.test.ts: a TUN device lives as long as its file is open.
    const tun = inNamespace(namespace, () => openSync('/dev/net/tun', 'r+'));
    try {
      const request = allocate(40);
      request.bytes.set(new TextEncoder().encode('tun8'));
      request.view.setUint16(16, 0x1001, true);
      syscall('ioctl', 'tun8', tun, 0x400454ca, request.address);
      await expect(open({ link }, ['one', 'tun8'])).rejects.toThrow('interface tun8 carries no Ethernet headers');
    } finally {
      closeSync(tun);
    }
  });

  test('an interface that goes away while it is attached to', async () => {
    route.createVeth({ name: 'brief' }, { name: 'other' });
    await using us = await open({ link }, ['brief', 'one']);
    const { attachment } = await us.attach('tcIngress', 1);
    route.delete('brief');
    await attachment.detach();
    await expect(us.attach('tcIngress', 1)).rejects.toThrow('there is no interface brief');
  });

  test('a process inside the namespace attaches, and once it is killed the next engine finds a clean interface', async () => {
    const child = runElsewhere(link);
    const [line] = await once(child.stdout, 'data');
    const id = Number(line);
    const both = ['tailrace:sample.trace9', 'tailrace:sample.trace9'];
    expect(onInterface('one')).toEqual(
      link === 'tcx' ? { qdisc: false, tcx: [id, id], filters: [] } : { qdisc: true, tcx: [], filters: both },
    );
    // The owner lives: its filters stay.
    {
      await using us = await open({ link, order: 'first' });
      await us.attach('tcIngress', 1);
      expect(onInterface('one')).toMatchObject(
        link === 'tcx' ? { tcx: [expect.any(Number), id, id] } : { filters: ['tailrace:sample.trace1', ...both] },
      );
    }
    child.kill('SIGKILL');
    await once(child, 'exit');
    if (link === 'tcx') return expect.poll(() => onInterface('one').tcx).toEqual([]);
    expect(onInterface('one')).toMatchObject({ filters: both });
    await using us = await open({ link });
    await us.attach('tcIngress', 2);
    expect(onInterface('one')).toMatchObject({ filters: ['tailrace:sample.trace2'] });
    pass('tcIngress');
    expect(us.trace()).toBe('2');
  });
});

test('without a wish it is TCX', async () => {
  await using us = await open();
  expect([...(await us.attach('tcIngress', 1)).attachment.modes.values()]).toEqual(['tcx']);
});

test('without TCX in the kernel it is clsact, and TCX alone is refused', async () => {
  // A kernel before 6.6 answers the probe, which is the first call, with EINVAL. Later calls would work here.
  const attach = async (tc: TcOptions) => {
    await using us = await open(tc);
    const program = await us.engine.loadProgram(tracer(1, TCX_NEXT), new Map([['trace', us.map]]));
    injectFailure(1, Errno.EINVAL);
    const { modes } = await us.engine.attach(program, 'tcEgress');
    return [...modes.values()];
  };
  expect(await attach({})).toEqual(['clsact']);
  await expect(attach({ link: 'tcx' })).rejects.toMatchObject({ code: 'unsupported', message: 'this kernel has no TCX links' });
});

test('filters of others on clsact keep their place, and keep the qdisc', async () => {
  const tc = (...args: string[]) => {
    const { status, stderr } = inNamespace(namespace, () => spawnSync('tc', args, { encoding: 'utf8' }));
    expect(stderr).toBe('');
    expect(status).toBe(0);
  };
  const prio = (priority: number) => ['parent', 'ffff:fff2', 'protocol', 'all', 'prio', `${priority}`];
  await using us = await open({ link: 'clsact', order: 'first' });
  const { attachment } = await us.attach('tcIngress', 1);
  tc('filter', 'add', 'dev', 'one', ...prio(7), 'u32', 'match', 'u32', '0', '0', 'classid', '1:1');
  await attachment.detach();
  expect(onInterface('one')).toEqual({ qdisc: true, tcx: [], filters: [] });
  await us.attach('tcIngress', 2);
  await using last = await open({ link: 'clsact' });
  await last.attach('tcIngress', 3);
  const { index } = route.interface('one');
  using socket = new RouteSocket(namespace);
  const chain = listFilters(socket, { index, name: 'one', hook: 'tcIngress' });
  // A u32 filter comes with the table that it is in.
  expect([...new Set(chain.map(({ kind, priority }) => `${kind} ${priority}`))]).toEqual(['bpf 3', 'u32 7', `bpf ${7 + 256}`]);
  await us.engine.close();
  await last.engine.close();
  expect(onInterface('one')).toEqual({ qdisc: true, tcx: [], filters: [] });
  tc('filter', 'del', 'dev', 'one', ...prio(7));
  tc('qdisc', 'del', 'dev', 'one', 'clsact');
});

test('a filter that tc made sees packets before and after ours, and on the clsact behind TCX', async () => {
  const tc = (...args: string[]) => expect(inNamespace(namespace, () => spawnSync('tc', args)).status).toBe(0);
  // Copies each packet to the interface three, whose peer shows it, and lets the next filter have it.
  const mirror = ['u32', 'match', 'u32', '0', '0', 'action', 'mirred', 'egress', 'mirror', 'dev', 'three', 'continue'];
  const at = (priority: number) => ['dev', 'one', 'parent', 'ffff:fff2', 'protocol', 'all', 'prio', `${priority}`];
  const copies = () => {
    using four = new PacketSocket(namespace, 'four');
    pass('tcIngress');
    let count = 0;
    for (let frame = four.receive(); frame; frame = four.receive()) if (frame[12] === 0x88 && frame[13] === 0xb5) count += 1;
    return count;
  };
  tc('qdisc', 'add', 'dev', 'one', 'clsact');
  for (const [link, order] of [
    ['clsact', 'first'],
    ['clsact', 'last'],
    ['tcx', 'last'],
  ] as const) {
    tc('filter', 'add', ...at(100), ...mirror);
    {
      await using us = await open({ link, order });
      const { attachment } = await us.attach('tcIngress', 1);
      expect([copies(), us.trace()], `${link} ${order}`).toEqual([1, '1']);
      await attachment.detach();
      // In front, a drop is seen by nobody behind.
      await us.attach('tcIngress', 2, TC_ACT_SHOT);
      expect([copies(), us.trace()], `${link} ${order}`).toEqual([link === 'clsact' && order === 'last' ? 1 : 0, '2']);
    }
    expect(copies()).toBe(1);
    tc('filter', 'del', ...at(100));
  }
  tc('qdisc', 'del', 'dev', 'one', 'clsact');
});

test('an engine with TCX clears what a killed one left on clsact, and leaves what may be in use', async () => {
  const child = runElsewhere('clsact');
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  {
    await using us = await open({ link: 'tcx' });
    await us.attach('tcEgress', 1);
    expect(pass('tcEgress')).toBe(true);
    expect(onInterface('one')).toMatchObject({ qdisc: false, filters: [] });
  }

  // As a process in another container names its own.
  const elsewhere = 'tailrace:acl pid=4194303 start=7 in=pid:[1],time:[2]';
  const { index } = route.interface('one');
  const target = { index, name: 'one', hook: 'tcIngress' } as const;
  using socket = new RouteSocket(namespace);
  await using us = await open({ link: 'clsact', order: 'first' });
  const theirs = await us.engine.loadProgram(tracer(0xe, TCX_NEXT), new Map([['trace', us.map]]));
  const { attachment } = await us.attach('tcIngress', 1);
  expect(addFilter(socket, target, { priority: 1, handle: 1, name: elsewhere, fd: theirs.fd })).toBe(true);
  await attachment.detach();
  // It stands at the very front, and the error says who it is.
  await expect(us.attach('tcIngress', 2)).rejects.toMatchObject({
    message: 'tcIngress of interface one has no priority left for a filter first',
    hint: `move the neighbour to another priority; there now, in order: ${theirs.id} (${elsewhere})`,
  });
  const [filter] = listFilters(socket, target);
  expect(filter).toMatchObject({ name: elsewhere, programId: theirs.id });
  inNamespace(namespace, () => spawnSync('tc', ['qdisc', 'del', 'dev', 'one', 'clsact']));
});

test('processes that start at once after one was killed all find their place', async () => {
  const first = runElsewhere('clsact');
  await once(first.stdout, 'data');
  first.kill('SIGKILL');
  await once(first, 'exit');
  const children = Array.from({ length: 4 }, () => runElsewhere('clsact'));
  await Promise.all(children.map((child) => once(child.stdout, 'data')));
  const { index } = route.interface('one');
  using socket = new RouteSocket(namespace);
  for (const hook of hooks) {
    const filters = listFilters(socket, { index, name: 'one', hook });
    expect(filters.length).toBe(4);
    expect(new Set(filters.map(({ priority }) => priority)).size).toBe(4);
  }
  for (const child of children) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  await using us = await open({ link: 'clsact' });
  await us.attach('tcIngress', 1);
  expect(onInterface('one').filters).toEqual(['tailrace:sample.trace1']);
});

test('a qdisc that was there stays, and another in its place is named', async () => {
  const tc = (...args: string[]) => expect(inNamespace(namespace, () => spawnSync('tc', args)).status).toBe(0);
  tc('qdisc', 'add', 'dev', 'one', 'clsact');
  {
    await using us = await open({ link: 'clsact' });
    await us.attach('tcIngress', 1);
  }
  expect(onInterface('one')).toMatchObject({ qdisc: true, filters: [] });
  tc('qdisc', 'del', 'dev', 'one', 'clsact');
  tc('qdisc', 'add', 'dev', 'one', 'ingress');
  await using us = await open({ link: 'clsact' });
  await expect(us.attach('tcIngress', 1)).rejects.toMatchObject({
    code: 'conflict',
    qdisc: 'ingress',
    message: 'interface one has the qdisc ingress where clsact goes',
  });
  tc('qdisc', 'del', 'dev', 'one', 'ingress');
});

test('a program of another kind, and an order without a program', async () => {
  await using us = await open();
  const program = await us.engine.loadProgram(passProgram, new Map());
  await expect(us.engine.attach(program, 'tcIngress')).rejects.toThrow('program sample.pass is of type xdp, the hook is tcIngress');
  expect(() => kernel({ interfaces: [], tc: { order: { before: -1 } } })).toThrow('tc.order takes the id of a program, got -1');
});
