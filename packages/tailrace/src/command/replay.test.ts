import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { insn, writeElf } from '@tailrace/bpf';
import { packet } from '@tailrace/testing';
import { CaptureWriter } from '@tailrace/userspace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from './main.ts';
import {
  type Called,
  called,
  calledWith,
  frames,
  packetsIn,
  programOf,
  sampleObject,
  timeOf,
  Written,
  writeCapture,
} from './main-fixture.ts';

const file = fileURLToPath(new URL('fixture.ts', import.meta.url));
let folder: string;
let object: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tailrace-replay-'));
  object = join(folder, 'sample.o');
  writeFileSync(object, sampleObject());
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Output without what differs from run to run. */
function plain({ out, err, code }: Called): Called {
  const steady = (text: string) => text.replaceAll(`${folder}/`, '').replace(/time .*$/gm, 'time      …');
  return { code, out: steady(out), err: steady(err) };
}

const capture = (name: string, packets: readonly Uint8Array[]) => writeCapture(join(folder, name), packets);

test('totals and the table of stages', async () => {
  const pcap = await capture('plain.pcap', [...frames(0, 20, 60, 100), new Uint8Array(13), ...frames(200)]);
  expect(plain(await called('run', file, '--pcap', pcap))).toMatchInlineSnapshot(`
    {
      "code": 0,
      "err": "",
      "out": "pair on plain.pcap: 6 packets in, 3 out
      refused   1 shorter than an Ethernet header
      verdicts  drop 2, pass 3
      bytes     590 in, 486 out
      time      …

    hook  stage   packets  bytes  ways
    XDP   first         5    590  next 3, short 2
    XDP   second        3    486  next 3
    XDP   last          2    104  drop 2
    ",
    }
  `);
});

test('packets that the capture cut, and those that are no Ethernet frames', async () => {
  const pcap = join(folder, 'cut.pcap');
  const writer = await CaptureWriter.open(pcap, { snapLength: 110 });
  for (const bytes of frames(20, 300)) await writer.write(bytes, 0n);
  await writer.close();
  expect(plain(await called('run', file, '--pcap', pcap)).out).toContain('  cut       1 by the capture, and run as they are\n');
  const out = join(folder, 'cut-out.pcap');
  expect((await called('run', file, '--pcap', pcap, '--out', out)).code).toBe(0);
  // what is missing is still missing
  expect(await packetsIn(out)).toEqual([{ bytes: 110, time: 0n, onWire: 342 }]);
  const raw = Buffer.from(readFileSync(pcap));
  raw.writeUInt32LE(101, 20);
  writeFileSync(pcap, raw);
  expect(plain(await called('run', file, '--pcap', pcap)).out).toContain('  refused   2 without an EtherType\n');
});

test('an empty capture', async () => {
  const [pcap, out] = [await capture('empty.pcap', []), join(folder, 'empty-out.pcap')];
  expect(plain(await called('run', file, '--pcap', pcap, '--out', out)).out).toMatch(
    /^pair on empty\.pcap: 0 packets in, 0 out\n {2}bytes {5}0 in, 0 out\n/,
  );
  expect(await packetsIn(out)).toEqual([]);
});

describe.each(['userspace', 'interpreter'])('%s', (engine) => {
  test('a line of JSON for each packet, totals beside', async () => {
    const pcap = await capture('json.pcap', [...frames(10, 80), new Uint8Array(3), ...frames(90)]);
    const { code, out, err } = plain(await called('run', file, '--pcap', pcap, '--engine', engine, '--json'));
    expect(code).toBe(0);
    expect(out.split('\n').map((line) => (line === '' ? undefined : JSON.parse(line)))).toEqual([
      {
        index: 0,
        verdict: 'drop',
        length: 52,
        path: [
          { hook: 'xdp', stage: 'first', verdict: 'exit', exit: 'short' },
          { hook: 'xdp', stage: 'last', verdict: 'drop' },
        ],
      },
      {
        index: 1,
        verdict: 'pass',
        length: 122,
        path: [
          { hook: 'xdp', stage: 'first', verdict: 'next' },
          { hook: 'xdp', stage: 'second', verdict: 'next' },
        ],
      },
      { index: 2, verdict: null, length: 3, path: [], refused: 'too short' },
      { index: 3, verdict: 'pass', length: 132, path: expect.any(Array) },
      undefined,
    ]);
    expect(err).toMatch(/^pair on json\.pcap: 4 packets in, 2 out\n(.*\n)+\nhook {2}stage/);
    expect((await called('run', file, '--pcap', pcap, '--engine', engine, '--json', '--quiet')).err).toBe('');
  });

  test('what leaves is written as it leaves, with its time', async () => {
    const [pcap, out] = [await capture('out.pcap', frames(10, 80, 20, 90)), join(folder, 'left.pcap')];
    expect((await called('run', file, '--pcap', pcap, '--engine', engine, '--out', out)).code).toBe(0);
    expect(await packetsIn(out)).toEqual([
      { bytes: 122, time: timeOf(1), onWire: 122 },
      { bytes: 132, time: timeOf(3), onWire: 132 },
    ]);
  });

  test('a program of an object, with its table and its maps', async () => {
    const pcap = await capture('object.pcap', frames(10, 80, 90));
    const { out, code } = plain(await called('run', object, '--pcap', pcap, '--engine', engine, '--section', 'gate', '--json', '--quiet'));
    expect(code).toBe(0);
    expect(out).toBe(
      [
        '{"index":0,"verdict":"drop","length":52,"path":[{"hook":"xdp","stage":"xdp","verdict":"drop"}]}',
        '{"index":1,"verdict":"tx","length":122,"path":[{"hook":"xdp","stage":"xdp","verdict":"tx"}]}',
        '{"index":2,"verdict":"tx","length":132,"path":[{"hook":"xdp","stage":"xdp","verdict":"tx"}]}',
        '',
      ].join('\n'),
    );
  });
});

