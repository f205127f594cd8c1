import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { effectiveCapabilities, requireBpf, requireCapabilities, requireKernel } from './privilege.ts';

test('the machine that runs these tests has what it takes', () => {
  requireKernel();
  requireCapabilities(true, effectiveCapabilities());
  requireBpf();
});

test('a process without privileges is told what it lacks', () => {
  const source = `
    import { kernel } from ${JSON.stringify(new URL('./engine.ts', import.meta.url).href)};
    await kernel({ interfaces: ['lo'] }).open().catch((error) => console.log(error.code, error.message));
  `;
  const child = spawnSync(process.execPath, ['--input-type=module', '--eval', source], {
    uid: 65534,
    gid: 65534,
    encoding: 'utf8',
  });
  expect(child.stdout).toBe('privilege the kernel engine lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON\n');
});
