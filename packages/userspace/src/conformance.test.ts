/**
 * The public cases of the instruction set, on both ways to run a program; none is left out. Their folder is not part of the
 * project; where it is not there, the tables of `vm.test.ts` still cover every instruction.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EncodingError } from '@tailrace/bpf';
import { describe, expect, test } from 'vitest';
import { runProgram } from './vm.ts';

interface Case {
  readonly name: string;
  /** Hex. */
  readonly program: string;
  readonly memory: string;
  readonly expect: 'value' | 'reject';
  /** r0, hex. */
  readonly result?: string;
}

const file = join(import.meta.dirname, '../../../../shared/conformance/isa.json');
const isThere = existsSync(file);
if (!isThere) console.warn(`the instruction-set suite is skipped: there is no ${file}`);

describe.skipIf(!isThere)('instruction-set suite', () => {
  const cases: readonly Case[] = isThere ? JSON.parse(readFileSync(file, 'utf8')) : [];

  test('has cases', () => {
    expect(cases.length).toBeGreaterThan(300);
  });

  describe.each(['interpreter', 'wasm'] as const)('%s', (mode) => {
    test.each(cases.map((entry) => [entry.name, entry] as const))('%s', (_name, entry) => {
      const run = () => runProgram(Buffer.from(entry.program, 'hex'), Buffer.from(entry.memory, 'hex'), { mode });
      if (entry.expect === 'reject') expect(run).toThrow(EncodingError);
      else expect(`0x${run().value.toString(16)}`).toBe(`0x${BigInt(entry.result ?? 0).toString(16)}`);
    });
  });
});
