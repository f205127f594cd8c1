/**
 * The public cases of the instruction set, on both ways to run a program. Their folder is not part of the project; where it is
 * not there, the table of `vm.test.ts` still covers every instruction.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EncodingError } from '@tailrace/bpf';
import { describe, expect, test } from 'vitest';
import { runProgram } from './vm.ts';

interface Case {
  readonly name: string;
  readonly program: string;
  readonly memory?: string;
  readonly expect: { readonly value: string } | { readonly reject: string } | string;
  readonly result?: string;
  readonly why?: string;
}

const file = join(import.meta.dirname, '../../../../shared/conformance/isa.json');
const isThere = existsSync(file);

describe.skipIf(!isThere)(`conformance${isThere ? '' : ': the folder with the cases is not there'}`, () => {
  const cases: readonly Case[] = isThere ? JSON.parse(readFileSync(file, 'utf8')) : [];
  describe.each(['interpreter', 'wasm'] as const)('%s', (mode) => {
    test.each(cases.map((entry) => [entry.name, entry] as const))('%s', (_, entry) => {
      const run = () => runProgram(Buffer.from(entry.program, 'hex'), Buffer.from(entry.memory ?? '', 'hex'), { mode });
      if (entry.expect === 'reject') expect(run).toThrow(EncodingError);
      else expect(run().value.toString(16)).toBe(BigInt(entry.result ?? 0).toString(16));
    });
  });
});
