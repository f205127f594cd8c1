/** The example of replaced services as users run it. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

test('health over HTTP by a fast clock, and maps that are kept in a folder', { timeout: 60_000 }, async () => {
  const script = fileURLToPath(new URL('services.ts', import.meta.url));
  const started = performance.now();
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [script]);
  expect(stderr).toBe('');
  const lines = stdout.trimEnd().split('\n');
  // three bad answers, a second from one to the next, as far as this machine keeps up
  const sick = [lines[0], lines[2]].map((line) =>
    Number(/run: 127\.0\.0\.3 was sick for (\d+) s, 127\.0\.0\.2 got all$/.exec(line ?? '')?.[1]),
  );
  for (const seconds of sick) expect(seconds).toBeGreaterThanOrEqual(2);
  expect([lines[1], lines[3]]).toEqual(['192.0.2.7 has sent 100 packets', '192.0.2.7 has sent 200 packets']);
  expect(performance.now() - started).toBeLessThan(45_000);
});
