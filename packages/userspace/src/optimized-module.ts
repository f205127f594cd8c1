/**
 * Compiling a module so that it is fast from its first packet. By default V8 starts with quick code and makes good code once
 * a function was called often: the first batches after each change of a chain would run a hundred times slower. The flags
 * hold for the whole process, and V8 looks at them until a module is ready: they are set while modules are compiled, and
 * restored after the last of them. A V8 that does not know them compiles as it always does.
 */
import { setFlagsFromString } from 'node:v8';
import { TailraceError } from '@tailrace/bpf';
import { WebAssembly, type WebAssemblyModule } from './webassembly.ts';
import type { Effort } from './worker-context.ts';

/** Longer than a timer can be waited for. */
const NEVER_MS = 0x7fff_ffff;

/** A chain's module, compiled. Throws TailraceError where V8 refuses it: a function of it is too large. */
export function compiledModule(bytes: Uint8Array<ArrayBuffer>, effort: Effort = 'well'): WebAssemblyModule {
  using _ = compiling(effort);
  try {
    return new WebAssembly.Module(bytes);
  } catch (cause) {
    throw refused(bytes, cause);
  }
}

/** As `compiledModule`, on V8's own threads. */
export async function moduleInBackground(bytes: Uint8Array<ArrayBuffer>, effort: Effort = 'well'): Promise<WebAssemblyModule> {
  using _ = compiling(effort);
  // what V8 compiles does not keep the process alive
  const alive = setTimeout(() => undefined, NEVER_MS);
  try {
    return await WebAssembly.compile(bytes);
  } catch (cause) {
    throw refused(bytes, cause);
  } finally {
    clearTimeout(alive);
  }
}

/** Modules that are being compiled well. */
let compilations = 0;

/** Until it is disposed of, V8 compiles whole modules by its optimising compiler. */
function compiling(effort: Effort): Disposable {
  if (effort === 'quickly') return { [Symbol.dispose]: () => undefined };
  if (compilations++ === 0) setFlags('--no-liftoff', '--no-wasm-lazy-compilation');
  return {
    [Symbol.dispose]() {
      if (--compilations === 0) setFlags('--liftoff', '--wasm-lazy-compilation');
    },
  };
}

function setFlags(...flags: readonly string[]): void {
  for (const flag of flags) setFlagsFromString(flag);
}

function refused(bytes: Uint8Array, cause: unknown): TailraceError {
  return new TailraceError('compile', `the chain's module of ${bytes.length} bytes is refused: ${(cause as Error).message}`, { cause });
}
