import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ArgumentError } from '@tailrace/bpf';
import { pipeline } from '@tailrace/pipeline';
import { override, stage, token } from '@tailrace/stage';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { canaryIn, choosePipeline, ImportError, importPipeline, servicesIn } from './pipeline-module.ts';

const pass = stage({ name: 'pass', hook: 'xdp', program: (ctx) => ctx.next() });
const [one, two] = [pipeline('one', { xdp: [pass] }), pipeline('two', { xdp: [pass] })];
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tailrace-module-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function written(name: string, source: string): string {
  const path = join(folder, name);
  writeFileSync(path, source);
  return path;
}

test.each([
  ['the default export', { default: one, two }, one],
  ['the only one', { pass, one, answer: 42 }, one],
  ['one under two names', { one, edge: one }, one],
  ['the only one beside a default of another kind', { default: pass, two }, two],
])('%s', (_, exports, expected) => {
  expect(choosePipeline(exports, 'edge.ts')).toBe(expected);
});

test.each([
  [{}, 'edge.ts exports no pipeline, it exports nothing', "export default pipeline('edge', { xdp: […] })"],
  [
    { pass, answer: 42, nothing: null },
    'edge.ts exports no pipeline, only pass, answer, nothing',
    "export default pipeline('edge', { xdp: […] })",
  ],
  [{ one, pass, two }, 'edge.ts exports several pipelines: one, two', 'make one of them the default export'],
])('no choice among %o', (exports, message, hint) => {
  expect(() => choosePipeline(exports, 'edge.ts')).toThrow(expect.objectContaining({ message, hint }));
});

test('services are a list of replacements', () => {
  const services = [override(token<number>('Answer'), 42)];
  expect(servicesIn({ services }, 'edge.ts')).toBe(services);
  expect(servicesIn({}, 'edge.ts')).toEqual([]);
  for (const wrong of [{}, [42], null])
    expect(() => servicesIn({ services: wrong }, 'edge.ts')).toThrow('edge.ts exports services that are no list');
});

test('a file that is not there, and one that throws', async () => {
  await expect(importPipeline('no/such/file.ts')).rejects.toThrow('there is no file no/such/file.ts');
  const cause = await importPipeline(written('throws.mjs', "throw new RangeError('too far');")).catch((error: unknown) => error);
  expect(cause).toBeInstanceOf(ImportError);
  expect((cause as ImportError).cause).toMatchObject({ name: 'RangeError', message: 'too far' });
});

test('a typed error of the module itself stays what it is', async () => {
  const source = "throw Object.assign(new Error('stage: name'), { code: 'argument', hint: undefined });";
  const error = await importPipeline(written('typed.mjs', source)).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ message: 'stage: name', code: 'argument' });
  expect(error).not.toBeInstanceOf(ArgumentError);
});

test('a canary is a stage or several', () => {
  expect(canaryIn({}, 'next.ts')).toEqual([]);
  expect(canaryIn({ canary: pass }, 'next.ts')).toEqual([pass]);
  expect(canaryIn({ canary: [pass, pass.at('tc')] }, 'next.ts')).toHaveLength(2);
  for (const canary of [one, [pass, one], 0.1])
    expect(() => canaryIn({ canary }, 'next.ts')).toThrow('next.ts exports a canary that is no stage, and no list of them');
});
