/** Several pipelines and programs of others on one interface: all see the traffic, in order, and none disturbs another. */
import { insn, type ProgramSpec } from '@tailrace/bpf';
import { eventually, type Host, topology } from '@tailrace/testing';
import { hash, InterfaceConflictError, kernel, pipeline, stage, type TcOptions, u32, u64 } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RouteSocket } from '../packages/kernel/src/netlink.ts';
import { addClsact, addFilter, deleteClsact } from '../packages/kernel/src/traffic-control.ts';
import { watchLeaks } from './leak-watch.ts';
import { watched } from './watched-engine.ts';

const PORT = 7;

const makeNetwork = () =>
  topology({
    hosts: { client: {}, server: {} },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.0.1/24'] },
          { host: 'server', addresses: ['10.0.0.2/24'] },
        ],
      },
    ],
  });
let network: Awaited<ReturnType<typeof makeNetwork>>;
let client: Host;
let server: Host;

const leaks = watchLeaks(() => [client, server]);
beforeAll(async () => {
  network = await makeNetwork();
  ({ client, server } = network.hosts);
  await server.udpEcho({ port: PORT });
});
afterAll(() => network.close());

const engine = (tc: TcOptions) => watched(kernel({ interfaces: ['client'], netns: server.namespace, tc }));

/** Everybody appends a hexadecimal digit to the mark, which so tells who has seen a packet, in order. */
const sign = stage({
  name: 'sign',
  hook: 'tcIngress',
  uses: { digit: 1 as number },
  program(ctx, { digit }) {
    ctx.mark = ((ctx.mark << 4) | digit) >>> 0;
    return ctx.next();
  },
});
/** As `sign` does, by somebody else: offset 8 of struct __sk_buff is the mark, and -1 lets others run (TCX_NEXT). */
const foreign = (digit: number): ProgramSpec => ({
  name: `foreign${digit}`,
  type: 'schedCls',
  frags: false,
  license: 'GPL',
  instructions: [
    insn.load(4, 2, 1, 8),
    insn.alu64('lsh', 2, 4),
    insn.alu64('or', 2, digit),
    insn.store(4, 1, 8, 2),
    insn.mov(0, -1),
    insn.exit(),
  ],
  mapReferences: [],
  functions: [],
  lines: [],
});
/** The marks of the datagrams that came. */
const marks = hash({ name: 'marks', key: u32, value: u64, maxEntries: 64 });
const observe = stage({
  name: 'observe',
  hook: 'tcIngress',
  uses: { marks, port: PORT },
  program(ctx, { marks, port }) {
    const udp = ctx.udp();
    if (!udp || udp.dport !== port) return ctx.next();
    const count = marks.lookup(ctx.mark);
    if (count) count.value += 1n;
    else marks.update(ctx.mark, 1n);
    return ctx.next();
  },
});

/** Runs a pipeline of one signer; gives the id of what is attached as well. */
async function signer(digit: number, tc: TcOptions) {
  const own = engine(tc);
  const stage = sign.with({ digit });
  const running = await pipeline(`signer${digit}`, { tcIngress: [stage] }).run(own.engine);
  leaks.remember();
  return { running, stage, id: own.attached[0]?.id ?? 0, [Symbol.asyncDispose]: () => running.stop() };
}

