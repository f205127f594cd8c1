/**
 * node runtime/build.ts: compiles the runtime (AssemblyScript) to WebAssembly and writes it to `src/runtime-bytes.ts`, so that
 * nothing is built where the package is used. `runtime-bytes.test.ts` holds the two together.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compileRuntime, runtimeModule } from './compile.ts';

const bytes = await compileRuntime();
writeFileSync(join(import.meta.dirname, '../src/runtime-bytes.ts'), runtimeModule(bytes));
console.log(`runtime: ${bytes.length} bytes`);