test('more packets than one batch has, in order', async () => {
  const pcap = await capture(
    'many.pcap',
    Array.from({ length: 2_500 }, (_, index) => frames(index % 400)[0] as Uint8Array),
  );
  const out = join(folder, 'many-out.pcap');
  expect((await called('run', file, '--pcap', pcap, '--out', out)).out).toContain(': 2,500 packets in, ');
  const left = await packetsIn(out);
  expect(left.length).toBe(Array.from({ length: 2_500 }, (_, index) => 42 + (index % 400)).filter((bytes) => bytes >= 100).length);
  expect(left.every(({ bytes, time }) => timeOf(((bytes - 42) % 400) % 400) <= time)).toBe(true);
  expect(left.map(({ time }) => time)).toEqual(left.map(({ time }) => time).sort((a, b) => Number(a - b)));
});

test('a capture from the standard input', async () => {
  const bytes = readFileSync(await capture('input.pcap', frames(80)));
  expect(plain(await calledWith(bytes, 'run', file, '--pcap', '-')).out).toMatch(/^pair on the standard input: 1 packets in, 1 out\n/);
});

test('programs of TC and of sockets', async () => {
  const pcap = await capture('kinds.pcap', frames(80, 90));
  const run = async (section: string, ...more: readonly string[]) =>
    plain(await called('run', object, '--pcap', pcap, '--section', section, ...more)).out;
  expect(await run('tc', '--direction', 'egress')).toMatchInlineSnapshot(`
    "tc (either) of sample.o on kinds.pcap: 2 packets in, 2 out
      verdicts  pass 2
      bytes     254 in, 254 out
      time      …

    hook       stage  packets  bytes  ways
    TC egress  tc           2    254  pass 2
    "
  `);
  expect(await run('keep')).toMatchInlineSnapshot(`
    "socket (keep) of sample.o on kinds.pcap: 2 packets in, 2 out
      verdicts  pass 2
      bytes     254 in, 40 out
      time      …

    hook    stage   packets  bytes  ways
    socket  socket        2    254  pass 2
    "
  `);
});

test('damage: what comes before it is run, written and shown', async () => {
  const [pcap, out] = [await capture('damaged.pcap', frames(80, 90, 100)), join(folder, 'damaged-out.pcap')];
  writeFileSync(pcap, readFileSync(pcap).subarray(0, -10));
  const { code, out: shown, err } = plain(await called('run', file, '--pcap', pcap, '--out', out));
  expect([code, err]).toEqual([1, expect.stringMatching(/^tailrace: pcap record 3 at byte \d+: cut after \d+ bytes, expected .*\n$/)]);
  expect(shown).toMatch(/^pair on damaged\.pcap: 2 packets in, 2 out\n/);
  expect(await packetsIn(out)).toHaveLength(2);
});

test('what is no capture, and what is not there, leaves the output alone', async () => {
  const out = join(folder, 'kept.pcap');
  writeFileSync(out, 'precious');
  for (const [pcap, message] of [
    [file, 'cannot read capture: it begins with 0x'],
    [join(folder, 'absent.pcap'), 'cannot open capture absent.pcap: ENOENT'],
  ] as const) {
    const { code, out: shown, err } = plain(await called('run', file, '--pcap', pcap, '--out', out));
    expect([code, shown, err]).toEqual([1, '', expect.stringContaining(`tailrace: ${message}`)]);
  }
  expect(readFileSync(out, 'utf8')).toBe('precious');
});

test('the output cannot be the capture that is read, or a file that cannot be made', async () => {
  const pcap = await capture('same.pcap', frames(80));
  expect(plain(await called('run', file, '--pcap', pcap, '--out', join(folder, '.', 'same.pcap')))).toEqual({
    code: 1,
    out: '',
    err: 'tailrace: --out same.pcap is the capture that is read, expected another file\n',
  });
  expect(await packetsIn(pcap)).toHaveLength(1);
  expect(plain(await called('run', file, '--pcap', pcap, '--out', join(folder, 'no/such.pcap'))).err).toMatch(
    /^tailrace: cannot create capture no\/such\.pcap: ENOENT/,
  );
});

