/** The runtime, compiled: the bytes of a WebAssembly module that imports nothing but memory. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { TailraceError } from '@tailrace/bpf';

const OPTIONS = ['-O3', '--noAssert', '--runtime', 'stub', '--importMemory', '--sharedMemory', '--enable', 'threads'];
/** Pages: as `EngineMemory` makes it. */
const MEMORY = ['--initialMemory', '86', '--maximumMemory', '65536'];

/** Compiles `index.ts` beside this file. Throws TailraceError with what the compiler says. */
export async function compileRuntime(): Promise<Uint8Array<ArrayBuffer>> {
  const folder = mkdtempSync(join(tmpdir(), 'tailrace-runtime-'));
  const out = join(folder, 'runtime.wasm');
  const compiler = join(dirname(createRequire(import.meta.url).resolve('assemblyscript/package.json')), 'bin/asc.js');
  try {
    await promisify(execFile)(process.execPath, [compiler, 'index.ts', '--outFile', out, ...OPTIONS, ...MEMORY], {
      cwd: import.meta.dirname,
    });
    return Uint8Array.from(readFileSync(out));
  } catch (cause) {
    const { stderr } = cause as { readonly stderr?: string };
    throw new TailraceError('compile', `the runtime does not compile: ${stderr ?? String(cause)}`, { cause });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The source of the module that holds the bytes. */
export function runtimeModule(bytes: Uint8Array): string {
  const lines =
    Buffer.from(bytes)
      .toString('base64')
      .match(/.{1,120}/g) ?? [];
  return `/** Written by runtime/build.ts: the runtime in runtime/, compiled. */
export const RUNTIME_BASE64 = \`
${lines.join('\n')}
\`;
`;
}
