/** The `tailrace` command as users run it: a process of its own, on a veth with traffic, with and without privileges. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually, type Topology, topology } from '@tailrace/testing';
import { type KernelReport, kernel, pipeline, probeKernel, stage } from 'tailrace';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { gone, heldBy } from './kernel-objects.ts';
import { stopLeft } from './pipeline-objects.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const command = [process.execPath, 'packages/tailrace/src/bin.ts'] as const;
const example = 'examples/hooks/pipeline.ts';
const PORT = 4001;
const ISO = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/;

let network: Topology<'near' | 'far'>;

beforeEach(async () => {
  network = await topology({
    hosts: { near: {}, far: {} },
    links: [
      {
        ends: [
          { host: 'near', addresses: ['10.7.0.1/24'], xdp: true },
          { host: 'far', addresses: ['10.7.0.2/24'] },
        ],
      },
    ],
  });
  await network.hosts.near.udpEcho({ port: PORT });
});
afterEach(async () => {
  await stopLeft('hooks');
  await network.close();
});

/** One run of the command. */
class Run {
  readonly child: ChildProcess;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  out = '';
  err = '';

  constructor(line: readonly string[], environment: NodeJS.ProcessEnv = {}, input: 'ignore' | 'pipe' = 'ignore') {
    const [program = '', ...args] = line;
    this.child = spawn(program, args, { cwd: root, env: { ...process.env, ...environment }, stdio: [input, 'pipe', 'pipe'] });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.out += text;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.err += text;
    });
    this.exited = once(this.child, 'close').then(([code, signal]) => ({ code, signal }));
  }

  get lines(): readonly string[] {
    return this.out.split('\n').slice(0, -1);
  }

  /** Waits for its end; gives the exit code. */
  async code(): Promise<number | null> {
    return (await this.exited).code;
  }
}

/** `run` on the near end of the link. */
function runOn(options: readonly string[] = [], environment?: NodeJS.ProcessEnv): Run {
  return new Run([...command, ...runArguments(options)], environment);
}

function runArguments(options: readonly string[]): readonly string[] {
  return ['run', example, '--interface', 'far', '--netns', network.hosts.near.namespace.path, ...options];
}

/** Sends datagrams to the echo and waits for them to come back. */
async function echo(count: number): Promise<void> {
  await using socket = await network.hosts.far.udp();
  for (let i = 0; i < count; i++) await socket.send(new Uint8Array(100), '10.7.0.1', PORT);
  await eventually(() => socket.received === count, 5_000, `${count} echoes`);
}

/** What is on the interface, by hook. */
async function attached(): Promise<readonly string[]> {
  const { interfaces } = await probeKernel({ interfaces: ['far'], netns: network.hosts.near.namespace });
  return interfaces.flatMap(({ programs }) => programs.map(({ hook, by }) => `${hook} ${by}`));
}

/** Everything that a process has made is gone. */
async function nothingLeft(held: ReturnType<typeof heldBy>): Promise<void> {
  expect(held.programs.length).toBeGreaterThan(0);
  expect(await attached()).toEqual([]);
  await gone({ programs: held.programs, namespaces: [] });
}

interface Line {
  readonly time: string;
  readonly pipeline: string;
  readonly interfaces: readonly string[];
  readonly stats: Readonly<
    Record<'xdp' | 'tcIngress' | 'tcEgress', Readonly<Record<string, { readonly packets: string; readonly next: string }>>>
  >;
}

