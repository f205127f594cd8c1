import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { compileRuntime, runtimeModule } from '../runtime/compile.ts';

test('the bytes are what the runtime compiles to', { timeout: 30_000 }, async () => {
  const committed = readFileSync(join(import.meta.dirname, 'runtime-bytes.ts'), 'utf8');
  expect(committed === runtimeModule(await compileRuntime()), 'run `node runtime/build.ts` in packages/userspace').toBe(true);
});
