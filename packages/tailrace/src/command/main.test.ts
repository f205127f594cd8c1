import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { called, frames, writeCapture } from './main-fixture.ts';

const file = fileURLToPath(new URL('fixture.ts', import.meta.url));
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tailrace-main-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('graph, as a picture', async () => {
  const { code, out } = await called('graph', file);
  expect(code).toBe(0);
  expect(out).toMatchInlineSnapshot(`
    "   the wire
       │
       ▼ XDP
    ╭──────────╮
    │ first    │
    ╰──┬───────╯  short ─▶ last
       │
    ╭──────────╮
    │ second   │
    ╰──────────╯  next ─▶ pass
    ╭──────────╮
    │ last     │
    ╰──────────╯
       │
       the network stack
    "
  `);
});

test('graph, as JSON and as SVG', async () => {
  const json = await called('graph', file, '--json');
  expect(JSON.parse(json.out)).toMatchObject({
    name: 'pair',
    crossing: [],
    chains: { xdp: { first: 'first', stages: [{ name: 'first' }, {}, {}] } },
  });
  const svg = join(folder, 'pair.svg');
  expect(await called('graph', file, '--svg', svg)).toEqual({ code: 0, out: '', err: '' });
  expect(await called('graph', file, '--svg', '-')).toEqual({ code: 0, out: readFileSync(svg, 'utf8'), err: '' });
  expect(await called('graph', file, '--svg', join(folder, 'no/such/folder.svg'))).toMatchObject({
    code: 1,
    err: expect.stringMatching(/^tailrace: .*folder\.svg cannot be written: ENOENT\n$/),
  });
});

test('graph --cost, of each way to build a pipeline', async () => {
  const { code, out } = await called('graph', file, '--cost');
  expect(code).toBe(0);
  // how many instructions are the compiler's affair
  expect(out.replace(/\d+( +)\d+(?=( +\d+){2}$)/gm, 'N$1N')).toMatchInlineSnapshot(`
    "                  programs  instructions  longest way  stack  tail calls
    XDP, as declared         3            N           N      8           2
    XDP, chained             3            N           N      8           2
    XDP, fused               1            N           N      8           1
    "
  `);
  const rows = JSON.parse((await called('graph', file, '--cost', '--json')).out) as { built: string; programs: number; longest: number }[];
  expect(rows.map(({ built, programs }) => [built, programs])).toEqual([
    ['declared', 3],
    ['chained', 3],
    ['fused', 1],
  ]);
  expect(rows[2]?.longest).toBeLessThan(rows[1]?.longest ?? 0);
});

test('graph --cost, measured by a capture', async () => {
  const capture = await writeCapture(join(folder, 'two.pcap'), frames(8, 200));
  const { code, out, err } = await called('graph', file, '--cost', '--pcap', capture, '--json');
  expect([code, err]).toEqual([0, '']);
  for (const { ns } of JSON.parse(out) as { ns: number }[]) expect(ns).toBeGreaterThan(0);
});

test('build shows source lines above their instructions, and names maps and edges', async () => {
  const { code, out } = await called('build', file, '--stage', 'first');
  expect(code).toBe(0);
  // the instructions themselves are the compiler's affair
  const shown = out
    .split('\n')
    .filter((line) => !/^ {4}\d+: /.test(line) || line.includes('map[') || line.includes('tail_call'))
    .map((line) => line.replace(/\d+(?= instructions|: | bytes)/, 'N'));
  expect([...new Set(shown)].join('\n')).toMatchInlineSnapshot(`
    "XDP: first  N instructions · 8 bytes of stack
      if (ctx.length < 100) return ctx.exit('short'); @ packages/tailrace/src/command/fixture.ts:11
        N: r1 = map[chain:state]
        N: r2 = map[chain:array]
        N: call bpf_tail_call#12  short ─▶ last
      return ctx.next(); @ packages/tailrace/src/command/fixture.ts:12
        N: call bpf_tail_call#12  next ─▶ second
    "
  `);
  expect(out).toMatch(/^ {4}0: r6 = r1$/m);
});

test('build, as JSON', async () => {
  interface Built {
    readonly hook: string;
    readonly place: string;
    readonly program: { readonly name: string };
    readonly slots: number;
    readonly stackBytes: number;
    readonly maps: readonly { readonly name: string }[];
    readonly instructions: readonly { readonly pc: number; readonly text: string; readonly edge?: string; readonly source?: object }[];
  }
  const built = JSON.parse((await called('build', file, '--json')).out) as readonly Built[];
  expect(built.map(({ hook, place, program }) => [hook, place, program.name])).toEqual([
    ['xdp', '(root)', 'pair.root'],
    ['xdp', 'first', 'first'],
    ['xdp', 'second', 'second'],
    ['xdp', 'last', 'last'],
  ]);
  const edges = built.map(({ instructions }) => instructions.flatMap(({ edge }) => edge ?? []));
  expect(edges.map((list) => [...list].sort())).toEqual([['first ─▶ first'], ['next ─▶ second', 'short ─▶ last'], [], []]);
  const second = built[2];
  expect(second?.maps).toEqual([{ reference: 'senders', name: 'senders', type: 'hash', maxEntries: 16 }]);
  expect(second?.instructions.find(({ text }) => text.includes('map[senders]'))?.source).toMatchObject({
    file: expect.stringMatching(/fixture\.ts$/),
    line: 20,
  });
  for (const { instructions, slots } of built) expect(instructions.at(-1)?.pc).toBeLessThan(slots);
});

test('errors go to the other output', async () => {
  expect(await called('build', file, '--stage', 'third')).toEqual({
    code: 1,
    out: '',
    err: "tailrace: pipeline 'pair' has no stage 'third'\nit has pair.root, first, second, last\n",
  });
  expect((await called('walk')).code).toBe(2);
});

test('the version is that of the package', async () => {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { readonly version: string };
  expect(await called('--version')).toEqual({ code: 0, out: `${manifest.version}\n`, err: '' });
});
