import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type KernelInstance, kernel } from './engine.ts';
import { dropProgram, openFds, passProgram, programSpec, xdpIds } from './fixture.ts';
import { allocate } from './memory.ts';
import { createNamespace, inNamespace, type NetworkNamespace } from './netns.ts';
import { Rtnetlink } from './rtnetlink.ts';
import { syscall } from './syscall.ts';

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

function open(interfaces: readonly string[], mode?: 'native' | 'generic'): Promise<KernelInstance> {
  return kernel({ interfaces, netns: namespace, ...(mode ? { mode } : {}) }).open();
}

const attached = (name: string) => route.interface(name).xdp.map(({ mode }) => mode);

test('a program is attached everywhere, native where the driver can', async () => {
  const before = openFds();
  {
    await using engine = await open(['one', 'lo']);
    const program = await engine.loadProgram(passProgram, new Map());
    const attachment = await engine.attach(program, 'xdp');
    expect(attachment.interfaces).toEqual(['one', 'lo']);
    expect([...attachment.modes]).toEqual([
      ['one', 'native'],
      ['lo', 'generic'],
    ]);
    expect(xdpIds(route.interface('one'))).toEqual([program.id]);
    expect([attached('one'), attached('lo')]).toEqual([['native'], ['generic']]);
    await attachment.detach();
    await attachment.detach();
    expect([attached('one'), attached('lo')]).toEqual([[], []]);
    await engine.attach(program, 'xdp');
  }
  // Closing the engine detached.
  expect([attached('one'), attached('lo')]).toEqual([[], []]);
  expect(openFds()).toBe(before);
});

test.each([
  [['one'], undefined, true],
  [['one'], 'generic', false],
  [['lo'], undefined, false],
  [['one', 'lo'], undefined, false],
] as const)('on %j, mode %s, programs take packets in fragments: %s', async (interfaces, mode, frags) => {
  await using engine = await open(interfaces, mode);
  expect((await engine.loadProgram(passProgram, new Map())).spec).toEqual({ ...passProgram, frags });
});

test('generic where that is asked for, and native or nothing', async () => {
  await using generic = await open(['one'], 'generic');
  await generic.attach(await generic.loadProgram(passProgram, new Map()), 'xdp');
  expect(attached('one')).toEqual(['generic']);
  await using native = await open(['lo'], 'native');
  await expect(native.attach(await native.loadProgram(passProgram, new Map()), 'xdp')).rejects.toMatchObject({
    code: 'unsupported',
    message: 'the driver of interface lo has no native XDP',
    hint: "use mode 'auto' or 'generic'",
  });
});

test.each(['native', 'generic'] as const)('another program (%s) is named and stays, and nothing else is attached', async (mode) => {
  await using other = await open(['two'], mode);
  const theirs = await other.loadProgram(dropProgram, new Map());
  await other.attach(theirs, 'xdp');
  await using engine = await open(['one', 'two']);
  const program = await engine.loadProgram(passProgram, new Map());
  const before = openFds();
  await expect(engine.attach(program, 'xdp')).rejects.toMatchObject({
    code: 'conflict',
    interface: 'two',
    program: 'sample.drop',
    programId: theirs.id,
    message: `interface two has another XDP program, ${mode}: sample.drop (id ${theirs.id})`,
  });
  expect(openFds()).toBe(before);
  expect(attached('one')).toEqual([]);
  expect(xdpIds(route.interface('two'))).toEqual([theirs.id]);
});

test("libxdp's dispatcher is recognised, and stays with what is behind it", async () => {
  await using other = await open(['two']);
  const theirs = await other.loadProgram(programSpec('xdp_dispatcher', passProgram.instructions), new Map());
  await other.attach(theirs, 'xdp');
  await using engine = await open(['two']);
  const program = await engine.loadProgram(passProgram, new Map());
  await expect(engine.attach(program, 'xdp')).rejects.toMatchObject({
    message: `interface two has another XDP program, native: xdp_dispatcher (id ${theirs.id})`,
    hint: "that is libxdp's, with programs of other tools behind it: see xdp-loader status, and xdp-loader unload two",
  });
  expect(xdpIds(route.interface('two'))).toEqual([theirs.id]);
});