test('a program that traps: the packet is named', async () => {
  const wild = join(folder, 'wild.o');
  const instructions = [insn.load(4, 2, 1, 0), insn.load(1, 0, 2, 100), insn.mov(0, 2), insn.exit()];
  writeFileSync(wild, writeElf([programOf('wild', instructions)]));
  const pcap = await capture('wild.pcap', frames(80, 90, 10, 80));
  const one = plain(await called('run', wild, '--pcap', pcap, '--json'));
  expect(one.out.split('\n')).toHaveLength(3);
  expect([one.code, one.err]).toEqual([
    1,
    expect.stringMatching(/\ntailrace: packet 2: program wild, pc 1: read of 1 bytes outside the packet.*\n$/),
  ]);
  const together = plain(await called('run', wild, '--pcap', pcap));
  expect(together).toEqual({
    code: 1,
    out: '',
    err: expect.stringMatching(
      /^tailrace: one of packets 0 to 3: program wild, pc 1: .*\n--json runs packets one by one, and tells which\n$/,
    ),
  });
});

test('a reader that goes away ends it quietly', async () => {
  const pcap = await capture(
    'closed.pcap',
    Array.from({ length: 5_000 }, () => frames(80)[0] as Uint8Array),
  );
  const [output, errors] = [new Written(1), new Written()];
  expect(await main(['run', file, '--pcap', pcap, '--json'], { output, errors })).toBe(0);
  expect(errors.text).toBe('');
  expect(output.text.split('\n').length).toBeLessThan(2_000);
});

test('progress on a terminal is drawn over, and gone at the end', async () => {
  const bytes = readFileSync(await capture('slow.pcap', frames(80, 90)));
  const errors = new Written(Number.POSITIVE_INFINITY, true);
  const half = bytes.length - 132;
  async function* slowly() {
    for (const part of [bytes.subarray(0, half), bytes.subarray(half)]) {
      await setTimeout(250);
      yield part;
    }
  }
  expect(await main(['run', file, '--pcap', '-'], { output: new Written(), errors }, slowly)).toBe(0);
  const drawn = errors.text.replaceAll('\u001b[1A\u001b[J', '<');
  expect(drawn).toMatch(/^1 packets, [\d,]+ packets\/s\n(<2 packets, [\d,]+ packets\/s\n)?<$/);
});

test('a redirect says where to', async () => {
  const path = join(folder, 'redirect.o');
  writeFileSync(path, writeElf([programOf('away', [insn.mov(1, 7), insn.mov(2, 0), insn.call(23), insn.exit()])]));
  const pcap = await capture('redirect.pcap', [packet().ipv4().udp().bytes()]);
  const { out } = await called('run', path, '--pcap', pcap, '--json', '--quiet');
  expect(JSON.parse(out)).toMatchObject({ verdict: 'redirect', redirect: { ifindex: 7, kind: 'redirect' } });
});

test.each([
  [
    ['--section', 'third'],
    "tailrace: sample.o has no section or program 'third'\nit has xdp (gate), xdp (count), tc (either), socket (keep)\n",
  ],
  [[], 'tailrace: sample.o has 4 programs, expected --section NAME\nit has xdp (gate), xdp (count), tc (either), socket (keep)\n'],
  [['--section', 'xdp'], 'tailrace: section xdp of sample.o has 2 programs, expected the name of one\nit has xdp (gate), xdp (count)\n'],
])('objects: %j', async (more, err) => {
  const pcap = await capture('choice.pcap', frames(80));
  expect(plain(await called('run', object, '--pcap', pcap, ...more))).toEqual({ code: 1, out: '', err });
});

test('pipelines: no section, and no chain for egress', async () => {
  const pcap = await capture('way.pcap', frames(80));
  expect((await called('run', file, '--pcap', pcap, '--section', 'xdp')).err).toMatch(
    /fixture\.ts is no object file, and --section is for those only\n$/,
  );
  expect(await called('run', file, '--pcap', pcap, '--direction', 'egress')).toEqual({
    code: 1,
    out: '',
    err: 'tailrace: the pipeline has no chain for egress, only xdp\nsay --direction ingress\n',
  });
});

test('objects that are damaged', async () => {
  const path = join(folder, 'damaged.o');
  writeFileSync(path, sampleObject().subarray(0, 100));
  const pcap = await capture('any.pcap', frames(80));
  expect(plain(await called('run', path, '--pcap', pcap))).toEqual({
    code: 1,
    out: '',
    err: expect.stringMatching(/^tailrace: object file, .*\n$/),
  });
});
