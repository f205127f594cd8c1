/**
 * Packages as users get them: all are packed, installed into a project outside the workspace, type-checked and run there.
 * The project, with a stage, a pipeline and a function package of its own, is in `install/`.
 */
import { execFile } from 'node:child_process';
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

/** A package.json, as far as it matters here. */
interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly bin?: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}
/** What `pnpm pack --json` says of one package. */
interface Tarball {
  readonly name: string;
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

const MINUTE = 60_000;
const root = fileURLToPath(new URL('..', import.meta.url));
const names = globSync('packages/*/package.json', { cwd: root })
  .map((path) => manifestAt(join(root, path)).name)
  .sort();
let tarballs: readonly Tarball[] = [];
let folder: string;
let project: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tailrace-install-'));
  project = join(folder, 'edge');
  tarballs = JSON.parse(
    await run('npx', ['-y', 'pnpm@12', '--recursive', '--filter', './packages/*', 'pack', '--json', '--pack-destination', folder], root),
  ) as Tarball[];
  writeProject();
  await run('npx', ['-y', 'pnpm@12', 'install', '--prefer-offline', '--no-frozen-lockfile'], project);
  writeFileSync(join(project, 'imports.ts'), names.flatMap(importsOf).join('\n'));
}, 3 * MINUTE);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('every package is packed', () => {
  expect(tarballs.map(({ name }) => name).sort()).toEqual(names);
});

test.each(names)('%s ships JavaScript, declarations and the sources behind their maps, and nothing else', (name) => {
  const files = filesOf(name);
  const others = files.filter((path) => !/^dist\/.+\.(js|d\.ts)(\.map)?$/.test(path));
  const sources = others.filter((path) => /^dist\/src\/.+\.ts$/.test(path));
  expect(others.filter((path) => !sources.includes(path)).sort()).toEqual(['LICENSE', 'README.md', 'package.json']);
  expect(files.filter((path) => /\.(test|test-d)\.|fixture|random-|fake-|sample/.test(path))).toEqual([]);
  const modules = files.filter((path) => path.endsWith('.js'));
  expect(modules).not.toEqual([]);
  const mapped = new Set<string>();
  for (const module of modules)
    for (const written of [module, module.replace(/js$/, 'd.ts')]) {
      expect(files).toContain(written);
      expect(read(name, written)).toContain(`//# sourceMappingURL=${basename(written)}.map`);
      const map = JSON.parse(read(name, `${written}.map`)) as { sources: string[] };
      for (const source of map.sources) mapped.add(posix.join(dirname(written), source));
    }
  expect([...mapped].sort()).toEqual([...sources].sort());
  // tsc rewrites imports; a path that is put together otherwise would still name a source
  for (const module of modules) expect(read(name, module)).not.toMatch(/['"]\.{1,2}\/[^'"\n]*\.ts['"]/);
});

test.each(names)('%s keeps what its package.json promises', (name) => {
  const { bin = {}, exports, scripts = {}, dependencies = {} } = manifestAt(join(installed(name), 'package.json'));
  const promised = [
    ...Object.values(bin),
    ...Object.values(exports).flatMap((target) => (typeof target === 'string' ? target : Object.values(target))),
  ];
  for (const target of promised) expect(globSync(target, { cwd: installed(name) }), target).not.toEqual([]);
  expect(JSON.stringify({ bin, exports })).not.toContain('./src/');
  expect(Object.keys(scripts)).toEqual([]);
  for (const [dependency, range] of Object.entries(dependencies))
    expect(range, dependency).toMatch(names.includes(dependency) ? /^\d+\.\d+\.\d+$/ : /^\^?\d+\.\d+\.\d+$/);
});

test('types resolve and hold, those of the packages too', { timeout: MINUTE }, async () => {
  expect(await run('node_modules/.bin/tsc', ['--project', '.'], project)).toBe('');
});

test('every module can be imported', async () => {
  expect(await run(process.execPath, ['imports.ts'], project)).toBe('');
});

