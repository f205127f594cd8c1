import { once } from 'node:events';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import { type Instruction, insn, type ProgramType, reg } from '@tailrace/bpf';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type KernelInstance, kernel } from './engine.ts';
import { mapSpec, passProgram, programSpec, u32 } from './fixture.ts';
import type { KernelMap } from './map.ts';
import type { KernelProgram } from './program.ts';
import { attachToSockets } from './socket-link.ts';

/** enum sk_action */
const SK_DROP = 0;
const SK_PASS = 1;

let instance: KernelInstance;
let ends: Socket[] = [];
beforeEach(async () => {
  instance = await kernel({ interfaces: [] }).open();
});
afterEach(async () => {
  for (const end of ends) end.destroy();
  ends = [];
  await instance.close();
});

/** Both ends of a connection over loopback. */
async function connection(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const near = new Socket().connect((server.address() as { port: number }).port, '127.0.0.1');
  const [far] = (await accepted) as [Socket];
  if (near.connecting) await once(near, 'connect');
  server.close();
  ends.push(near, far);
  return { near, far };
}

function fdOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

/** What arrives within a moment. */
async function received(socket: Socket, until = 0): Promise<string> {
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  for (let waited = 0; waited < 300 && (until === 0 || text.length < until); waited += 10)
    await new Promise((done) => setTimeout(done, 10));
  return text;
}

function load(type: ProgramType, instructions: readonly Instruction[], maps: Record<string, KernelMap> = {}): Promise<KernelProgram> {
  const names = Object.keys(maps);
  const mapReferences = instructions.flatMap((one, at) => (isWide(one) ? [{ pc: slotOf(instructions, at), map: names[0] ?? '' }] : []));
  const spec = programSpec(`sample.${type}`, instructions, { type, frags: false, mapReferences });
  return instance.loadProgram(spec, new Map(Object.entries(maps)));
}

function isWide({ opcode }: Instruction): boolean {
  return opcode === 0x18;
}
function slotOf(instructions: readonly Instruction[], at: number): number {
  return instructions.slice(0, at).reduce((slots, one) => slots + (isWide(one) ? 2 : 1), 0);
}

const returns = (value: number): Instruction[] => [insn.mov(0, value), insn.exit()];
/** bpf_sk_redirect_map(skb, &sockets, 1, 0) */
const redirects = [insn.wideMap(2), insn.mov(3, 1), insn.mov(4, 0), insn.call(52), insn.exit()];

test.each([
  { verdict: 'dropped', instructions: returns(SK_DROP), here: '', there: '' },
  { verdict: 'passed', instructions: returns(SK_PASS), here: 'some bytes', there: '' },
  { verdict: 'sent out of another', instructions: redirects, here: '', there: 'some bytes' },
])('what comes in at the sockets of a map is $verdict', async ({ instructions, here, there }) => {
  const sockets = instance.createMap(mapSpec('sockmap', { name: 'sockets', valueSize: 8 }));
  const [a, b] = [await connection(), await connection()];
  const attached = await instance.attachToSockets(await load('skSkb', instructions, { sockets }), { hook: 'skSkb', map: sockets });
  for (const [at, { far }] of [a, b].entries()) sockets.update(u32(at), Uint8Array.from([...u32(fdOf(far)), ...u32(0)]));
  a.near.write('some bytes');
  expect(await Promise.all([received(a.far, here.length), received(b.near, there.length)])).toEqual([here, there]);
  await attached.detach();
  await attached.detach();
});

test('a program takes the place of the one that is there', async () => {
  const sockets = instance.createMap(mapSpec('sockmap', { name: 'sockets', valueSize: 8 }));
  const { near, far } = await connection();
  const first = await instance.attachToSockets(await load('skSkb', returns(SK_DROP)), { hook: 'skSkb', map: sockets });
  await instance.attachToSockets(await load('skSkb', returns(SK_PASS)), { hook: 'skSkb', map: sockets });
  await first.detach();
  sockets.update(u32(0), Uint8Array.from([...u32(fdOf(far)), ...u32(0)]));
  near.write('passed');
  expect(await received(far, 6)).toBe('passed');
});

