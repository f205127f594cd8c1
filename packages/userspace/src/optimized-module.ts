/**
 * Compiling a module so that it is fast from its first packet. By default V8 starts with quick code and makes good code once
 * a function was called often: the first batches after each change of a chain would run a hundred times slower. The flags
 * hold for the whole process, so they are set for the one call only. A V8 that does not know them compiles as it always does.
 */
import { setFlagsFromString } from 'node:v8';
import { WebAssembly, type WebAssemblyModule } from './webassembly.ts';

/** A module, compiled by the optimising compiler. Takes 2 to 16 ms for a chain. */
export function optimized(bytes: Uint8Array<ArrayBuffer>): WebAssemblyModule {
  setFlagsFromString('--no-liftoff');
  setFlagsFromString('--no-wasm-lazy-compilation');
  try {
    return new WebAssembly.Module(bytes);
  } finally {
    setFlagsFromString('--liftoff');
    setFlagsFromString('--wasm-lazy-compilation');
  }
}