test.each([
  ['tcx', 'SIGINT', 130],
  ['clsact', 'SIGTERM', 143],
  ['clsact', 'SIGHUP', 129],
] as const)('run with %s: counters as JSON, and %s takes everything off', async (link, signal, code) => {
  const run = runOn(['--tc', link, '--json', '--interval', '100']);
  await eventually(() => run.lines.length > 0, 10_000, 'the first line');
  expect(await attached()).toEqual(['xdp native', `tcIngress ${link}`, `tcEgress ${link}`]);
  await echo(20);
  const lines = (): readonly Line[] => run.lines.map((line) => JSON.parse(line) as Line);
  await eventually(() => Number(lines().at(-1)?.stats.tcEgress.count?.packets) >= 20, 5_000, 'counters');
  const held = heldBy(run.child.pid ?? 0);
  run.child.kill(signal);
  expect(await run.code()).toBe(code);
  expect(run.err).toBe('');
  const last = lines().at(-1);
  expect(last).toMatchObject({ pipeline: 'hooks', interfaces: ['far'], stats: { roots: { xdp: { misses: '0' } } } });
  expect(Number(last?.stats.xdp.classify?.packets)).toBeGreaterThanOrEqual(20);
  expect(last?.stats.tcIngress.account?.packets).toBe(last?.stats.xdp.classify?.next);
  expect(Number.isNaN(Date.parse(last?.time ?? ''))).toBe(false);
  await nothingLeft(held);
});

test('run --persist leaves the pipeline, pins shows it, run again goes on, stop ends it', async () => {
  const first = runOn(['--persist', '--for', '1.5']);
  await eventually(() => first.lines.length > 0, 10_000, 'the first line');
  await echo(5);
  expect(await first.code()).toBe(0);
  expect(first.lines.at(-1)).toBe('hooks goes on without this process; to end it: tailrace stop hooks');
  expect(await attached()).toEqual(['xdp native', 'tcIngress tcx', 'tcEgress tcx']);
  await echo(5);

  const listed = new Run([...command, 'pins']);
  expect(await listed.code()).toBe(0);
  expect(listed.out).toMatch(
    /^hooks: no process has it, generation 1 for \d+ s, begun \d+ s ago\n {2}xdp on far\n {2}tcIngress on far\n {2}tcEgress on far\n/m,
  );
  expect(listed.out).toMatch(/^ {2}hooks\/tenants lruHash, [12] of 1024\n {2}hooks\/sent perCpuArray of 1$/m);
  const data = new Run([...command, 'pins', '--json']);
  expect(await data.code()).toBe(0);
  expect(JSON.parse(data.out)).toContainEqual(expect.objectContaining({ name: 'hooks', hooks: ['xdp', 'tcIngress', 'tcEgress'] }));
  const { age } = (JSON.parse(data.out) as { name: string; age: Record<string, unknown> }[]).find(({ name }) => name === 'hooks') ?? {};
  expect(age).toEqual({ began: expect.stringMatching(ISO), changed: expect.stringMatching(ISO), generation: 1 });

  const second = runOn(['--persist', '--json', '--interval', '100', '--drops', ...next, '--share', '50']);
  const counted = (): readonly Line[] => second.lines.map((line) => JSON.parse(line) as Line);
  await eventually(() => Number(counted().at(-1)?.stats.xdp.classify?.packets) >= 10, 10_000, 'counters of the first run');
  second.child.kill('SIGINT');
  expect(await second.code()).toBe(130);
  expect(JSON.parse(second.lines.at(-1) ?? '')).toMatchObject({ pipeline: 'hooks', left: true });

  const stopped = new Run([...command, 'stop', 'hooks']);
  expect(await stopped.code()).toBe(0);
  expect(stopped.out).toBe('removed hooks\n');
  expect(await attached()).toEqual([]);
});

test('run where it is no terminal: one line at the start, a table at the end', async () => {
  const run = runOn(['--for', '1.5']);
  await eventually(() => run.lines.length > 0, 10_000, 'the first line');
  await echo(5);
  expect(await run.code()).toBe(0);
  const [first, heading, ...rows] = run.lines;
  expect(first).toBe('hooks runs on far');
  expect(heading).toMatch(/^hook +stage +packets +bytes +ways$/);
  expect(rows.map((row) => row.split(/ {2,}/).slice(0, 2))).toEqual([
    ['XDP', 'classify'],
    ['TC ingress', 'account'],
    ['TC egress', 'count'],
  ]);
  expect(run.out).not.toContain('\u001b');
  expect(await attached()).toEqual([]);
});

