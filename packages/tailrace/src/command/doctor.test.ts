import type { Check, KernelReport } from '@tailrace/kernel';
import { expect, test } from 'vitest';
import { drawReport } from './doctor.ts';
import { palette } from './output.ts';

const yes = (id: string, title: string, rest: Partial<Check> = {}): Check => ({ id, title, state: 'yes', needed: false, ...rest });
const report: KernelReport = {
  ready: false,
  machine: [
    yes('kernel', 'Linux 6.1.0', { needed: true }),
    yes('bpffs', 'BPF file system', { state: 'no', remedy: 'mount -t bpf bpf /sys/fs/bpf' }),
  ],
  capabilities: [yes('cap.bpf', 'CAP_BPF', { state: 'no', needed: true, remedy: 'run as root' })],
  hooks: [yes('xdp', 'XDP programs', { state: 'unknown', needed: true, detail: 'cannot be told without CAP_BPF' })],
  maps: [yes('map.hash', 'hash')],
  interfaces: [
    {
      name: 'eth0',
      index: 4,
      kind: 'veth',
      mtu: 1500,
      up: true,
      checks: [yes('ethernet', 'Ethernet')],
      offloads: { tso: true, gro: false },
      programs: [
        { hook: 'xdp', by: 'native', programId: 7, name: 'filter' },
        { hook: 'tcEgress', by: 'clsact u32', programId: 0, name: '' },
      ],
    },
  ],
};

test('a line each, with the reason and the remedy', () => {
  expect(drawReport(report, palette(false))).toMatchInlineSnapshot(`
    "machine
      ✓ Linux 6.1.0
      ✗ BPF file system  → mount -t bpf bpf /sys/fs/bpf

    capabilities
      ✗ CAP_BPF          → run as root

    programs
      ? XDP programs     cannot be told without CAP_BPF

    maps
      ✓ hash

    interface eth0, veth (index 4)
      ✓ Ethernet
        offloads on   tso
        offloads off  gro
        program       xdp, native: filter (id 7)
        program       tcEgress, clsact u32: no name (id 0)

    Pipelines cannot run here: CAP_BPF missing."
  `);
});

test('the last line tells what counts', () => {
  const last = (changed: Partial<KernelReport>): string | undefined =>
    drawReport({ ...report, ...changed }, palette(false))
      .split('\n')
      .at(-1);
  expect(last({})).toBe('Pipelines cannot run here: CAP_BPF missing.');
  expect(last({ capabilities: [] })).toBe('Whether pipelines can run here cannot be told: XDP programs.');
  expect(last({ capabilities: [], hooks: [] })).toBe('Pipelines can run here.');
});

test('what is needed and missing is red, what is only missing yellow', () => {
  const colored = drawReport(report, palette(true));
  expect(colored).toContain('\u001b[31m✗\u001b[0m CAP_BPF');
  expect(colored).toContain('\u001b[33m✗\u001b[0m BPF file system');
});
