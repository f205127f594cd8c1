/**
 * node build.ts: builds the package in the working directory for publishing; `pnpm pack` runs it, as each package's
 * `prepack`. `dist` gets JavaScript and declarations of the modules that `publishConfig` promises and of all that they
 * import, so of no test and no fixture, and below `dist/src` the sources that the maps lead to. Inside the workspace
 * nothing is ever built.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

class BuildError extends Error {}

const root = import.meta.dirname;
const folder = process.cwd();
const sources = join(folder, 'src');
// below node_modules: out of git's sight, and the compiler finds @types from there
const staging = mkdtempSync(join(root, 'node_modules', '.build-'));
const emitted = join(staging, 'emitted');
const built = join(staging, 'dist');

try {
  compile(entries());
  collect(join(emitted, relative(root, sources)));
  rmSync('dist', { recursive: true, force: true });
  renameSync(built, 'dist');
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  rmSync(staging, { recursive: true, force: true });
}

/** The source of every module that users can name; `*` in a target stands for each folder that there is. */
function entries(): string[] {
  const { publishConfig } = JSON.parse(readFileSync('package.json', 'utf8')) as { publishConfig?: object };
  return modulesIn(publishConfig).flatMap((target) => {
    const found = globSync(target.replace(/^(\.\/)?dist\//, 'src/').replace(/\.js$/, '.ts'));
    if (found.length === 0) throw new BuildError(`${relative(root, folder)}: publishConfig names ${target}, which has no source`);
    return found.map((path) => resolve(path));
  });
}

function modulesIn(value: unknown): string[] {
  if (typeof value === 'string') return value.endsWith('.js') ? [value] : [];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(modulesIn) : [];
}

/** Emits the entries and all that they import; other packages come along, since inside the workspace they are sources. */
function compile(files: readonly string[]): void {
  const project = join(staging, 'tsconfig.json');
  const compilerOptions = { noEmit: false, rootDir: root, outDir: emitted, declaration: true, declarationMap: true, sourceMap: true };
  writeFileSync(project, JSON.stringify({ extends: join(root, 'tsconfig.json'), files, include: [], compilerOptions }));
  const tsc = join(root, 'node_modules', '.bin', 'tsc');
  const { status, stdout, error } = spawnSync(tsc, ['--project', project], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (status !== 0) throw new BuildError(`${relative(root, folder)}: tsc failed\n${error?.message ?? stdout}`);
}

/** Copies what was emitted of this package, and the sources; maps lead from the one to the other. */
function collect(own: string): void {
  for (const path of globSync('**/*.{js,ts,map}', { cwd: own })) {
    const to = join(built, path);
    mkdirSync(dirname(to), { recursive: true });
    if (path.endsWith('.map')) writeFileSync(to, mapWithCopies(join(own, path), dirname(to)));
    else cpSync(join(own, path), to);
  }
}

function mapWithCopies(path: string, at: string): string {
  const map = JSON.parse(readFileSync(path, 'utf8')) as { sources: string[] };
  const copies = map.sources.map((source) => {
    const original = resolve(dirname(path), source);
    const copy = join(built, 'src', relative(sources, original));
    cpSync(original, copy);
    return relative(at, copy);
  });
  return JSON.stringify({ ...map, sources: copies });
}
