/** The command as users call it. Runs with and without clang. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { clangMissing } from './clang.ts';
import { HOOKS } from './hook.ts';
import type { Row } from './row.ts';

const folder = mkdtempSync(join(tmpdir(), 'tailrace-bench-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('bench', () => {
  it('writes rows and shows them as a table', () => {
    const file = join(folder, 'rows.json');
    const { status, stdout } = bench(['--quick', '--filter', 'count', '--json', file]);
    expect(stdout).toContain('known flow  tailrace');
    expect(stdout).not.toContain('\u001b');
    expect(status).toBe(0);
    const rows = JSON.parse(readFileSync(file, 'utf8')) as readonly Row[];
    const variants = clangMissing() === null ? ['tailrace', 'c-same'] : ['tailrace'];
    const known = rows.filter(({ name }) => name === 'known flow');
    const expected = HOOKS.flatMap((hook) => variants.map((variant) => ({ hook, variant })));
    expect(known.map(({ hook, variant }) => ({ hook, variant }))).toEqual(expected);
    for (const row of rows) expect(Object.keys(row)).toEqual(['suite', 'hook', 'name', 'variant', 'ns', 'ratio', 'spread', 'insns']);
  });

  it('says why the C side is missing', () => {
    const { status, stdout } = bench(['--quick', '--filter', 'known flow'], { CLANG: '/nowhere/clang' });
    expect(stdout).toContain('/nowhere/clang is not installed: the C side is left out');
    expect(stdout).not.toContain('c-same');
    expect(status).toBe(0);
  });

  it('has rows of one hook where it is asked for them', () => {
    const { status, stdout } = bench(['--quick', '--filter', 'counters tc']);
    expect(stdout).toContain('counters at tcIngress');
    expect(stdout).not.toContain('at xdp');
    expect(status).toBe(0);
  });

  it('measures proxies and what goes past TCP, beside others', () => {
    const file = join(folder, 'sockets.json');
    const { status, stdout } = bench(['--quick', '--filter', 'a connection', '--json', file], { HAPROXY: '/nowhere/haproxy' });
    expect(status).toBe(0);
    const rows = JSON.parse(readFileSync(file, 'utf8')) as readonly Row[];
    if (clangMissing() !== null) return expect(stdout).toContain('and with it the load generator');
    expect(stdout).toContain('/nowhere/haproxy is not installed: its rows are left out (apt-get install haproxy)');
    expect(rows.map(({ suite, variant }) => `${suite} ${variant}`)).toEqual([
      'splice tailrace',
      'splice kernel',
      'splice pipe',
      'splice direct',
      'bypass tailrace',
      'bypass kernel',
      'bypass direct',
    ]);
    for (const { variant, ratio, ratioSpread } of rows)
      expect({ ratio, ratioSpread }).toEqual(
        variant === 'tailrace' ? { ratio: null } : { ratio: expect.any(Number), ratioSpread: expect.any(Number) },
      );
  });

  it('refuses a filter that nothing matches, and unknown options', () => {
    expect(bench(['--filter', 'nonsense'])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("no suite has a case with 'nonsense' in its name"),
    });
    expect(bench(['--nonsense'])).toMatchObject({ status: 1, stderr: expect.stringContaining("unknown option '--nonsense'") });
  });
});

function bench(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  const main = fileURLToPath(new URL('./main.ts', import.meta.url));
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env: { ...process.env, ...environment } });
}
