/** Captures by test runs of the kernel, and objects on an interface. What both engines do is held to be the same. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createNamespace, type NetworkNamespace, probeKernel } from '@tailrace/kernel';
import { eventually } from '@tailrace/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { main } from './main.ts';
import { called, frames, packetsIn, sampleObject, Written, writeCapture } from './main-fixture.ts';

const file = fileURLToPath(new URL('fixture.ts', import.meta.url));
const crossing = fileURLToPath(new URL('../../../../examples/hooks/pipeline.ts', import.meta.url));
let folder: string;
let object: string;
let pcap: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tailrace-replay-'));
  object = join(folder, 'sample.o');
  writeFileSync(object, sampleObject());
  pcap = await writeCapture(join(folder, 'in.pcap'), [...frames(0, 60, 90), new Uint8Array(5), ...frames(200)]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test.each([
  ['a pipeline', undefined],
  ['a program of an object that tail-calls', 'gate'],
  ['a program of TC', 'either'],
  ['a socket filter', 'keep'],
])('%s comes to the same in both engines', async (_, section) => {
  const subject = section === undefined ? [file] : [object, '--section', section];
  const results = ['kernel', 'userspace'].map(async (engine) => {
    const out = join(folder, `${engine}.pcap`);
    const { code, out: lines, err } = await called('run', ...subject, '--pcap', pcap, '--engine', engine, '--out', out, '--json');
    expect([code, err]).toEqual([0, expect.stringContaining(': 5 packets in, ')]);
    expect(err.includes('by test runs in the kernel, attached to nothing: ')).toBe(engine === 'kernel');
    const table = err.slice(err.indexOf('hook'));
    return { lines, table, left: await packetsIn(out) };
  });
  const [kernel, userspace] = await Promise.all(results);
  expect(kernel).toEqual(userspace);
  expect(kernel?.lines.split('\n')).toHaveLength(6);
});

test('metadata from XDP do not reach TC ingress, which is said', async () => {
  const { code, out, err } = await called('run', crossing, '--pcap', pcap, '--engine', 'kernel');
  expect(code).toBe(0);
  expect(err).toMatch(/^tailrace: test runs carry no metadata from XDP to TC ingress: [\w, ]+ are 0 there\n$/);
  expect(out).toMatch(/^TC ingress {2}account +3 /m);
  expect((await called('run', crossing, '--pcap', pcap, '--engine', 'kernel', '--quiet')).err).toBe('');
});

async function attachedIn(netns: NetworkNamespace): Promise<readonly string[]> {
  const { interfaces } = await probeKernel({ interfaces: ['lo'], netns });
  return interfaces.flatMap(({ programs }) => programs.map(({ hook, by }) => `${hook} ${by}`));
}

test.each([
  [['gate'], 'xdp', 'xdp generic', 'xdp (gate)'],
  [['either', '--direction', 'egress'], 'tcEgress', 'tcEgress tcx', 'tc (either)'],
])('an object on an interface: %j', async (more, hook, expected, title) => {
  using netns = createNamespace();
  const where = ['--interface', 'lo', '--netns', netns.path, '--for', '1', '--section', ...more];
  const output = new Written();
  const running = main(['run', object, ...where], { output, errors: output });
  await eventually(() => output.text !== '', 5_000, 'the first line');
  expect(await attachedIn(netns)).toEqual([expected]);
  expect(await running).toBe(0);
  expect(output.text).toBe(`${title} of sample.o runs on lo\n`);
  expect(await attachedIn(netns)).toEqual([]);
  const { out } = await called('run', object, ...where, '--for', '0.01', '--json');
  expect(JSON.parse(out)).toMatchObject({ program: more[0], hook, interfaces: ['lo'], time: expect.stringMatching(/^\d{4}-/) });
});

test.each([
  [['either'], 'tc (either) of sample.o may be for either way\nsay which: --direction ingress or --direction egress'],
  [['gate', '--direction', 'egress'], 'xdp (gate) of sample.o is not for egress\nits section says where it goes: leave --direction out'],
  [['keep'], 'socket (keep) of sample.o is a socket filter, which no interface takes\nrun it over a capture: --pcap FILE'],
])('objects that cannot be attached: %j', async (more, message) => {
  using netns = createNamespace();
  const result = await called('run', object, '--interface', 'lo', '--netns', netns.path, '--section', ...more);
  expect(result).toEqual({ code: 1, out: '', err: `tailrace: ${message}\n` });
});