test.each([false, true])('run tells of single packets, json: %s', async (json) => {
  const run = runOn(['--for', '2', '--trace', '1', '--drops', ...(json ? ['--json'] : [])]);
  await eventually(() => run.lines.length > 0, 10_000, 'the first line');
  await echo(3);
  await using socket = await network.hosts.far.udp();
  // smaller than any frame of a tenant
  await socket.send(new Uint8Array(1), '10.7.0.1', PORT);
  expect(await run.code()).toBe(0);
  if (json) {
    const told = run.lines.map(
      (line) => JSON.parse(line) as { trace?: { hook: string; verdict: string }; drop?: { stage: string; by: string } },
    );
    expect(new Set(told.flatMap(({ trace }) => trace?.hook ?? []))).toEqual(new Set(['xdp', 'tcIngress', 'tcEgress']));
    expect(told.flatMap(({ drop }) => (drop ? [[drop.stage, drop.by]] : []))).toEqual([['classify', 'exit']]);
    return;
  }
  const of = (pattern: RegExp): number => run.lines.filter((line) => pattern.test(line)).length;
  expect(of(/^trace {2}XDP {2}classify next ─▶ pass {2}142 B$/)).toBe(3);
  expect(of(/^trace {2}TC ingress {2}account next ─▶ pass {2}142 B$/)).toBe(3);
  expect(of(/^trace {2}TC egress {2}count next ─▶ pass {2}142 B$/)).toBe(3);
  expect(of(/^trace {2}XDP {2}classify runt ─▶ drop {2}43 B$/)).toBe(1);
  expect(of(/^drop {3}XDP {2}classify runt ─▶ drop {2}43 B$/)).toBe(1);
  expect(run.out).not.toContain('lost');
});

test.each([
  [{ TERM: 'xterm', NO_COLOR: '' }, true],
  [{ TERM: 'xterm', NO_COLOR: '1' }, false],
])('run on a terminal redraws its picture, with %o', async (environment, color) => {
  const line = [...command, ...runArguments(['--for', '1', '--interval', '200'])].map((word) => `'${word}'`).join(' ');
  const run = new Run(['script', '--quiet', '--return', '--command', `stty cols 100 rows 40; exec ${line}`, '/dev/null'], environment);
  expect(await run.code()).toBe(0);
  const pictures = run.out.split('▼ XDP').length - 1;
  expect(pictures).toBeGreaterThan(3);
  // drawn over: as many times up as there was a picture before
  expect(run.out.split('\u001b[J').length - 1).toBe(pictures - 1);
  expect(run.out.includes('\u001b[1m')).toBe(color);
  expect(run.out).toMatch(/▼ TC ingress.* {2}with length, tenant/);
});

const next = ['--canary', 'examples/hooks/stricter.ts'] as const;

test('run with a canary: both sides as JSON, promoted after its time', async () => {
  const run = runOn(['--json', '--interval', '100', ...next, '--share', '50', '--promote', '2']);
  await eventually(() => run.lines.length > 0, 10_000, 'the first line');
  for (let flow = 0; flow < 24; flow++) await echo(1);
  interface Told extends Line {
    readonly canary?: 'promoted' | Pick<Line, 'stats'>;
  }
  const lines = (): readonly Told[] => run.lines.map((line) => JSON.parse(line) as Told);
  const sides = ({ stats, canary }: Told): readonly number[] =>
    typeof canary === 'object' ? [stats, canary.stats].map(({ xdp }) => Number(xdp.classify?.packets)) : [];
  // 24 flows: on both sides but for one chance in millions
  await eventually(
    () => lines().some((line) => sides(line).every((packets) => packets > 0) && sides(line).length === 2),
    5_000,
    'two sides',
  );
  expect(lines()[0]).toMatchObject({ canary: { traffic: { share: 0.5 }, hooks: ['xdp'] } });
  await eventually(() => lines().some(({ canary }) => canary === 'promoted'), 5_000, 'its promotion');
  const before = Number(lines().findLast(({ stats }) => stats)?.stats.xdp.classify?.packets);
  await echo(3);
  await eventually(() => Number(lines().at(-1)?.stats?.xdp.classify?.packets) >= before + 3, 5_000, 'counters');
  expect(lines().at(-1)?.canary).toBeUndefined();
  run.child.kill('SIGINT');
  expect([await run.code(), run.err]).toEqual([130, '']);
  expect(await attached()).toEqual([]);
});

