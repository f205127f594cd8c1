/**
 * The lint rules bite: which package may import which (DESIGN, section 3), no path into another package's sources, no
 * import cycles, no bare errors. Fixtures are linted in a folder of their own under this repository's configuration.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const packages = ['bpf', 'stage', 'compiler', 'userspace', 'kernel', 'pipeline', 'functions', 'testing', 'tailrace'] as const;
type Package = (typeof packages)[number];

const mayImport: Readonly<Record<Package, readonly Package[]>> = {
  bpf: [],
  stage: ['bpf'],
  compiler: ['bpf', 'stage'],
  userspace: ['bpf'],
  kernel: ['bpf'],
  pipeline: ['bpf', 'stage', 'compiler'],
  functions: ['stage', 'pipeline'],
  testing: ['bpf', 'stage', 'pipeline', 'kernel', 'userspace', 'compiler'],
  tailrace: ['bpf', 'stage', 'compiler', 'userspace', 'kernel', 'pipeline', 'functions', 'testing'],
};

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'tailrace-borders-'));
const files = new Map<string, string>();
const findings = new Map<string, string[]>();

for (const importer of packages)
  for (const imported of packages) {
    const name = imported === 'tailrace' ? imported : `@tailrace/${imported}`;
    files.set(`packages/${importer}/src/of-${imported}.ts`, `export * from '${name}';\n`);
    files.set(`packages/${importer}/src/deep-of-${imported}.ts`, `export type { X } from '${name}/deep/inside';\n`);
  }
files.set('packages/kernel/src/outside.ts', "import 'node:fs';\nimport 'koffi';\nimport './of-bpf.ts';\n");
files.set('packages/kernel/src/path.ts', "export * from '../../compiler/src/index.ts';\n");
files.set('packages/functions/src/l4lb/path.ts', "export * from '../../../kernel/src/index.ts';\n");
files.set('packages/functions/src/l4lb/sibling.ts', "export * from '../structures/flow-cache.ts';\n");
files.set('packages/bpf/src/free.test.ts', "import '@tailrace/kernel';\nimport '../../stage/src/index.ts';\nthrow new Error('x');\n");
files.set('packages/bpf/src/free.kernel.test.ts', "import '@tailrace/kernel';\n");
files.set('packages/bpf/src/bare.ts', "throw new Error('x');\n");
files.set('packages/bpf/src/bare-call.ts', "throw Error('x');\n");
files.set('packages/bpf/src/subclass.ts', 'export class EncodingError extends Error {}\nthrow new EncodingError();\n');
files.set('bench/bare.ts', "throw new Error('x', { cause: 1 });\n");
files.set('examples/all.ts', "import 'tailrace';\nimport '@tailrace/kernel';\nimport '@tailrace/testing';\n");
files.set('packages/stage/src/ring-a.ts', "import { b } from './ring-b.ts';\nexport const a = 1;\nexport const c = b;\n");
files.set('packages/stage/src/ring-b.ts', "import { a } from './ring-a.ts';\nexport const b = a;\n");
files.set('packages/stage/src/type-ring-a.ts', "import type { B } from './type-ring-b.ts';\nexport type A = B;\n");
files.set('packages/stage/src/type-ring-b.ts', "import type { A } from './type-ring-a.ts';\nexport type B = A | 1;\n");
files.set('packages/stage/src/any.ts', 'export const x: any = 1;\n');
files.set('packages/stage/src/unused.ts', "import { x } from './any.ts';\nconst y = 1;\nexport {};\n");
files.set('packages/stage/src/only.test.ts', "import { it } from 'vitest';\nit.only('a', () => {});\nit.skip('b', () => {});\n");

beforeAll(() => {
  for (const name of ['biome.json', '.biome', '.gitignore']) cpSync(join(root, name), join(folder, name), { recursive: true });
  for (const [path, text] of files) {
    mkdirSync(join(folder, dirname(path)), { recursive: true });
    writeFileSync(join(folder, path), text);
    findings.set(path, []);
  }
  for (const { category, location, message } of lint()) findings.get(location.path)?.push(category === 'plugin' ? message : category);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bareError = 'a bare Error has no code and no hint: throw TailraceError from @tailrace/bpf, or a subclass of it';
const restricted = 'lint/style/noRestrictedImports';

describe('borders between packages', () => {
  it.each(packages.filter((name) => name !== 'tailrace'))('%s imports what the table allows and nothing else', (importer) => {
    for (const imported of packages) {
      const expected = mayImport[importer].includes(imported) ? [] : [restricted];
      expect([imported, findings.get(`packages/${importer}/src/of-${imported}.ts`)]).toEqual([imported, expected]);
      expect([imported, findings.get(`packages/${importer}/src/deep-of-${imported}.ts`)]).toEqual([imported, expected]);
    }
  });

  it.each<[string, string, readonly string[]]>([
    ['tailrace imports all', 'packages/tailrace/src/of-kernel.ts', []],
    ['packages of others and own files are free', 'packages/kernel/src/outside.ts', []],
    ["no path into another package's sources", 'packages/kernel/src/path.ts', [restricted]],
    ['nor from a folder further down', 'packages/functions/src/l4lb/path.ts', [restricted]],
    ['a path inside the own sources is free', 'packages/functions/src/l4lb/sibling.ts', []],
    ['tests import anything', 'packages/bpf/src/free.test.ts', []],
    ['kernel tests import anything', 'packages/bpf/src/free.kernel.test.ts', []],
    ['examples import anything', 'examples/all.ts', []],
  ])('%s', (_name, path, expected) => {
    expect(findings.get(path)?.toSorted()).toEqual(expected);
  });
});

describe('house rules', () => {
  it.each<[string, string, readonly string[]]>([
    ['a bare error is refused', 'packages/bpf/src/bare.ts', [bareError]],
    ['also without new', 'packages/bpf/src/bare-call.ts', [bareError]],
    ['also outside packages', 'bench/bare.ts', [bareError]],
    ['subclasses are free', 'packages/bpf/src/subclass.ts', []],
    ['an import cycle is refused', 'packages/stage/src/ring-a.ts', ['lint/suspicious/noImportCycles']],
    ['also of types alone', 'packages/stage/src/type-ring-a.ts', ['lint/suspicious/noImportCycles']],
    ['any is refused', 'packages/stage/src/any.ts', ['lint/suspicious/noExplicitAny']],
    [
      'unused names are refused',
      'packages/stage/src/unused.ts',
      ['lint/correctness/noUnusedImports', 'lint/correctness/noUnusedVariables'],
    ],
    [
      'focused and skipped tests are refused',
      'packages/stage/src/only.test.ts',
      ['lint/suspicious/noFocusedTests', 'lint/suspicious/noSkippedTests'],
    ],
  ])('%s', (_name, path, expected) => {
    expect(findings.get(path)?.toSorted()).toEqual(expected);
  });
});

interface Finding {
  readonly category: string;
  readonly message: string;
  readonly location: { readonly path: string };
}

/** What biome finds in the fixtures, errors alone; biome exits with 1 where it finds any. */
function lint(): readonly Finding[] {
  const biome = join(root, 'node_modules/.bin/biome');
  const options = ['lint', '--reporter=json', '--max-diagnostics=none', '--diagnostic-level=error', '.'];
  try {
    return parse(execFileSync(biome, options, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }));
  } catch (error) {
    if (error instanceof Error && 'stdout' in error && typeof error.stdout === 'string') return parse(error.stdout);
    throw error;
  }
}

function parse(output: string): readonly Finding[] {
  return (JSON.parse(output) as { diagnostics: readonly Finding[] }).diagnostics;
}