test('interfaces that are not there, or carry no Ethernet, or are listed twice', async () => {
  const before = openFds();
  await expect(open(['one', 'nope'])).rejects.toMatchObject({
    code: 'argument',
    message: 'there is no interface nope',
    hint: 'interfaces here: lo, two, one',
  });
  expect(() => kernel({ interfaces: ['one', 'two', 'one'] })).toThrow('interface one is listed twice');
  await expect(kernel({ interfaces: [], netns: 'no-such-name' }).open()).rejects.toThrow('there is no network namespace no-such-name');
  expect(openFds()).toBe(before);
});

test('an interface without Ethernet headers is refused by name', async () => {
  // TUNSETIFF with IFF_TUN | IFF_NO_PI makes a point-to-point device, in the namespace where the file was
  // opened and for as long as it is open.
  const tun = inNamespace(namespace, () => openSync('/dev/net/tun', 'r+'));
  try {
    const request = allocate(40);
    request.bytes.set(new TextEncoder().encode('tun7'));
    request.view.setUint16(16, 0x1001, true);
    syscall('ioctl', 'tun7', tun, 0x400454ca, request.address);
    await expect(open(['one', 'tun7'])).rejects.toMatchObject({
      code: 'argument',
      message: 'interface tun7 carries no Ethernet headers (hardware type 65534)',
    });
  } finally {
    closeSync(tun);
  }
});

test('an interface that goes away after opening', async () => {
  route.createVeth({ name: 'brief' }, { name: 'other' });
  await using engine = await open(['brief']);
  const program = await engine.loadProgram(passProgram, new Map());
  const attachment = await engine.attach(program, 'xdp');
  route.delete('brief');
  await attachment.detach();
  await expect(engine.attach(program, 'xdp')).rejects.toThrow('there is no interface brief');
});

test('an MTU over a page without frags: the hint says what to do', async () => {
  route.createVeth({ name: 'jumbo', mtu: 9000 }, { name: 'other', mtu: 9000 });
  await using engine = await open(['jumbo']);
  const program = await engine.loadProgram({ ...passProgram, frags: false }, new Map());
  await expect(engine.attach(program, 'xdp')).rejects.toMatchObject({
    errnoName: 'ERANGE',
    hint: 'its MTU of 9000 does not fit one page: load programs with frags, or lower the MTU',
  });
  route.delete('jumbo');
});

test('programs of another kind or engine are refused', async () => {
  await using engine = await open([]);
  const filter = programSpec('sample.filter', passProgram.instructions, { type: 'socketFilter', frags: false });
  const program = await engine.loadProgram(filter, new Map());
  await expect(engine.attach(program, 'xdp')).rejects.toThrow('program sample.filter is of type socketFilter, the hook is xdp');
});

test('a process inside the namespace attaches on the pool, and its end detaches', async () => {
  const source = `
    import { kernel } from ${JSON.stringify(new URL('./engine.ts', import.meta.url).href)};
    const engine = await kernel({ interfaces: ['one', 'two'] }).open();
    const program = await engine.loadProgram(${JSON.stringify(passProgram)}, new Map());
    await engine.attach(program, 'xdp');
    console.log(program.id);
    process.stdin.resume();
  `;
  const child = inNamespace(namespace, () =>
    spawn(process.execPath, ['--input-type=module', '--eval', source], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  const [line] = await once(child.stdout, 'data');
  expect(xdpIds(route.interface('one'))).toEqual([Number(line)]);
  expect(xdpIds(route.interface('two'))).toEqual([Number(line)]);
  const rest = text(child.stdout);
  child.kill('SIGKILL');
  await once(child, 'exit');
  await rest;
  await expect.poll(() => [attached('one'), attached('two')]).toEqual([[], []]);
});