test('run with a canary where it is no terminal: a table of each side', async () => {
  const run = runOn(['--for', '1.5', ...next, '--share', '50']);
  await eventually(() => run.lines.length > 0, 10_000, 'the first line');
  expect(await run.code()).toBe(0);
  expect(run.lines.filter((line) => /^(hook |XDP|TC|canary)/.test(line)).map((line) => line.split(/ {2,}/)[0])).toEqual([
    'hook',
    'XDP',
    'TC ingress',
    'TC egress',
    'canary, 50% of all flows',
    'hook',
    'XDP',
  ]);
});

test('nobody is picked for a canary: it says how', async () => {
  const run = runOn(next);
  expect(await run.code()).toBe(1);
  expect(run.err).toBe(
    "tailrace: nothing says who goes through examples/hooks/stricter.ts first\nsay --share PERCENT, or export const canary = stage({ … ctx.exit('canary') …})\n",
  );
});

test('on a terminal keys promote a canary, switch drops on and end the run', async () => {
  const line = [...command, ...runArguments(['--interval', '200', ...next, '--share', '50'])].map((word) => `'${word}'`).join(' ');
  const run = new Run(['script', '--quiet', '--return', '--command', `stty cols 120 rows 60; exec ${line}`, '/dev/null'], {}, 'pipe');
  await eventually(() => run.out.includes('p promotes the canary'), 10_000, 'the keys');
  expect(run.out).toContain('├──▶ canary');
  run.child.stdin?.write('t');
  run.child.stdin?.write('p');
  await eventually(() => run.out.includes('examples/hooks/stricter.ts is promoted'), 5_000, 'its promotion');
  await eventually(() => run.out.includes('t traces · d drops'), 5_000, 'other keys');
  run.child.stdin?.write('d');
  await using socket = await network.hosts.far.udp();
  await eventually(
    async () => {
      // the new one drops what comes to a reserved port
      await socket.send(new Uint8Array(100), '10.7.0.1', 53);
      return run.out.includes("drop   XDP  classify drop 'reserved'");
    },
    5_000,
    'a drop',
  );
  run.child.stdin?.write('q');
  expect(await run.code()).toBe(130);
  expect(await attached()).toEqual([]);
});

test('two signals in a row end it as one does', async () => {
  const run = runOn(['--tc', 'clsact', '--json', '--interval', '100']);
  await eventually(() => run.lines.length > 0, 10_000, 'the first line');
  const held = heldBy(run.child.pid ?? 0);
  run.child.kill('SIGINT');
  run.child.kill('SIGTERM');
  const began = performance.now();
  expect([130, 143]).toContain(await run.code());
  expect(performance.now() - began).toBeLessThan(2_500);
  await nothingLeft(held);
});

test('a reader that goes away ends it cleanly', async () => {
  const run = runOn(['--tc', 'clsact', '--json', '--interval', '50']);
  await eventually(() => run.lines.length > 0, 10_000, 'the first line');
  const held = heldBy(run.child.pid ?? 0);
  run.child.stdout?.destroy();
  expect(await run.code()).toBe(0);
  expect(run.err).toBe('');
  await nothingLeft(held);
});

