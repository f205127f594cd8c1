/** Chains on sockets, in the kernel and on real ones. */
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import { kernel } from '@tailrace/kernel';
import { arrayMap, sockhash, sockmap, stage, struct, u8, u32, u64 } from '@tailrace/stage';
import { afterEach, expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';

let ends: Socket[] = [];
afterEach(() => {
  for (const end of ends) end.destroy();
  ends = [];
});

/** Both ends of a connection over loopback. */
async function connection(): Promise<{ near: Socket; far: Socket; fd: number }> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const near = new Socket().connect((server.address() as { port: number }).port, '127.0.0.1');
  const [far] = (await accepted) as [Socket];
  if (near.connecting) await once(near, 'connect');
  server.close();
  ends.push(near, far);
  return { near, far, fd: (far as unknown as { _handle: { fd: number } })._handle.fd };
}

async function arrives(socket: Socket, bytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  const take = (chunk: Buffer): void => void chunks.push(chunk);
  socket.on('data', take);
  for (let waited = 0; waited < 2000 && Buffer.concat(chunks).length < bytes; waited += 5) await new Promise((done) => setTimeout(done, 5));
  socket.off('data', take);
  return Buffer.concat(chunks).toString();
}

const first = struct({ byte: u8 });
const peers = sockmap({ name: 'peers', maxEntries: 8 });
/** By the first byte: `x` is dropped, `s` goes to the other socket, all else through the chain. */
const sort = stage({
  name: 'sort',
  hook: 'skSkb',
  uses: { peers, first },
  program(ctx, { peers, first }) {
    const head = ctx.at(first, 0);
    if (!head) return ctx.pass();
    if (head.byte === 0x78) return ctx.exit('unwanted');
    if (head.byte === 0x73) return ctx.redirect(peers, 1);
    return ctx.next();
  },
});
const seen = arrayMap({
  name: 'seen',
  value: struct({ bytes: u64, localPort: u32, remotePort: u32, remoteAddr: u32, family: u32 }),
  maxEntries: 1,
});
const note = stage({
  name: 'note',
  hook: 'skSkb',
  uses: { seen },
  program(ctx, { seen }) {
    const entry = seen.lookup(0);
    if (!entry) return ctx.pass();
    entry.bytes += BigInt(ctx.length);
    entry.localPort = ctx.localPort;
    entry.remotePort = ctx.remotePort;
    entry.remoteAddr = ctx.remoteAddr;
    entry.family = ctx.family;
    return ctx.next();
  },
});

test('data that come in: a chain with exits, redirects, counters, and a stage that is swapped', async () => {
  await using running = await pipeline('proxy', { skSkb: [sort.on({ unwanted: 'drop' }), note] }).run(kernel({}));
  const [a, b] = [await connection(), await connection()];
  running.map(peers).set(0, a.fd);
  running.map(peers).set(1, b.fd);

  a.near.write('hello');
  expect(await arrives(a.far, 5)).toBe('hello');
  expect(running.map(seen).get(0)).toEqual({
    bytes: 5n,
    localPort: a.far.localPort,
    remotePort: a.far.remotePort,
    remoteAddr: 0x7f00_0001,
    family: 2,
  });
  a.near.write('splice');
  expect(await arrives(b.near, 6)).toBe('splice');
  a.near.write('x-rated');
  a.near.write('');
  expect(await arrives(a.far, 1)).toBe('');
  expect(running.stats().skSkb.sort).toMatchObject({ packets: 3n, bytes: 18n, exits: { unwanted: 1n }, verdicts: { redirect: 1n } });
  expect(running.stats().skSkb.note).toMatchObject({ packets: 1n, bytes: 5n });

  await running.replace(sort, stage({ name: 'open', hook: 'skSkb', program: (ctx) => ctx.next() }).as('open'));
  a.near.write('x');
  expect(await arrives(a.far, 1)).toBe('x');
  expect(running.stats().skSkb.note.packets).toBe(2n);

  const others = sockmap({ name: 'others', maxEntries: 1 });
  const elsewhere = stage({ name: 'elsewhere', hook: 'skSkb', uses: { others }, program: (ctx, { others }) => ctx.redirect(others, 0) });
  await expect(running.replace(sort, elsewhere)).rejects.toThrow("the skSkb chain is not attached to the map of sockets 'others'");
}, 30_000);

const key = struct({ localPort: u32, remotePort: u32 });
const local = sockhash({ name: 'local', key, maxEntries: 64 });
const track = stage({
  name: 'track',
  hook: 'sockOps',
  uses: { local },
  program(ctx, { local }) {
    if (ctx.activeEstablished || ctx.passiveEstablished) local.add({ localPort: ctx.localPort, remotePort: ctx.remotePort });
    return ctx.pass();
  },
});
const shortcut = stage({
  name: 'shortcut',
  hook: 'skMsg',
  uses: { local },
  program: (ctx, { local }) => ctx.redirectIngress(local, { localPort: ctx.remotePort, remotePort: ctx.localPort }),
});

test('events find both ends of connections, what they send goes from one to the other', async () => {
  const mount = readFileSync('/proc/self/mounts', 'utf8').match(/^\S+ (\S+) cgroup2 /m)?.[1] as string;
  const home = `${mount}${readFileSync('/proc/self/cgroup', 'utf8').match(/^0::(.*)$/m)?.[1] ?? '/'}`;
  const cgroup = `${mount}/tailrace-pipeline-${process.pid}`;
  mkdirSync(cgroup);
  try {
    await using running = await pipeline('bypass', { sockOps: [track], skMsg: [shortcut] }).run(kernel({ cgroup }));
    writeFileSync(`${cgroup}/cgroup.procs`, String(process.pid));
    const { near, far } = await connection();
    expect(running.map(local).size).toBe(2);
    near.write('ping');
    expect(await arrives(far, 4)).toBe('ping');
    far.write('pong!');
    expect(await arrives(near, 5)).toBe('pong!');
    expect(running.stats().skMsg.shortcut).toMatchObject({ packets: 2n, bytes: 9n, verdicts: { redirect: 2n } });
    expect(running.stats().sockOps.track.packets).toBeGreaterThan(1n);
  } finally {
    writeFileSync(`${home}/cgroup.procs`, String(process.pid));
    rmdirSync(cgroup);
  }
}, 30_000);

test('mistakes', async () => {
  const blind = stage({ name: 'blind', hook: 'skSkb', program: (ctx) => ctx.drop() });
  await expect(pipeline('p', { skSkb: [blind] }).run(kernel({}))).rejects.toThrow('no stage of the skSkb chain uses a map of sockets');
  await expect(pipeline('p', { sockOps: [track] }).run(kernel({}))).rejects.toThrow('the engine has no cgroup');
});
