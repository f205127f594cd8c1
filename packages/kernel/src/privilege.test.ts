import { TailraceError, UnsupportedError } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { bpffsMounted, Capability, PrivilegeError, possibleCpus, requireBpffs, requireCapabilities, requireKernel } from './privilege.ts';

function thrown(body: () => void): TailraceError | undefined {
  try {
    body();
    return undefined;
  } catch (error) {
    if (error instanceof TailraceError) return error;
    throw error;
  }
}

function holding(...names: readonly Capability[]): bigint {
  return names.reduce((set, name) => set | (1n << BigInt(Capability[name])), 0n);
}

test.each([
  ['nothing', false, [], ['CAP_BPF', 'CAP_NET_ADMIN', 'CAP_PERFMON']],
  ['CAP_BPF alone', false, ['CAP_BPF'], ['CAP_NET_ADMIN', 'CAP_PERFMON']],
  ['CAP_SYS_ADMIN for two of them', false, ['CAP_SYS_ADMIN'], ['CAP_NET_ADMIN']],
  ['a namespace to enter', true, ['CAP_BPF', 'CAP_NET_ADMIN', 'CAP_PERFMON'], ['CAP_SYS_ADMIN']],
  ['all three', false, ['CAP_BPF', 'CAP_NET_ADMIN', 'CAP_PERFMON'], undefined],
  ['root', true, ['CAP_SYS_ADMIN', 'CAP_NET_ADMIN'], undefined],
] as const)('%s', (_, entersNamespace, held, missing) => {
  const error = thrown(() => requireCapabilities(entersNamespace, holding(...held)));
  expect(error instanceof PrivilegeError ? error.missing : error).toEqual(missing);
});

test('the error names what is missing and the remedy', () => {
  const error = thrown(() => requireCapabilities(false, holding('CAP_BPF')));
  expect(error?.code).toBe('privilege');
  expect(error?.message).toMatchInlineSnapshot(`"the kernel engine lacks CAP_NET_ADMIN, CAP_PERFMON"`);
  expect(error?.hint).toBe(`run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon=ep ${process.execPath}`);
});

test.each([
  ['linux', '6.1.0-18-amd64', undefined],
  ['linux', '7.0.0', undefined],
  ['linux', '6.0.19', 'the kernel engine needs Linux 6.1 or later, this is 6.0.19'],
  ['linux', '5.15.0', 'the kernel engine needs Linux 6.1 or later, this is 5.15.0'],
  ['darwin', '24.0.0', 'the kernel engine needs Linux, this is darwin'],
])('%s %s', (platform, version, message) => {
  const error = thrown(() => requireKernel(platform, version));
  expect(error?.message).toBe(message);
  expect(error === undefined || error instanceof UnsupportedError).toBe(true);
});

test.each([
  ['0', 1],
  ['0-1\n', 2],
  ['0-3,8,10-11', 7],
])('possible CPUs of %j', (list, count) => {
  expect(possibleCpus(list)).toBe(count);
});

test('a folder that is no bpffs is refused with the remedy', () => {
  expect(bpffsMounted('/proc')).toBe(false);
  expect(bpffsMounted('/no/such/folder')).toBe(false);
  const error = thrown(() => requireBpffs('/proc'));
  expect(error?.message).toMatchInlineSnapshot(`"no BPF file system is mounted at /proc, which pins need"`);
  expect(error?.hint).toBe('mount -t bpf bpf /proc');
});
