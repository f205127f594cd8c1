/** C twins: sources in `twins/`, compiled as C authors do (clang -O2), to program specs; and C that runs as a process. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type AttachHook, type ProgramSpec, readElf, TailraceError, UnsupportedError } from '@tailrace/bpf';
import { programKind } from './hook.ts';

/** The compiler that makes the twins; `CLANG` in the environment names another. */
const compiler = process.env.CLANG ?? 'clang';

let missing: string | null | undefined;

/** Why there is no C side here, or null where clang makes eBPF objects. Asked of the machine once. */
export function clangMissing(): string | null {
  if (missing === undefined) missing = probe();
  return missing;
}

/**
 * Compiles `twins/NAME.c` for a hook and returns its programs by function name. `defines` are handed over as -D.
 * Throws UnsupportedError where clang is missing, TailraceError with its messages where it refuses the source,
 * ElfError for an object that cannot be read.
 */
export function compileTwin(
  name: string,
  hook: AttachHook,
  defines: Readonly<Record<string, number>> = {},
): ReadonlyMap<string, ProgramSpec> {
  const reason = clangMissing();
  if (reason !== null) throw new UnsupportedError(reason, { hint: 'install clang, or set CLANG to one that has the bpf target' });
  const key = JSON.stringify([name, programKind(hook).type, defines]);
  const programs = compiled.get(key) ?? compile(name, hook, defines);
  compiled.set(key, programs);
  return programs;
}

/** What clang was asked for already: a bench asks for some twins often. */
const compiled = new Map<string, ReadonlyMap<string, ProgramSpec>>();

function compile(name: string, hook: AttachHook, defines: Readonly<Record<string, number>>): ReadonlyMap<string, ProgramSpec> {
  const source = fileURLToPath(new URL(`./twins/${name}.c`, import.meta.url));
  const kind = programKind(hook);
  const settings = Object.entries(kind.type === 'schedCls' ? { TC: 1, ...defines } : defines).map(([key, value]) => `-D${key}=${value}`);
  const result = spawnSync(compiler, [...OPTIONS, ...settings, '-c', source, '-o', '-'], { maxBuffer: 1 << 26 });
  if (result.status !== 0) throw new TailraceError('compile', `${compiler} refused ${name}.c: ${result.stderr.toString().trim()}`);
  // Maps are extern symbols: the bench makes them from the same specs as the TypeScript side.
  const { programs } = readElf(result.stdout, { externMaps: true });
  return new Map(
    [...programs].map(([entry, program]) => [
      entry,
      { ...program.spec(), name: `${name}.${entry}`, ...kind, license: 'Dual MIT/GPL' } satisfies ProgramSpec,
    ]),
  );
}

/** The program of that function. Throws UnsupportedError where the twin has none. */
export function twinProgram(programs: ReadonlyMap<string, ProgramSpec>, name: string): ProgramSpec {
  const program = programs.get(name);
  if (!program) throw new UnsupportedError(`the twin has no function ${name}: ${[...programs.keys()].join(', ')}`);
  return program;
}

/** Compiles a C source to a program of this machine. Throws UnsupportedError where clang is missing, TailraceError where it refuses the source. */
export function compileNative(source: string, program: string): void {
  const reason = clangMissing();
  if (reason !== null) throw new UnsupportedError(reason, { hint: 'install clang, or set CLANG to one' });
  const { status, stderr } = spawnSync(compiler, ['-O2', '-Wall', '-Werror', '-pthread', source, '-o', program], { encoding: 'utf8' });
  if (status !== 0) throw new TailraceError('compile', `${compiler} refused ${source}: ${stderr.trim()}`);
}

/** What C authors ask for; cpu v3 has 32-bit arithmetic and jumps, and every kernel that Tailrace runs on takes it. */
const OPTIONS = ['-O2', '-Wall', '-Werror', '-target', 'bpf', '-mcpu=v3'];

function probe(): string | null {
  const { error, stdout } = spawnSync(compiler, ['--print-targets'], { encoding: 'utf8' });
  if (error) return `${compiler} is not installed: the C side is left out`;
  return /^\s*bpf\b/m.test(stdout) ? null : `${compiler} has no bpf target: the C side is left out`;
}