test('what is in the way is told in one line, and nothing is left', async () => {
  const other = stage({ name: 'other', hook: 'xdp', program: (ctx) => ctx.next() });
  await using _running = await pipeline('others', { xdp: [other] }).run(
    kernel({ interfaces: ['far'], netns: network.hosts.near.namespace }),
  );
  const run = runOn();
  expect(await run.code()).toBe(1);
  expect(run.err).toMatch(
    /^tailrace: interface far has another XDP program, native: others.root \(id \d+\)\nstop what attached it, or: .*\n$/,
  );
  expect(run.out).toBe('');
  expect(await attached()).toEqual(['xdp native']);
});

/** The command with some of root's capabilities. */
function withCapabilities(capabilities: readonly string[], ...args: readonly string[]): Run {
  const bounding = ['-all', ...capabilities.map((name) => `+${name}`)].join();
  return new Run(['setpriv', `--bounding-set=${bounding}`, '--inh-caps=-all', ...command, ...args]);
}

test('doctor with everything', async () => {
  const netns = network.hosts.near.namespace.path;
  const run = new Run([...command, 'doctor', '--interface', 'far', '--netns', netns]);
  expect([await run.code(), run.err]).toEqual([0, '']);
  expect(run.lines).toContain('  ✓ CAP_BPF');
  expect(run.lines).toContain('interface far, veth (index 11)');
  expect(run.lines.at(-1)).toBe('Pipelines can run here.');
});

test('doctor without privileges says what is missing, what cannot be told, and the remedy', async () => {
  const run = withCapabilities([], 'doctor');
  expect([await run.code(), run.err]).toEqual([1, '']);
  const remedy = `→ run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon=ep ${process.execPath}`;
  for (const name of ['CAP_BPF', 'CAP_NET_ADMIN', 'CAP_PERFMON'])
    expect(run.lines.find((line) => line.startsWith(`  ✗ ${name} `))).toContain(remedy);
  expect(run.out).toMatch(/^ {2}\? XDP programs +cannot be told without CAP_BPF, CAP_NET_ADMIN$/m);
  expect(run.lines.at(-1)).toBe('Pipelines cannot run here: CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON missing.');
});

test.each([
  [['bpf', 'net_admin', 'perfmon'], 0, {}],
  [['bpf', 'net_admin'], 1, { 'cap.perfmon': 'no' }],
  [['bpf'], 1, { 'cap.net_admin': 'no', 'cap.perfmon': 'no', xdp: 'unknown', 'xdp.frags': 'unknown', tc: 'unknown' }],
  [[], 1, { bpf: 'unknown', 'map.array': 'unknown' }],
])('doctor with %j', async (capabilities, code, expected) => {
  const run = withCapabilities(capabilities, 'doctor', '--json', '--interface', 'lo');
  expect(await run.code()).toBe(code);
  const report = JSON.parse(run.out) as KernelReport;
  const checks = [...report.machine, ...report.capabilities, ...report.hooks, ...report.maps];
  const lacking = checks.filter(({ needed, state }) => needed && state !== 'yes').map(({ id, state }) => [id, state] as const);
  expect(Object.fromEntries(lacking)).toMatchObject(expected);
  expect(lacking.length === 0).toBe(code === 0);
});

test('graph and build need no privileges', async () => {
  const graph = withCapabilities([], 'graph', example, '--svg', '-');
  expect([await graph.code(), graph.err]).toEqual([0, '']);
  // where it is drawn anew: tailrace graph examples/hooks/pipeline.ts --svg examples/hooks/pipeline.svg
  expect(graph.out).toBe(readFileSync(join(root, 'examples/hooks/pipeline.svg'), 'utf8'));
  const build = withCapabilities([], 'build', example, '--stage', 'account');
  expect([await build.code(), build.err]).toEqual([0, '']);
  expect(build.lines[0]).toMatch(/^TC ingress: account {2}\d+ instructions · \d+ bytes of stack · maps tenants$/);
  expect(build.out).toContain('known.packets += 1n; @ examples/hooks/pipeline.ts:');
  const run = withCapabilities([], ...runArguments([]));
  expect(await run.code()).toBe(1);
  expect(run.err).toMatch(/^tailrace: the kernel engine lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN\nrun as root/);
});
