/**
 * Compiling a module so that it is fast from its first packet. By default V8 starts with quick code and makes good code once
 * a function was called often: the first batches after each change of a chain would run a hundred times slower. The flags
 * hold for the whole process, so they are set for the one call only. A V8 that does not know them compiles as it always does.
 */
import { setFlagsFromString } from 'node:v8';
import { TailraceError } from '@tailrace/bpf';
import { WebAssembly, type WebAssemblyModule } from './webassembly.ts';
import type { Effort } from './worker-context.ts';

/** A chain's module, compiled. Throws TailraceError where V8 refuses it: a function of it is too large. */
export function compiledModule(bytes: Uint8Array<ArrayBuffer>, effort: Effort = 'well'): WebAssemblyModule {
  try {
    return effort === 'well' ? optimized(bytes) : new WebAssembly.Module(bytes);
  } catch (cause) {
    throw new TailraceError('compile', `the chain's module of ${bytes.length} bytes is refused: ${(cause as Error).message}`, { cause });
  }
}

/** A module, compiled by the optimising compiler. Takes 2 to 16 ms for a chain. */
function optimized(bytes: Uint8Array<ArrayBuffer>): WebAssemblyModule {
  setFlagsFromString('--no-liftoff');
  setFlagsFromString('--no-wasm-lazy-compilation');
  try {
    return new WebAssembly.Module(bytes);
  } finally {
    setFlagsFromString('--liftoff');
    setFlagsFromString('--wasm-lazy-compilation');
  }
}
