/** Stages on sockets, run on data and events of connections that are only described. */
import { arrayMap, hash, sockhash, sockmap, stage, struct, u8, u32, u64 } from '@tailrace/stage';
import { userspace } from '@tailrace/userspace';
import { describe, expect, test } from 'vitest';
import './matchers.ts';
import { describeOutcome } from './outcome.ts';
import { packet } from './packet.ts';
import { run, runner } from './run.ts';
import { data, established, socketStandIn } from './socket-data.ts';

const first = struct({ byte: u8 });
const backends = sockhash({ name: 'backends', key: struct({ port: u32, half: u64 }), maxEntries: 4 });
const seen = arrayMap({
  name: 'seen',
  value: struct({ localPort: u32, remotePort: u32, remoteAddr: u32, family: u32, remoteHi: u64 }),
  maxEntries: 1,
});
/** To who is bound to the port that data come to, where they begin with G; other words leave it. */
const choose = stage({
  name: 'choose',
  hook: 'skSkb',
  uses: { backends, seen, first },
  program(ctx, { backends, seen, first }) {
    const entry = seen.lookup(0);
    if (entry) {
      entry.localPort = ctx.localPort;
      entry.remotePort = ctx.remotePort;
      entry.remoteAddr = ctx.remoteAddr;
      entry.family = ctx.family;
      entry.remoteHi = ctx.remoteAddr6.hi;
    }
    const head = ctx.at(first, 0);
    if (!head) return ctx.pass();
    if (head.byte === 0x47) return ctx.redirect(backends, { port: ctx.localPort, half: 7n });
    if (head.byte === 0x50) return ctx.redirectIngress(backends, { port: ctx.localPort, half: 7n });
    if (head.byte === 0x21) return ctx.drop();
    return head.byte === 0x3f ? ctx.exit('odd') : ctx.next();
  },
});

describe.each([
  ['wasm', userspace({ compile: 'quickly' })],
  ['the interpreter', userspace({ mode: 'interpreter' })],
])('%s', (_, engine) => {
  test('data: verdicts, exits, targets, and the ends of the connection', async () => {
    await using live = await runner(choose, { engine });
    const backend = socketStandIn();
    live.handle(backends).set({ port: 80, half: 7n }, backend);
    const get = data('GET /').from('10.0.0.9:4711').to('10.0.0.1:80');
    const there = await live.run(get);
    expect(there).toRedirect();
    expect(there).toMatchObject({ redirect: { sockets: backends, key: { port: 80, half: 7n }, ingress: false } });
    expect(describeOutcome(there)).toBe(`redirect out of 'backends' at {"port":80,"half":"7n"}`);
    expect(live.handle(seen).get(0)).toEqual({ localPort: 80, remotePort: 4711, remoteAddr: 0x0a00_0009, family: 2, remoteHi: 0n });
    expect(describeOutcome(await live.run(data('PUT /').to('10.0.0.1:80')))).toMatch(/^redirect in at/);
    // nobody is bound to that port
    expect(await live.run(get.to('10.0.0.1:443'))).toDrop();
    expect(await live.run(data('!'))).toDrop();
    expect(await live.run(data('?'))).toExit('odd');
    expect(await live.run(data(Uint8Array.of(1)).from('[2001:db8::9]:4711').to('[2001:db8::1]:80'))).toNext();
    expect(live.handle(seen).get(0)).toMatchObject({ family: 10, remoteHi: 0x2001_0db8_0000_0000n });
    expect(await live.run(data(''))).toPass();
  });

  const ends = sockmap({ name: 'ends', maxEntries: 2 });
  const ports = hash({ name: 'ports', key: u32, value: u32, maxEntries: 4 });
  const track = stage({
    name: 'track',
    hook: 'sockOps',
    uses: { ends, ports },
    program(ctx, { ends, ports }) {
      if (ctx.passiveEstablished && ends.add(1)) ports.update(ctx.localPort, ctx.remotePort);
      if (ctx.activeEstablished && ends.add(0)) ports.update(ctx.localPort, ctx.remotePort);
      return ctx.next();
    },
  });

  test('events: sockets that come into a map', async () => {
    await using live = await runner(track, { engine });
    const between = (how: 'active' | 'passive') => established(how).from('10.0.0.9:4711').to('10.0.0.1:80');
    expect(await live.run(between('active'))).toNext();
    expect(live.handle(ends).cookie(0)).toBeTypeOf('bigint');
    expect(live.handle(ports).get(4711)).toBe(80);
    await live.run(between('passive'));
    expect(live.handle(ports).get(80)).toBe(4711);
  });

  const sent = stage({
    name: 'sent',
    hook: 'skMsg',
    uses: { ends },
    program(ctx, { ends }) {
      return ctx.localPort === 80 ? ctx.redirect(ends, 0) : ctx.drop();
    },
  });

  test('messages: who sends is the socket itself', async () => {
    const prepare = { engine, prepare: (live: Awaited<ReturnType<typeof runner>>) => live.handle(ends).set(0, socketStandIn()) };
    expect(await run(sent, data('x').from('10.0.0.1:80').to('10.0.0.9:4711'), prepare)).toRedirect();
    expect(await run(sent, data('x').from('10.0.0.9:4711').to('10.0.0.1:80'), prepare)).toDrop();
  });
});

test('mistakes', async () => {
  const frame = packet().ethernet().ipv4().tcp();
  await expect(run(choose, frame)).rejects.toThrow('a stage at skSkb takes data(…) or established(…)');
  await expect(run(choose, established('active'))).rejects.toThrow('events are not for skSkb');
  await expect(run(stage({ name: 'p', hook: 'xdp', program: (ctx) => ctx.pass() }), data('x'))).rejects.toThrow(
    'a stage at xdp takes a packet',
  );
  for (const end of ['10.0.0.1', '10.0.0.1:66000', '2001:db8::1:80', '[10.0.0.1]:80', 'here:80'])
    expect(() => data('x').from(end)).toThrow(`'${end}' is no end of a connection`);
});