test('without privileges a pipeline is planned and compiled, and places are in the sources', async () => {
  const out = await run('setpriv', ['--bounding-set=-all', '--inh-caps=-all', process.execPath, 'compile.ts'], project);
  const { chains, own, installed, mistake } = JSON.parse(out) as {
    readonly chains: unknown;
    readonly own: readonly string[];
    readonly installed: readonly string[];
    readonly mistake: { readonly file: string; readonly line: number; readonly column: number; readonly text: string };
  };
  for (const name of ['minTtl', 'acl.acl', 'gate.guard']) expect(JSON.stringify(chains)).toContain(`"${name}"`);
  expect(own).toEqual(['edge.ts']);
  expect(installed.map((file) => file.replace(/^.*\/@tailrace\//, ''))).toEqual(['functions/dist/src/acl/stage.ts']);
  const source = join(root, 'packages/functions/src/acl/stage.ts');
  const line = readFileSync(source, 'utf8').split('\n')[mistake.line - 1] ?? '';
  expect(mistake).toMatchObject({ file: installed[0], text: line });
  expect(line.slice(mistake.column - 1)).toMatch(/^count\b/);
});

test('the command looks at the machine, and draws the pipeline', async () => {
  const tailrace = join(project, 'node_modules/.bin/tailrace');
  const report = JSON.parse(await run(tailrace, ['doctor', '--json'], project)) as { readonly ready: boolean };
  expect(report.ready).toBe(true);
  const { chains } = JSON.parse(await run(tailrace, ['graph', 'edge.ts', '--json'], project)) as { readonly chains: object };
  for (const name of ['minTtl', 'acl.acl', 'gate.guard']) expect(JSON.stringify(chains)).toContain(`"${name}"`);
  expect(await run(tailrace, ['build', 'edge.ts', '--stage', 'minTtl'], project)).toContain('if (ip && ip.ttl < least)');
});

test('it runs in the kernel, as it is and with a service rebound', async () => {
  expect(await run(process.execPath, ['run.ts'], project)).toMatchInlineSnapshot(`
    "default pass drop drop drop drop | hits 80:1 | expired 1 | 203.0.113.0/24 1
    rebound drop pass pass drop drop | hits 8080:1 9090:1 | expired 1 | 203.0.113.0/24 1 false
    "
  `);
});

/** The project of `install/`, with every package out of its tarball, those that packages need as well. */
function writeProject(): void {
  cpSync(join(root, 'test/install'), project, { recursive: true });
  const { devDependencies = {} } = manifestAt(join(root, 'package.json'));
  const as = (...wanted: readonly string[]) => Object.fromEntries(wanted.map((name) => [name, devDependencies[name]]));
  const ours = Object.fromEntries(tarballs.map(({ name, filename }) => [name, `file:${join(folder, basename(filename))}`]));
  const write = (path: string, content: object): void => writeFileSync(join(project, path), JSON.stringify(content));
  write('package.json', {
    name: 'edge',
    private: true,
    type: 'module',
    dependencies: { ...ours, gate: 'workspace:*', ...as('rxjs') },
    devDependencies: as('@types/node', 'typescript'),
  });
  write('gate/package.json', {
    name: 'gate',
    version: '1.0.0',
    type: 'module',
    exports: './index.ts',
    dependencies: { '@tailrace/stage': ours['@tailrace/stage'], ...as('inversify', 'rxjs') },
  });
  // koffi brings prebuilt code; its install script would only build it anew. JSON is YAML.
  write('pnpm-workspace.yaml', { packages: ['gate'], overrides: ours, allowBuilds: { koffi: false } });
}

/** An import of every module that packages export; not of what extends vitest, which is not installed there. */
function importsOf(name: string): string[] {
  const { exports } = manifestAt(join(installed(name), 'package.json'));
  return Object.entries(exports).flatMap(([key, target]) => {
    if (typeof target === 'string' || key === './matchers') return [];
    const [before = '', after] = target.default.slice('./'.length).split('*');
    if (after === undefined) return `import '${posix.join(name, key)}';`;
    const folders = filesOf(name).filter((path) => path.startsWith(before) && path.endsWith(after));
    return folders.map((path) => `import '${posix.join(name, key.replace('*', path.slice(before.length, -after.length)))}';`);
  });
}

function filesOf(name: string): string[] {
  return tarballs.find((tarball) => tarball.name === name)?.files.map(({ path }) => path) ?? [];
}

function installed(name: string): string {
  return join(project, 'node_modules', name);
}

function read(name: string, path: string): string {
  return readFileSync(join(installed(name), path), 'utf8');
}

function manifestAt(path: string): Manifest {
  return JSON.parse(readFileSync(path, 'utf8')) as Manifest;
}

/** Runs a command to its end and gives its stdout; all that it said where it fails. */
async function run(command: string, args: readonly string[], cwd: string): Promise<string> {
  const running = promisify(execFile)(command, args, { cwd, encoding: 'utf8', timeout: 3 * MINUTE, maxBuffer: 2 ** 26 });
  const { stdout } = await running.catch(({ message, stdout = '' }: Error & { stdout?: string }) => expect.fail(`${message}\n${stdout}`));
  return stdout;
}
