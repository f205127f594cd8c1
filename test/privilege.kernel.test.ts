/** Capabilities: a process that lacks some is told exactly which, and one that has the least there is can run. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createNamespace } from '@tailrace/kernel';
import { expect, test } from 'vitest';
import type { Told } from './unprivileged-run.ts';

const script = fileURLToPath(new URL('unprivileged-run.ts', import.meta.url));

/** What the small pipeline comes to in a process of root's that has these capabilities and no other. */
async function runWith(capabilities: readonly string[], ...args: readonly string[]): Promise<Told> {
  const bounding = ['-all', ...capabilities.map((name) => `+${name}`)].join();
  const privileges = [`--bounding-set=${bounding}`, '--inh-caps=-all'];
  const { stdout } = await promisify(execFile)('setpriv', [...privileges, process.execPath, script, ...args]);
  return JSON.parse(stdout) as Told;
}

test.each([
  [[], ['CAP_BPF', 'CAP_NET_ADMIN', 'CAP_PERFMON']],
  [['bpf'], ['CAP_NET_ADMIN', 'CAP_PERFMON']],
  [['bpf', 'net_admin'], ['CAP_PERFMON']],
  [['bpf', 'perfmon'], ['CAP_NET_ADMIN']],
  [['net_admin', 'perfmon'], ['CAP_BPF']],
  [['sys_admin'], ['CAP_NET_ADMIN']],
])('with %j it lacks %j', async (capabilities, missing) => {
  const told = await runWith(capabilities);
  expect(told).toEqual({
    error: 'PrivilegeError',
    message: `the kernel engine lacks ${missing.join(', ')}`,
    hint: `run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon=ep ${process.execPath}`,
    missing,
  });
});

test('to enter another namespace takes one more', async () => {
  using namespace = createNamespace();
  const path = `/proc/${process.pid}/fd/${namespace.fd}`;
  expect(await runWith(['bpf', 'net_admin', 'perfmon'], path)).toMatchObject({
    missing: ['CAP_SYS_ADMIN'],
    message: 'the kernel engine lacks CAP_SYS_ADMIN',
    hint: `run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon,cap_sys_admin=ep ${process.execPath}`,
  });
});

test.each([[['bpf', 'net_admin', 'perfmon']], [['sys_admin', 'net_admin']]])('with %j a pipeline runs', async (capabilities) => {
  expect(await runWith(capabilities)).toEqual({ verdict: 'pass', packets: 1 });
});
