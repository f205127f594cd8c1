/** The command as a plugin of the public conformance suite. Its cases are not part of the project. */
import { existsSync, readFileSync } from 'node:fs';
import { encode, insn } from '@tailrace/bpf';
import { describe, expect, test } from 'vitest';
import { called, calledWith } from './main-fixture.ts';
import { casesFile, type IsaCase } from './vm-fixture.ts';

const hex = (...program: Parameters<typeof encode>[0]) => Buffer.from(encode(program)).toString('hex');
const answer = hex(insn.mov(0, -2), insn.exit());
const first = hex(insn.load(4, 0, 1, 0), insn.alu64('add', 0, { register: 2 }), insn.exit());

test.each(['wasm', 'interpreter'])('%s: hex in, hex out', async (engine) => {
  const options = ['--engine', engine];
  expect(await calledWith(answer, 'vm', ...options)).toEqual({ code: 0, out: 'fffffffffffffffe\n', err: '' });
  expect(await calledWith(answer, 'vm', '', ...options)).toMatchObject({ code: 0, out: 'fffffffffffffffe\n' });
  // as the suite writes bytes, and options before and after
  const spaced = `${first.replace(/../g, '$& ')}\n`.toUpperCase();
  expect(await calledWith(spaced, 'vm', '01 00 00 00 ff', ...options)).toMatchObject({ code: 0, out: '6\n' });
  expect(await calledWith(spaced, 'vm', ...options, '01000000ff')).toMatchObject({ code: 0, out: '6\n' });
  expect(await called('vm', '01000000ff', '--program', first, ...options)).toMatchObject({ code: 0, out: '6\n' });
});

test('a program over many chunks', async () => {
  const long = hex(insn.mov(0, 0), ...Array.from({ length: 20_000 }, () => insn.alu64('add', 0, 1)), insn.exit());
  expect(await calledWith(long, 'vm')).toEqual({ code: 0, out: '4e20\n', err: '' });
});

test.each([
  ['b7', ['--elf'], 2, "vm: unknown option '--elf'"],
  ['b7', ['00', '11'], 2, "vm: '11' is one argument too many"],
  ['b7', ['--engine', 'jit'], 2, "vm: --engine is 'jit', expected wasm, interpreter, kernel"],
  ['', [], 1, 'program is empty, expected bytes in hex on standard input'],
  ['b7 0g', [], 1, "program has 'g', expected bytes in hex"],
  ['b7 0', [], 1, 'program has 1 hex digits in a row, expected two for each byte'],
  ['b7', ['0x00'], 1, "memory has 'x', expected bytes in hex"],
  ['b700', [], 1, 'a program of 2 bytes, expected a multiple of 8'],
  [hex(insn.load(4, 0, 1, 0), insn.exit()), [], 1, 'program program, pc 0: read of 4 bytes outside a null pointer'],
  [hex(insn.load(4, 0, 1, 2), insn.exit()), ['00112233'], 1, /^program program, pc 0: read of 4 bytes outside the packet/],
  [hex(insn.ja(-1), insn.exit()), [], 1, 'program program, pc 0: too many turns of loops, expected the program to end'],
])('one line for %j %j', async (program, args, code, message) => {
  const result = await calledWith(program, 'vm', ...args);
  expect({ ...result, err: result.err.replace(/^tailrace: /, '').trimEnd() }).toEqual({
    code,
    out: '',
    err: typeof message === 'string' ? message : expect.stringMatching(message),
  });
  expect(result.err).toMatch(/^tailrace: [^\n]+\n$/);
});

const isThere = existsSync(casesFile);
describe.skipIf(!isThere)(`conformance${isThere ? '' : ': the folder with the cases is not there'}`, () => {
  const cases: readonly IsaCase[] = isThere ? JSON.parse(readFileSync(casesFile, 'utf8')) : [];
  test.each(['wasm', 'interpreter'])('%s', async (engine) => {
    for (const { name, program, memory, expect: expected, result } of cases) {
      const { code, out, err } = await calledWith(program, 'vm', memory, '--engine', engine);
      if (expected === 'reject') expect([name, code, out, err]).toEqual([name, 1, '', expect.stringMatching(/^tailrace: [^\n]+\n$/)]);
      else expect([name, code, out, err]).toEqual([name, 0, `${BigInt(result ?? 0).toString(16)}\n`, '']);
    }
  });
});
