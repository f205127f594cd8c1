/** What users are told of their mistakes: where, what, and what to do, through the same calls that they make. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type AnyStage, ConflictError, hash, kernel, pipeline, stage, u32, u64 } from 'tailrace';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { heldBy, openFds } from './kernel-objects.ts';
import type { Told } from './mistaken-stages.ts';

const script = fileURLToPath(new URL('mistaken-stages.ts', import.meta.url));
let before: { readonly fds: number; readonly programs: readonly number[] };
beforeEach(() => {
  before = { fds: openFds(), programs: heldBy('self').programs };
});
afterEach(() => {
  expect({ fds: openFds(), programs: heldBy('self').programs }).toEqual(before);
});

/** A pipeline of stages that were put together at run time, so that the types know nothing of them. */
const run = (...members: readonly AnyStage[]) => pipeline('edge', { xdp: [...members] }).run(kernel({ interfaces: [] }));

test('an exit that leads nowhere, in a chain that was built at run time', async () => {
  const guard = stage({ name: 'guard', hook: 'xdp', program: (ctx) => (ctx.ipv4() ? ctx.next() : ctx.exit('notIp')) });
  const members: AnyStage[] = [];
  members.push(guard);
  await expect(run(...members)).rejects.toMatchObject({
    name: 'ChainError',
    code: 'chain',
    problem: 'open',
    message: "exit 'notIp' of 'guard' leads nowhere",
    hint: 'wire it with guard.on({ notIp: … })',
  });
});

test('two maps of one global name that differ: the fields', async () => {
  const first = hash({ name: 'sessions', key: u32, value: u64, maxEntries: 1_024, global: true });
  const second = hash({ name: 'sessions', key: u64, value: u64, maxEntries: 4_096, global: true });
  const reader = stage({
    name: 'reader',
    hook: 'xdp',
    uses: { first },
    program: (ctx, { first }) => (first.lookup(1) ? ctx.drop() : ctx.next()),
  });
  const writer = stage({
    name: 'writer',
    hook: 'xdp',
    uses: { second },
    program: (ctx, { second }) => (second.lookup(1n) ? ctx.drop() : ctx.next()),
  });
  const error: unknown = await run(reader, writer).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ConflictError);
  expect(error).toMatchObject({
    code: 'conflict',
    message: "global map 'sessions' of 'reader' and 'writer': key is u32 and u64, maxEntries is 1024 and 4096",
    hint: 'declare it once and import it',
    differences: [
      { field: 'key', ours: 'u32', theirs: 'u64' },
      { field: 'maxEntries', ours: '1024', theirs: '4096' },
    ],
  });
});

/** The number of the one line of the stages that holds this text and nothing else, from 1. */
const lineOf = (text: string): number =>
  readFileSync(script, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .indexOf(text) + 1;

test('what stages get wrong is shown with the line, the caret and the registers', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [script], { cwd: dirname(script) });
  const [compile, verifier] = JSON.parse(stdout) as readonly Told[];
  const file = 'mistaken-stages.ts';
  const greedy = lineOf('program: (ctx) => (ctx.length > outer ? ctx.drop() : ctx.next()),');
  expect(compile).toMatchObject({ name: 'CompileError', place: { file, line: greedy, column: 35 } });
  expect(compile?.message).toMatch(`${file}:${greedy}:35: `);
  expect(compile?.shown).toMatchInlineSnapshot(`
    "mistaken-stages.ts:38:35: stage 'greedy': 'outer' comes from outside the program
     38 |   program: (ctx) => (ctx.length > outer ? ctx.drop() : ctx.next()),
        |                                   ^^^^^
        = hint: a program sees only its parameters: add it to uses: { outer } and take it from the second parameter"
  `);
  const expired = lineOf('return ip.ttl < 2 ? ctx.drop() : ctx.next();');
  expect(verifier).toMatchObject({ name: 'VerifierError', place: { file, line: expired, column: 12 } });
  expect(verifier?.shown).toMatchInlineSnapshot(`
    "verifier rejected expired: invalid access to packet, off=2000 size=1, R0(id=0,off=2000,r=34); R0 offset is outside of the packet
       --> mistaken-stages.ts:47:12
       |
    47 |     return ip.ttl < 2 ? ctx.drop() : ctx.next();
       |            ^
      instruction 10: r0 = *(u8 *)(r0 +2000)
      R0 = pkt(id=0,off=2000,r=34)
      caused by: bpf(BPF_PROG_LOAD) for program expired failed: EACCES, permission denied"
  `);
  expect(verifier?.full).toContain('verifier log:');
  expect(verifier?.full).toMatch(/processed \d+ insns/);
});
