/** Pipelines and interfaces of one host: several of each, wrong ones, and ones that somebody else has taken. */
import { insn, type ProgramSpec } from '@tailrace/bpf';
import { eventually, topology } from '@tailrace/testing';
import { InterfaceConflictError, kernel, pipeline, stage } from 'tailrace';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { gone, type HeldObjects, heldBy, openFds } from './kernel-objects.ts';

const makeNetwork = () =>
  topology({
    hosts: { lb: {}, left: {}, right: {} },
    links: [
      {
        ends: [
          { host: 'left', interface: 'lb', addresses: ['10.0.1.2/24'] },
          { host: 'lb', interface: 'left', addresses: ['10.0.1.1/24'], xdp: true },
        ],
      },
      {
        ends: [
          { host: 'right', interface: 'lb', addresses: ['10.0.2.2/24'] },
          { host: 'lb', interface: 'right', addresses: ['10.0.2.1/24'], xdp: true },
        ],
      },
    ],
  });
let network: Awaited<ReturnType<typeof makeNetwork>>;
let before: { readonly fds: number; readonly held: HeldObjects };
/** Programs that tests met, to be gone after each. */
const met = new Set<number>();

beforeAll(async () => {
  network = await makeNetwork();
  await network.hosts.lb.http({ port: 80 });
});
afterAll(() => network.close());
beforeEach(() => {
  before = { fds: openFds(), held: heldBy('self') };
});
afterEach(async () => {
  await eventually(() => openFds() === before.fds, 2_000, `${before.fds} open files again`);
  expect(heldBy('self')).toEqual(before.held);
  await gone({ programs: [...met].filter((id) => !before.held.programs.includes(id)), namespaces: [] });
  for (const name of ['left', 'right']) expect(network.hosts.lb.route.interface(name).xdp).toEqual([]);
  met.clear();
});

const engine = (...interfaces: readonly string[]) => kernel({ interfaces, netns: network.hosts.lb.namespace });
const remember = (): void => {
  for (const id of heldBy('self').programs) met.add(id);
};
/** Returns XDP_PASS (2). */
const somebody: ProgramSpec = {
  name: 'somebody',
  type: 'xdp',
  frags: true,
  license: 'GPL',
  instructions: [insn.mov(0, 2), insn.exit()],
  mapReferences: [],
  functions: [],
  lines: [],
};
const ip = stage({ name: 'ip', hook: 'xdp', program: (ctx) => (ctx.ipv4() ? ctx.exit('ipv4') : ctx.next()) });
const counting = (name: 'one' | 'two') => pipeline(name, { xdp: [ip.on({ ipv4: 'pass' })] });
const knock = async (from: 'left' | 'right'): Promise<void> => {
  const { name } = await network.hosts[from].request(`http://10.0.${from === 'left' ? 1 : 2}.1/`);
  expect(name).toBe('lb');
};

test('two pipelines on two interfaces keep to themselves', async () => {
  await using one = await counting('one').run(engine('left'));
  await using two = await counting('two').run(engine('right'));
  remember();
  expect([one.interfaces, two.interfaces]).toEqual([['left'], ['right']]);
  const seen = () => [one, two].map((running) => running.stats().xdp.ip.exits.ipv4 ?? 0n);
  await knock('left');
  const [left = 0n, right] = seen();
  expect(left).toBeGreaterThanOrEqual(5n);
  expect(right).toBe(0n);
  await knock('right');
  expect(seen()[1]).toBeGreaterThanOrEqual(5n);
  await one.stop();
  expect(network.hosts.lb.route.interface('left').xdp).toEqual([]);
  const stopped = two.stats().xdp.ip.packets;
  await knock('left');
  await knock('right');
  expect(two.stats().xdp.ip.packets).toBeGreaterThan(stopped);
  expect(() => one.stats()).toThrow("pipeline 'one' was stopped");
});

test('one pipeline on several interfaces is one: its counters are of all', async () => {
  await using running = await counting('one').run(engine('left', 'right'));
  remember();
  expect(running.interfaces).toEqual(['left', 'right']);
  const programs = ['left', 'right'].map((name) => network.hosts.lb.route.interface(name).xdp.map(({ programId }) => programId));
  expect(programs[0]).toHaveLength(1);
  expect(programs[0]).toEqual(programs[1]);
  await knock('left');
  const afterLeft = running.stats().xdp.ip.exits.ipv4 ?? 0n;
  await knock('right');
  expect(afterLeft).toBeGreaterThanOrEqual(5n);
  expect(running.stats().xdp.ip.exits.ipv4).toBeGreaterThanOrEqual(afterLeft + 5n);
});

test('a program of somebody else is named and stays, and the other interfaces are left alone', async () => {
  await using foreign = await engine('right').open();
  const program = await foreign.loadProgram(somebody, new Map());
  await foreign.attach(program, 'xdp');
  remember();
  const refusal = counting('one').run(engine('left', 'right'));
  await expect(refusal).rejects.toBeInstanceOf(InterfaceConflictError);
  await expect(refusal).rejects.toMatchObject({
    code: 'conflict',
    interface: 'right',
    program: 'somebody',
    programId: program.id,
    message: `interface right has another XDP program, native: somebody (id ${program.id})`,
    hint: expect.stringContaining('ip link set dev right xdp off'),
  });
  const { lb } = network.hosts;
  expect(lb.route.interface('right').xdp).toMatchObject([{ programId: program.id, mode: 'native' }]);
  expect(lb.route.interface('left').xdp).toEqual([]);
  await knock('right');
  // Two pipelines of ours are no better than strangers.
  await using _two = await counting('two').run(engine('left'));
  remember();
  await expect(counting('one').run(engine('left'))).rejects.toMatchObject({ code: 'conflict', interface: 'left', program: 'two.root' });
});

test('a wrong interface, one listed twice and a wrong namespace are told before anything is loaded', async () => {
  const { namespace } = network.hosts.lb;
  const told = async (interfaces: readonly string[], netns: typeof namespace | string = namespace): Promise<string[]> => {
    try {
      await counting('one').run(kernel({ interfaces, netns }));
    } catch (error) {
      remember();
      return error instanceof Error ? [`${error.name}: ${error.message}`, ...('hint' in error ? [String(error.hint)] : [])] : [];
    }
    return ['nothing'];
  };
  expect([
    await told(['left', 'eth7']),
    await told(['left', 'left']),
    await told(['left'], '/run/no/such/namespace'),
  ]).toMatchInlineSnapshot(`
    [
      [
        "ArgumentError: there is no interface eth7",
        "interfaces here: lo, left, right",
      ],
      [
        "ArgumentError: interface left is listed twice",
        "undefined",
      ],
      [
        "ArgumentError: there is no network namespace /run/no/such/namespace",
        "give the path of one (/proc/PID/ns/net), a name from \`ip netns list\`, or an fd",
      ],
    ]
  `);
  expect(heldBy('self').programs).toEqual(before.held.programs);
});