/** A program of somebody else, attached by the same means as a filter or a link. */
async function attachForeign(link: 'tcx' | 'clsact', digit: number) {
  await using stack = new AsyncDisposableStack();
  const raw = stack.use(await kernel({ interfaces: link === 'tcx' ? ['client'] : [], netns: server.namespace }).open());
  const program = await raw.loadProgram(foreign(digit), new Map());
  if (link === 'tcx') await raw.attach(program, 'tcIngress');
  else {
    const socket = stack.use(new RouteSocket(server.namespace));
    const target = { index: server.ifindex('client'), name: 'client', hook: 'tcIngress' } as const;
    addClsact(socket, target);
    stack.defer(() => deleteClsact(socket, target));
    await program.hold(async (fd) => void addFilter(socket, target, { priority: 0x4000, handle: 1, name: 'foreign', fd }));
  }
  leaks.remember();
  const resources = stack.move();
  return { id: program.id, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

/** Sends datagrams that all come back, and tells the marks that they had. */
async function observed(map: { clear(): void; getAll(): readonly (readonly [number, bigint])[] }, count = 5): Promise<string[]> {
  map.clear();
  await using socket = await client.udp();
  for (let sent = 0; sent < count; sent++) await socket.send('seen?', '10.0.0.2', PORT);
  await eventually(() => socket.received === count);
  return map.getAll().map(([mark, packets]) => `${mark.toString(16)} ${packets}`);
}

/** The observer's map, as `observed` takes it. */
async function observer(tc: TcOptions) {
  const running = await pipeline('observer', { tcIngress: [observe] }).run(engine(tc).engine);
  const handle = running.map(marks);
  const clear = (): void => {
    for (const [mark] of handle.getAll()) handle.delete(mark);
  };
  return { map: { clear, getAll: () => handle.getAll() }, [Symbol.asyncDispose]: () => running.stop() };
}

test.each(['tcx', 'clsact'] as const)('pipelines stand where they were told to, and go without a trace, by %s', async (link) => {
  await using stranger = await attachForeign(link, 0xf);
  await using last = await observer({ link, order: 'last' });
  await using one = await signer(1, { link, order: 'first' });
  const two = await signer(2, { link, order: { before: stranger.id } });
  await using _two = two;
  await using _three = await signer(3, { link, order: { after: one.id } });
  await using _four = await signer(4, { link, order: { after: stranger.id } });
  expect(await observed(last.map)).toEqual(['132f4 5']);
  await two.running.stop();
  expect(await observed(last.map)).toEqual(['13f4 5']);
  expect(one.running.stats().tcIngress.sign.packets).toBeGreaterThanOrEqual(10n);
});

test('pipelines on TCX and on clsact, and strangers at both: links run first, filters behind them', async () => {
  await using _filter = await attachForeign('clsact', 0xc);
  await using _link = await attachForeign('tcx', 0xf);
  await using last = await observer({ link: 'clsact', order: 'last' });
  await using _one = await signer(1, { link: 'clsact', order: 'first' });
  await using _two = await signer(2, { link: 'tcx', order: 'first' });
  await using _three = await signer(3, { link: 'tcx' });
  expect(await observed(last.map)).toEqual(['2f31c 5']);
});

test('a stage that drops is the last to see a packet, whoever stands behind', async () => {
  await using last = await observer({});
  await using _stranger = await attachForeign('clsact', 0xc);
  const refuse = stage({ name: 'refuse', hook: 'tcIngress', program: (ctx) => (ctx.udp() ? ctx.drop() : ctx.next()) });
  await using refusing = await pipeline('refusing', { tcIngress: [refuse] }).run(engine({ order: 'first' }).engine);
  await using socket = await client.udp();
  for (let sent = 0; sent < 5; sent++) await socket.send('seen?', '10.0.0.2', PORT);
  await eventually(() => refusing.stats().tcIngress.refuse.verdicts.drop === 5n);
  expect(last.map.getAll()).toEqual([]);
  await refusing.stop();
  expect(await observed(last.map)).toEqual(['0 5']);
});

test.each(['tcx', 'clsact'] as const)('a swap in one is none in another, under traffic, by %s', async (link) => {
  await using one = await signer(1, { link });
  await using _two = await signer(2, { link });
  await using last = await observer({ link });
  await using socket = await client.udp();
  let swapping = true;
  const swaps = (async () => {
    let count = 0;
    // An even number of them: the first stage is back in the end.
    for (; swapping || count % 2 === 1; count++) await one.running.replace(one.stage, one.stage.with({ digit: count % 2 === 0 ? 9 : 1 }));
    return count;
  })();
  for (let sent = 1; sent <= 1_000; sent++) {
    await socket.send('seen?', '10.0.0.2', PORT);
    if (sent % 20 === 0) await eventually(() => socket.received === sent);
  }
  swapping = false;
  expect(await swaps).toBeGreaterThanOrEqual(2);
  const seen = last.map.getAll();
  expect(new Set(seen.map(([mark]) => mark))).toEqual(new Set([0x12, 0x92]));
  expect(seen.reduce((sum, [, count]) => sum + count, 0n)).toBe(1_000n);
  expect(one.running.stats().tcIngress.sign.misses).toBe(0n);
  expect(await observed(last.map)).toEqual(['12 5']);
});

test('XDP of an interface is for one: the other is told whose it is, and leaves nothing at TC', async () => {
  const pass = stage({ name: 'pass', hook: 'xdp', program: (ctx) => ctx.next() });
  const both = (name: 'alpha' | 'beta') => pipeline(name, { xdp: [pass], tcIngress: [sign], tcEgress: [sign.at('tcEgress').as('out')] });
  await using alpha = await both('alpha').run(engine({}).engine);
  leaks.remember();
  const { xdp } = server.route.interface('client');
  const refusal = both('beta').run(engine({}).engine);
  await expect(refusal).rejects.toBeInstanceOf(InterfaceConflictError);
  await expect(refusal).rejects.toMatchObject({
    code: 'conflict',
    interface: 'client',
    program: 'alpha.root',
    programId: xdp[0]?.programId,
  });
  leaks.remember();
  await using last = await observer({});
  // What the refused one had attached at TC by then is gone.
  expect(await observed(last.map)).toEqual(['1 5']);
  // Without XDP there is room for both.
  await using _gamma = await pipeline('gamma', { tcIngress: [sign.with({ digit: 2 })] }).run(engine({ order: 'first' }).engine);
  expect(await observed(last.map)).toEqual(['21 5']);
  await alpha.stop();
  await using _again = await both('beta').run(engine({ order: 'first' }).engine);
  leaks.remember();
  expect(await observed(last.map)).toEqual(['12 5']);
});
