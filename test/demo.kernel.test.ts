/** The demo as users run it: what it tells, how it ends, and that nothing is left behind however it does. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { within } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { gone, type HeldObjects, heldBy } from './kernel-objects.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const script = 'examples/l4lb/demo.ts';

/** A demo that runs. */
class Demo {
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown[]>;
  /** What it printed so far, on both streams. */
  output = '';
  errors = '';

  /** `args` are those in front of the script, `options` its own. */
  constructor(
    command: string = process.execPath,
    args: readonly string[] = [],
    options: readonly string[] = [],
    env: NodeJS.ProcessEnv = {},
  ) {
    this.#child = spawn(command, [...args, script, ...options], {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#exit = once(this.#child, 'exit');
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.output += chunk;
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.errors += chunk;
    });
  }

  /** What it holds in the kernel once it has printed `text`. */
  async heldAt(text: string): Promise<HeldObjects> {
    while (!this.output.includes(text)) await within(once(this.#child.stdout ?? this.#child, 'data'), 10_000, `'${text}' from the demo`);
    return heldBy(this.#child.pid ?? 0);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Its exit code, or the signal that ended it. */
  async end(): Promise<unknown> {
    const [code, signal] = await within(this.#exit, 20_000, 'the end of the demo', () => this.output + this.errors);
    return code ?? signal;
  }
}

test('it shows that nothing fails, exits with 0 and leaves nothing behind', async () => {
  const demo = new Demo();
  const held = await demo.heldAt('A stage is swapped under load');
  expect(await demo.end()).toBe(0);
  expect(demo.errors).toBe('');
  expect(demo.output).toMatch(/^\nThe kernel engine, since this process may load eBPF into Linux \d/);
  expect(demo.output).toContain('all reals are well');
  expect(demo.output).toContain('300 requests to http://10.9.9.9\n');
  expect(demo.output).toContain('no request failed\n');
  expect(demo.output).toMatch(/the health check took it out after \d+ ms\n/);
  expect(demo.output).toMatch(/real2 +0 {2}0\.0 %\n.*\n {2}no request failed\n/);
  expect(demo.output).toMatch(/5 swaps, (\d+) numbered datagrams, \1 answered: none was lost\n/);
  expect(demo.output).toContain('l4lb.encap = encapV6');
  // the second half: three hooks in one picture, and the flows that were seen there
  expect(demo.output).toMatch(/▼ XDP\n[^▼]*l4lb\.translate[^▼]*▼ TC ingress\n[^▼]*l4lb\.reply[^▼]*▼ TC egress\n[^▼]*l4lb\.restore/);
  expect(demo.output).toMatch(/100 flows of answers, as they leave:\n {4}10\.9\.9\.9:80 ─▶ 10\.0\.0\.2:\d+ {2}\d+ packets/);
  expect(demo.output.trimEnd()).toMatch(/All of it held\.$/);
  expect(held.programs.length).toBeGreaterThanOrEqual(8);
  expect(held.namespaces).toHaveLength(5);
  await gone(held);
}, 30_000);

test.each([
  ['while its network comes up', 'A network of five hosts', 'SIGINT', 130],
  ['half-way', 'real2 dies', 'SIGINT', 130],
  ['under load', 'A stage is swapped under load', 'SIGTERM', 143],
  ['at three hooks', 'Full NAT: one function at three hooks', 'SIGINT', 130],
  ['half-way, with no time to clean up', 'real2 dies', 'SIGKILL', 'SIGKILL'],
] as const)(
  'stopped %s it leaves nothing behind',
  async (_when, text, signal, code) => {
    const demo = new Demo();
    const held = await demo.heldAt(text);
    demo.kill(signal);
    expect(await demo.end()).toBe(code);
    if (signal !== 'SIGKILL') expect(demo.errors).toContain(`stopped by ${signal}`);
    expect(demo.output).not.toContain('All of it held');
    await gone(held);
  },
  30_000,
);

// It may read the sources wherever they are, and has no other privilege.
const nobody = [
  '--reuid=65534',
  '--regid=65534',
  '--clear-groups',
  '--inh-caps=-all,+dac_read_search',
  '--ambient-caps=-all,+dac_read_search',
];

const unprivileged = [
  ['another user than root', nobody],
  ['root without capabilities', ['--bounding-set=-all', '--inh-caps=-all']],
] as const;

test.each(unprivileged)('as %s it runs in userspace, says why, and exits with 0', async (_who, privileges) => {
  const demo = new Demo('setpriv', [...privileges, process.execPath]);
  expect(await demo.end()).toBe(0);
  expect(demo.errors).toBe('');
  expect(demo.output).toContain('The userspace engine, since the kernel engine lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN\n');
  expect(demo.output.trimEnd()).toMatch(/All of it held\.$/);
  const out = /tcpdump -nr (.*\/lb-out\.pcap)\n/.exec(demo.output)?.[1] ?? '';
  expect((await stat(out)).size).toBeGreaterThan(100_000);
  await rm(dirname(out), { recursive: true });
});

test.each(unprivileged)(
  'as %s it tells what the kernel engine wants, where it has to be that, and exits with 1',
  async (_who, privileges) => {
    const demo = new Demo('setpriv', [...privileges, process.execPath], ['--engine', 'kernel']);
    expect(await demo.end()).toBe(1);
    expect(demo.output).toBe('');
    expect(demo.errors.replace(process.execPath, 'NODE')).toMatchInlineSnapshot(`
    "demo: the kernel engine lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN
      run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon,cap_sys_admin=ep NODE
    "
  `);
  },
);

test('in userspace, stopped half-way, it leaves no file behind', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tailrace-demo-'));
  try {
    const demo = new Demo(process.execPath, [], ['--engine', 'userspace'], { TMPDIR: folder });
    const held = await demo.heldAt('Traffic from');
    expect(held.programs).toEqual([]);
    demo.kill('SIGINT');
    expect(await demo.end()).toBe(130);
    expect(demo.errors).toBe('demo: stopped by SIGINT\n');
    expect(await readdir(folder)).toEqual([]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