test('what is sent at the sockets of a map can be refused', async () => {
  const sockets = instance.createMap(mapSpec('sockmap', { name: 'sockets', valueSize: 8 }));
  const { near, far } = await connection();
  await instance.attachToSockets(await load('skMsg', returns(SK_DROP)), { hook: 'skMsg', map: sockets });
  sockets.update(u32(0), Uint8Array.from([...u32(fdOf(near)), ...u32(0)]));
  const failed = once(near, 'error');
  near.write('refused');
  expect((await failed)[0]).toMatchObject({ code: 'EACCES' });
  expect(await received(far)).toBe('');
});

test('events of the sockets of a cgroup', async () => {
  const cgroup = `${cgroup2()}/tailrace-test-${process.pid}`;
  mkdirSync(cgroup);
  await instance.close();
  instance = await kernel({ cgroup }).open();
  try {
    const counts = instance.createMap(mapSpec('array', { name: 'counts', maxEntries: 1, valueSize: 8 }));
    const program = await load(
      'sockOps',
      [
        insn.mov(1, 0),
        insn.store(4, 10, -4, 1),
        insn.mov(2, reg(10)),
        insn.alu64('add', 2, -4),
        insn.wideMap(1),
        insn.call(1),
        insn.jump('eq', 0, 0, 2),
        insn.mov(1, 1),
        insn.atomic('add', 8, 0, 0, 1),
        insn.mov(0, 1),
        insn.exit(),
      ],
      { counts },
    );
    const attached = await instance.attachToSockets(program, { hook: 'sockOps' });
    const count = (): number => counts.lookup(u32(0))?.[0] ?? 0;
    await connection();
    expect(count()).toBe(0);
    const home = readFileSync('/proc/self/cgroup', 'utf8').match(/^0::(.*)$/m)?.[1] ?? '/';
    writeFileSync(`${cgroup}/cgroup.procs`, String(process.pid));
    try {
      await connection();
    } finally {
      writeFileSync(`${cgroup2()}${home === '/' ? '' : home}/cgroup.procs`, String(process.pid));
    }
    const met = count();
    expect(met).toBeGreaterThan(2);
    await attached.detach();
    await connection();
    expect(count()).toBe(met);
  } finally {
    rmdirSync(cgroup);
  }
});

test('mistakes', async () => {
  const [sockets, counts] = [instance.createMap(mapSpec('sockmap', { valueSize: 8 })), instance.createMap(mapSpec('array'))];
  const program = await load('skSkb', returns(SK_PASS));
  const attach = (place: Parameters<KernelInstance['attachToSockets']>[1]): Promise<unknown> => instance.attachToSockets(program, place);
  await expect(attach({ hook: 'skMsg', map: sockets })).rejects.toThrow('program sample.skSkb is of type skSkb, the hook is skMsg');
  await expect(attach({ hook: 'skSkb', map: counts })).rejects.toThrow('map sample/array is no map of sockets of the kernel engine');
  const events = await load('sockOps', returns(1));
  await expect(instance.attachToSockets(events, { hook: 'sockOps' })).rejects.toThrow('and the engine has no cgroup');
  await expect(attachToSockets(events, { hook: 'sockOps' }, '/nowhere')).rejects.toThrow('cgroup /nowhere cannot be opened');
  await expect(attachToSockets(events, { hook: 'sockOps' }, '/tmp')).rejects.toThrow(
    expect.objectContaining({ code: 'syscall', hint: expect.stringContaining('no cgroup2') }),
  );
  await expect(instance.attach(await instance.loadProgram(passProgram, new Map()), 'tcIngress')).rejects.toThrow('the hook is tcIngress');
});

function cgroup2(): string {
  const mount = readFileSync('/proc/self/mounts', 'utf8').match(/^\S+ (\S+) cgroup2 /m)?.[1];
  if (mount === undefined) throw new Error('no cgroup2 is mounted');
  return mount;
}
