/** Places are exact: under vitest, under plain Node, and out of bundles with a source map. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type AnyStage, stage } from '@tailrace/stage';
import { afterAll, expect, test } from 'vitest';
import { compileStage } from './compile.ts';
import { CompileError, type Diagnostic, formatDiagnostic } from './diagnostic.ts';
import { functionOf } from './fixture.ts';
import { located } from './located-stage.ts';

const file = fileURLToPath(new URL('located-stage.ts', import.meta.url));
const lines = readFileSync(file, 'utf8').split('\n');
const folder = mkdtempSync(join(tmpdir(), 'tailrace-locate-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Where `.name` stands. */
function placeOf(name: string): { file: string; line: number; column: number; text: string } {
  const row = lines.findIndex((line) => line.includes(`.${name}`));
  const text = lines[row] ?? '';
  return { file: relative(process.cwd(), file), line: row + 1, column: text.indexOf(`.${name}`) + 2, text };
}

function diagnosticOf(subject: AnyStage | undefined): Diagnostic {
  try {
    if (subject) compileStage(subject);
  } catch (error) {
    if (error instanceof CompileError) return error.diagnostic;
    throw error;
  }
  return expect.unreachable('compiled');
}

test.each(Object.keys(located))('under vitest: %s', (name) => {
  expect(diagnosticOf(located[name]).place).toEqual(placeOf(name));
});

test('in a test file itself', () => {
  const row = readFileSync(fileURLToPath(import.meta.url), 'utf8')
    .split('\n')
    .findIndex((line) => line.trim().startsWith('const here'));
  const here = stage({ name: 'here', hook: 'xdp', program: (ctx) => (ctx as never as { missing: never }).missing });
  const { place } = diagnosticOf(here);
  expect(place).toMatchObject({ file: relative(process.cwd(), fileURLToPath(import.meta.url)), line: row + 1 });
  expect(place?.text.slice((place.column ?? 1) - 1)).toMatch(/^missing }\);/);
});

test('under plain Node', () => {
  const script = `
    import { compileStage, CompileError } from ${JSON.stringify(new URL('index.ts', import.meta.url).href)};
    import { located } from ${JSON.stringify(pathToFileURL(file).href)};
    const places = Object.entries(located).map(([name, stage]) => {
      try { compileStage(stage); } catch (error) { if (error instanceof CompileError) return [name, error.diagnostic.place]; throw error; }
    });
    console.log(JSON.stringify(places));`;
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  expect(JSON.parse(out)).toEqual(Object.keys(located).map((name) => [name, placeOf(name)]));
});

const vitePath = createRequire(createRequire(import.meta.url).resolve('vitest/package.json')).resolve('vite');
test.each([
  ['a map beside it', true, false],
  ['a map in it', 'inline', false],
  ['minified, with a map', true, true],
] as const)('out of a bundle: %s', async (name, sourcemap, minify) => {
  const { rolldown } = (await import(createRequire(vitePath).resolve('rolldown'))) as {
    rolldown(options: object): Promise<{ write(options: object): Promise<unknown>; close(): Promise<void> }>;
  };
  const bundle = await rolldown({ input: file, platform: 'node', logLevel: 'silent' });
  const out = join(folder, `${name.replaceAll(/\W/g, '-')}.mjs`);
  await bundle.write({ file: out, format: 'esm', sourcemap, minify });
  await bundle.close();
  const bundled = (await import(/* @vite-ignore */ pathToFileURL(out).href)) as { located: typeof located };
  for (const mistake of Object.keys(located)) {
    const { file: where, line, column, text } = diagnosticOf(bundled.located[mistake]).place ?? expect.unreachable();
    expect({ where: where.endsWith('located-stage.ts'), line, column, text }).toEqual({
      where: true,
      ...placeOf(mistake),
      file: undefined,
    });
  }
});

test('without a file, places are within the text', () => {
  const text = '(ctx) => {\n  if (ctx.length > 9) return ctx.drop();\n  return ctx.missing;\n}';
  const subject = stage({ name: 'textual', hook: 'xdp', program: new Function(`return ${text}`)() as never });
  expect(formatDiagnostic(diagnosticOf(subject))).toMatchInlineSnapshot(`
    "<program>:3:14: stage 'textual': ctx has no member 'missing'
     3 |   return ctx.missing;
       |              ^^^^^^^
       = hint: there are: length, meta, ingressIfindex, rxQueue, ethernet, arp, ipv4, ipv6, ipv6Fragment, tcp, udp, icmp, icmpv6, ports, gre, at, offsetOf, checksum, checksumReplace, vxlan, gue, protocol, fragment, vlanTags, vlanTci, innerVlanTci, pushVlan, popVlan, updateChecksum, next, exit, pass, drop, tx, abort, redirect, adjustHead, adjustTail, now, nowCoarse, random, cpu"
  `);
  const evaluated = stage({ name: 'evaluated', hook: 'xdp', program: functionOf(text) as never });
  expect(formatDiagnostic(diagnosticOf(evaluated))).toMatchInlineSnapshot(`
    "stage.ts:3:14: stage 'evaluated': ctx has no member 'missing'
     3 |   return ctx.missing;
       |              ^^^^^^^
       = hint: there are: length, meta, ingressIfindex, rxQueue, ethernet, arp, ipv4, ipv6, ipv6Fragment, tcp, udp, icmp, icmpv6, ports, gre, at, offsetOf, checksum, checksumReplace, vxlan, gue, protocol, fragment, vlanTags, vlanTci, innerVlanTci, pushVlan, popVlan, updateChecksum, next, exit, pass, drop, tx, abort, redirect, adjustHead, adjustTail, now, nowCoarse, random, cpu"
  `);
});
