/** The demo as users without privileges run it: what it tells, the capture that it leaves, how it ends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readPackets } from '@tailrace/userspace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TRAFFIC } from './capture-balancer.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-demo-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function run(...args: readonly string[]) {
  const child = spawn(process.execPath, ['examples/l4lb/demo.ts', ...args], { cwd: root });
  const told = { output: '', errors: '' };
  child.stdout?.on('data', (chunk: Buffer) => {
    told.output += chunk;
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    told.errors += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, ...told };
}

const numberIn = (text: string | undefined): number => Number(text?.replaceAll(',', ''));

test('it shows that all adds up, and writes what left', async () => {
  const out = join(folder, 'out.pcap');
  const { code, output, errors } = await run('--engine', 'userspace', '--out', out);
  expect(errors).toBe('');
  expect(code).toBe(0);
  expect(output).toMatch(/^\nThe userspace engine, as --engine says\n\nTraffic from examples\/l4lb\/traffic\.pcap\n/);
  const [packets, left] = [await Array.fromAsync(readPackets(TRAFFIC)), await Array.fromAsync(readPackets(out))];
  const counts = /([\d,]+) packets, ([\d,]+) verdicts\n((?: {2}\w+ +█* +\d+ {2}[\d.]+ %\n)+) {2}([\d,]+) packets left/.exec(output);
  expect([counts?.[1], counts?.[2]].map(numberIn)).toEqual([packets.length, packets.length]);
  const verdicts = [...(counts?.[3] ?? '').matchAll(/(\w+) +█* +(\d+)/g)].map(([, name, count]) => [name, Number(count)] as const);
  expect(verdicts.reduce((sum, [, count]) => sum + count, 0)).toBe(packets.length);
  const of = Object.fromEntries(verdicts);
  expect(numberIn(counts?.[4])).toBe(left.length);
  expect(left.length).toBe(of.tx + of.redirect);
  expect(output).toMatch(/real2 dies\n {2}packets 4\d\d to 9\d\d: [1-9]\d* flows left it and were picked anew\n/);
  expect(output.match(/real2 +0 {2}0\.0 %\n/g)).toHaveLength(2);
  expect(output.match(/no flow left a real that is well\n/g)).toHaveLength(3);
  expect(output).toMatch(/5 swaps, (\d+) packets in, \1 out: none was lost\n/);
  expect(output).toMatch(/▼ XDP\n[^▼]*l4lb\.vip[^▼]*l4lb\.encap = encapV6/);
  expect(output.trimEnd()).toMatch(/All of it held\.$/);
}, 30_000);

test.each([
  [
    ['--engine', 'cloud'],
    2,
    "demo: --engine is 'cloud', expected kernel or userspace\n  usage: demo [--engine kernel|userspace] [--out FILE]\n",
  ],
  [['--out', '/dev/null/out.pcap'], 1, 'demo: cannot create capture /dev/null/out.pcap: ENOTDIR: not a directory'],
] as const)(
  '%j ends with %i',
  async (args, code, message) => {
    const told = await run(...args);
    expect(told.code).toBe(code);
    expect(told.errors).toContain(message);
    expect(told.output).not.toContain('All of it held');
  },
  30_000,
);
