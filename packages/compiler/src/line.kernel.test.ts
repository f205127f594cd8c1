/** What the verifier says against a program is said of the TypeScript line that the instruction comes from. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Instruction, type ProgramSpec, slotCount } from '@tailrace/bpf';
import { formatVerifierError, type KernelInstance, kernel, VerifierError } from '@tailrace/kernel';
import { type AnyStage, fn, hash, stage, toMapSpec, u32, u64 } from '@tailrace/stage';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compileStage } from './compile.ts';

let engine: KernelInstance;
beforeAll(async () => {
  engine = await kernel({ interfaces: [] }).open();
});
afterAll(() => engine.close());

const counts = hash({ name: 'counts', key: u32, value: u64, maxEntries: 10 });
const lower = fn([u32], u32, (ttl) => {
  const one = ttl - 1;
  return one === 0 ? 7 : one; // in the fn
});
const subject = stage({
  name: 'subject',
  hook: 'xdp',
  uses: { counts, lower },
  program(ctx, { counts, lower }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    ip.tos = 3; // the store
    const hits = counts.lookup(ip.saddr);
    if (!hits) return ctx.drop();
    hits.value += 1n; // the addition
    ip.ttl = lower(ip.ttl);
    return ctx.tx();
  },
});
const file = fileURLToPath(import.meta.url);
const lines = readFileSync(file, 'utf8').split('\n');
const lineOf = (text: string): number => lines.findIndex((line) => line.includes(text) && !line.includes('lineOf')) + 1;

/** Loads the program with some of its instructions replaced, and gives what the verifier says. */
async function rejection(of: AnyStage, broken: (instruction: Instruction) => Instruction): Promise<VerifierError> {
  const { program, maps } = compileStage(of);
  const instructions = program.instructions.map(broken);
  const loaded = new Map([...maps].map(([name, map]) => [name, engine.createMap(toMapSpec(map, name))]));
  const error: unknown = await engine.loadProgram({ ...program, instructions } satisfies ProgramSpec, loaded).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  for (const map of loaded.values()) map.close();
  return error instanceof VerifierError ? error : expect.unreachable(`not rejected: ${String(error)}`);
}

const Jump = { always: 0x05, equal: 0x15, notEqual: 0x55, beyond: 0x2d } as const;

/** Bounds checks let everything through. */
const unchecked = (instruction: Instruction): Instruction =>
  instruction.opcode === Jump.beyond ? { ...instruction, opcode: Jump.always, dst: 0, src: 0, offset: 0 } : instruction;

/** Tests for undefined go the other way. */
function inverted(instruction: Instruction): Instruction {
  if (instruction.imm !== 0 || (instruction.opcode !== Jump.equal && instruction.opcode !== Jump.notEqual)) return instruction;
  return { ...instruction, opcode: instruction.opcode === Jump.equal ? Jump.notEqual : Jump.equal };
}

test('a packet that is not checked', async () => {
  const error = await rejection(subject, unchecked);
  expect(error.source).toMatchObject({ line: lineOf('const ip = ctx.ipv4();'), text: lines[lineOf('const ip = ctx.ipv4();') - 1] });
  expect(formatVerifierError(error)).toContain('    const ip = ctx.ipv4();\n');
});

test('a lookup that is used where it found nothing', async () => {
  const error = await rejection(subject, inverted);
  expect(error.source).toMatchObject({ line: lineOf('// the addition'), column: 5, text: lines[lineOf('// the addition') - 1] });
  // the log quotes the lines of all that it went through
  const marks = [...error.log.matchAll(/^; (.*) @ (\S+):(\d+)$/gm)];
  expect(marks.length).toBeGreaterThan(4);
  for (const [, text, where, line] of marks) {
    expect(file.endsWith(where ?? '?')).toBe(true);
    expect(lines[Number(line) - 1]?.trim()).toBe(text);
  }
});

test('every line is one of the source, and the lines that touch memory are there', () => {
  const { program } = compileStage(subject);
  for (const [i, { pc, file: where, line, column, text }] of program.lines.entries()) {
    expect(pc).toBeGreaterThanOrEqual(i === 0 ? 0 : (program.lines[i - 1]?.pc ?? 0) + 1);
    expect(pc).toBeLessThan(slotCount(program.instructions));
    expect([file.endsWith(where), lines[line - 1], column >= 1 && column <= text.length]).toEqual([true, text, true]);
  }
  expect(program.lines[0]?.pc).toBe(0);
  const seen = new Set(program.lines.map(({ line }) => line));
  for (const text of [
    'const ip = ctx.ipv4()',
    '// the store',
    '= counts.lookup',
    'if (!hits)',
    '// the addition',
    'ip.ttl = lower',
    '// in the fn',
    'return ctx.tx()',
  ])
    expect([text, seen.has(lineOf(text))]).toEqual([text, true]);
  expect(program.functions).toEqual([{ pc: 0, name: 'subject' }]);
});
