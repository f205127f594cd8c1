/** `tailrace run --pcap` and `tailrace vm` as users run them: processes between pipes, without privileges. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { packet } from '@tailrace/testing';
import { CaptureWriter, readPackets } from 'tailrace';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';

// each test starts a process
vi.setConfig({ testTimeout: 60_000 });

const root = fileURLToPath(new URL('..', import.meta.url));
const example = 'examples/hooks/pipeline.ts';
const PACKETS = 20_000;
const HEADER_BYTES = 24;
let folder: string;
let capture: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tailrace-replay-'));
  capture = join(folder, 'in.pcap');
  await using writer = await CaptureWriter.open(capture);
  const frame = packet().ipv4().udp({ dport: 9 }).payload(new Uint8Array(300)).bytes();
  for (let index = 0; index < PACKETS; index++) await writer.write(frame, BigInt(index));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(...args: readonly string[]): ChildProcessWithoutNullStreams {
  const child = spawn(process.execPath, ['packages/tailrace/src/bin.ts', ...args], { cwd: root });
  // a command that ends early closes what we write to
  child.stdin.on('error', () => undefined);
  return child;
}

async function ended(child: ChildProcessWithoutNullStreams): Promise<number | null> {
  const [code] = await once(child, 'close');
  return code;
}

test.concurrent('a capture in and one out through pipes, the totals beside', async () => {
  const child = start('run', example, '--pcap', '-', '--out', '-');
  child.stdin.end(readFileSync(capture));
  const [out, err, code] = await Promise.all([buffer(child.stdout), text(child.stderr), ended(child)]);
  expect(code).toBe(0);
  expect(err).toMatch(/^hooks on the standard input: 20,000 packets in, 20,000 out\n/);
  expect(err).toMatch(/^TC ingress {2}account +20000 +6840000 {2}next 20000$/m);
  expect(await Array.fromAsync(readPackets(out), ({ timestampNs }) => timestampNs)).toEqual(
    Array.from({ length: PACKETS }, (_, index) => BigInt(index)),
  );
});

test.concurrent.each([
  ['--out', '-'],
  ['--json', '--quiet'],
])('a reader that goes away ends it quietly: %s %s', async (...more) => {
  const child = start('run', example, '--pcap', capture, ...more);
  const err = text(child.stderr);
  await once(child.stdout, 'data');
  child.stdout.destroy();
  expect([await ended(child), await err]).toEqual([0, '']);
});

test.concurrent('a signal ends a run that waits for packets: what was done is shown', async () => {
  const child = start('run', example, '--pcap', '-', '--json');
  const bytes = readFileSync(capture);
  // the header, one packet, and a part of the next
  child.stdin.write(bytes.subarray(0, HEADER_BYTES + 500));
  const err = text(child.stderr);
  const [line] = await once(child.stdout, 'data');
  expect(JSON.parse(String(line))).toMatchObject({ index: 0, verdict: 'pass', length: 342 });
  child.kill('SIGINT');
  expect(await ended(child)).toBe(130);
  expect(await err).toMatch(/^hooks on the standard input: 1 packets in, 1 out\n/);
});

test.concurrent('one raw program, as a plugin of the conformance suite', async () => {
  const child = start('vm', 'aa bb 11 cc dd');
  child.stdin.end('71 10 02 00 00 00 00 00 95 00 00 00 00 00 00 00\n');
  expect(await Promise.all([text(child.stdout), text(child.stderr), ended(child)])).toEqual(['11\n', '', 0]);
});
