import { expect, test } from 'vitest';
import { programSpec } from './fixture.ts';
import { allocate } from './memory.ts';
import { type RunCommand, testRun } from './test-run.ts';

test('a kernel that does not know checksumComplete refuses the flag before it looks at anything', async () => {
  const commands: Parameters<RunCommand>[0][] = [];
  const run: RunCommand = async (attributes, memory) => {
    commands.push(attributes);
    return { result: -22, attributes: allocate(72), memory };
  };
  const spec = programSpec('sample.old', [], { type: 'schedCls' });
  await expect(testRun(5, spec, { packet: new Uint8Array(64), checksumComplete: true }, run)).rejects.toMatchObject({
    code: 'unsupported',
    message: 'this kernel cannot run tests with checksumComplete',
  });
  // The second asks only for the flag: without a packet nothing runs.
  expect(commands.map(({ flags, data_in }) => [flags, data_in !== undefined])).toEqual([
    [4, true],
    [4, false],
  ]);
});
