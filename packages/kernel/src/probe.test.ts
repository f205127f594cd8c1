import { checkMapSpec, MapType, type TailraceError, UnsupportedError } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { type Check, found, look } from './check.ts';
import { SyscallError } from './errno.ts';
import { Capability } from './privilege.ts';
import { probeCapabilities, probeVersions } from './probe-machine.ts';
import { smallest } from './probe-map.ts';

const facts = { platform: 'linux', release: '6.1.0-18-amd64', node: '24.0.0', effective: 0n };
const search = { id: 'map.hash', title: 'hash', remedy: 'another kernel', takes: ['CAP_BPF', 'CAP_NET_ADMIN'] } as const;

function holding(...names: readonly Capability[]): bigint {
  return names.reduce((set, name) => set | (1n << BigInt(Capability[name])), 0n);
}

function states(checks: readonly Check[]): Readonly<Record<string, string>> {
  return Object.fromEntries(checks.map(({ id, state }) => [id, state]));
}

test.each([
  [{}, 'yes', 'yes'],
  [{ release: '5.15.0' }, 'no', 'yes'],
  [{ platform: 'darwin', release: '24.0.0' }, 'no', 'yes'],
  [{ node: '22.4.1' }, 'yes', 'no'],
])('versions of %j: kernel %s, Node %s', (changed, kernel, node) => {
  const checks = probeVersions({ ...facts, ...changed });
  expect(states(checks)).toEqual({ kernel, node });
  for (const { state, remedy } of checks) expect(remedy !== undefined).toBe(state === 'no');
});

test.each([
  [[], 'no', 'no', 'no', 'no'],
  [['CAP_BPF', 'CAP_NET_ADMIN', 'CAP_PERFMON'], 'yes', 'yes', 'yes', 'no'],
  [['CAP_SYS_ADMIN'], 'yes', 'no', 'yes', 'yes'],
] as const)('capabilities %j', (held, bpf, net, perfmon, sys) => {
  const checks = probeCapabilities({ ...facts, effective: holding(...held) });
  expect(states(checks)).toEqual({ 'cap.bpf': bpf, 'cap.net_admin': net, 'cap.perfmon': perfmon, 'cap.sys_admin': sys });
  expect(checks.map(({ needed }) => needed)).toEqual([true, true, true, false]);
});

test('the remedy for a missing capability names all that are needed', () => {
  const [bpf, , , sys] = probeCapabilities({ ...facts, effective: holding('CAP_NET_ADMIN') });
  expect(bpf?.remedy).toBe(`run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon=ep ${process.execPath}`);
  expect(sys?.remedy).toBe(`run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon,cap_sys_admin=ep ${process.execPath}`);
});

test.each<[string, TailraceError, bigint, Partial<Check>]>([
  ['no such thing', new SyscallError('bpf(BPF_MAP_CREATE)', 22), 0n, { state: 'no', remedy: 'another kernel' }],
  ['said by a probe itself', new UnsupportedError('it did not work'), 0n, { state: 'no', detail: 'it did not work' }],
  ['no privileges', new SyscallError('bpf(BPF_MAP_CREATE)', 1), 0n, { detail: 'cannot be told without CAP_BPF, CAP_NET_ADMIN' }],
  ['one is missing', new SyscallError('bpf(BPF_MAP_CREATE)', 1), holding('CAP_BPF'), { detail: 'cannot be told without CAP_NET_ADMIN' }],
  [
    'refused nevertheless',
    new SyscallError('bpf(BPF_MAP_CREATE)', 1),
    holding('CAP_BPF', 'CAP_NET_ADMIN'),
    { detail: 'the kernel refuses it to this process' },
  ],
  ['no memory', new SyscallError('bpf(BPF_MAP_CREATE)', 12), 0n, { state: 'unknown' }],
])('a failure: %s', async (_, error, effective, expected) => {
  const check = await look(search, effective, () => {
    throw error;
  });
  expect(check).toMatchObject({ state: 'unknown', needed: false, ...expected });
  expect(check.remedy !== undefined).toBe(check.state === 'no');
});

test('what is found has no remedy', async () => {
  expect(await look(search, 0n, () => 'of 8 bytes')).toEqual({
    id: 'map.hash',
    title: 'hash',
    state: 'yes',
    needed: false,
    detail: 'of 8 bytes',
  });
  expect(found({ ...search, needed: true }, 'yes')).toEqual({ id: 'map.hash', title: 'hash', state: 'yes', needed: true });
});

test('a mistake of the probe itself is no finding', async () => {
  const mistake = new TypeError('x is not a function');
  await expect(look(search, 0n, () => Promise.reject(mistake))).rejects.toBe(mistake);
});

test.each(Object.keys(MapType) as MapType[])('the probe for %s is a map that the kernel takes', (type) => {
  expect(() => checkMapSpec(smallest(type))).not.toThrow();
});
