import { ArgumentError } from '@tailrace/bpf';
import { CompileError } from '@tailrace/compiler';
import { VerifierError } from '@tailrace/kernel';
import { expect, test } from 'vitest';
import { ExitCode, UsageError } from './arguments.ts';
import { reportFailure, reportLine } from './failure.ts';
import { ImportError } from './pipeline-module.ts';

function told(error: unknown, color = false, report = reportFailure): { readonly text: string; readonly code: number } {
  const written: string[] = [];
  const output = {
    write: (text: string) => void written.push(text),
    ready: () => undefined,
    color,
    live: color,
    size: undefined,
    onClosed: () => () => undefined,
  };
  const code = report(error, output);
  return { text: written.join(''), code };
}

test('one line and the hint, and no stack trace', () => {
  expect(told(new ArgumentError('there is no interface eth7', { hint: 'interfaces here: lo', cause: new RangeError('x') }))).toEqual({
    text: 'tailrace: there is no interface eth7\ninterfaces here: lo\n',
    code: ExitCode.failed,
  });
  expect(told(new ArgumentError('no hint'), true).text).toBe('\u001b[31mtailrace:\u001b[0m no hint\n');
  expect(told(new ArgumentError('a hint', { hint: 'do this' }), true).text).toContain('\u001b[2mdo this\u001b[0m');
});

test('wrong use has a code of its own', () => {
  expect(told(new UsageError('no command')).code).toBe(ExitCode.wrongUse);
});

test('a refused stage is shown with its line', () => {
  const place = { file: '/x/edge.ts', line: 3, column: 5, text: '    if (LIMIT) {' };
  const error = new CompileError({
    id: 'name',
    stage: 'acl',
    message: "'LIMIT' comes from outside",
    place: { ...place, column: 9 },
    length: 5,
  });
  expect(told(error)).toMatchInlineSnapshot(`
    {
      "code": 1,
      "text": "/x/edge.ts:3:9: stage 'acl': 'LIMIT' comes from outside
     3 |     if (LIMIT) {
       |         ^^^^^
    ",
    }
  `);
});

test('a rejected program is shown with its registers', () => {
  const registers = [{ name: 'R1', state: 'pkt(r=14)' }];
  const error = new VerifierError({
    program: 'acl',
    reason: 'invalid access to packet',
    pc: 7,
    instruction: 'r2 = *(u32 *)(r1 +26)',
    registers,
    log: '',
  });
  expect(told(error)).toMatchInlineSnapshot(`
    {
      "code": 1,
      "text": "verifier rejected acl: invalid access to packet
      instruction 7: r2 = *(u32 *)(r1 +26)
      R1 = pkt(r=14)
    ",
    }
  `);
});

test('errors of another copy of these packages are known by their shape', () => {
  const foreign = Object.assign(new Error('a chain is too deep'), { code: 'chain', hint: 'make it shorter' });
  expect(told(foreign).text).toBe('tailrace: a chain is too deep\nmake it shorter\n');
});

test('other errors keep their stack, and so does what a module threw', () => {
  const mistake = new TypeError('x is not a function');
  expect(told(mistake)).toMatchObject({
    text: expect.stringMatching(/^tailrace: TypeError: x is not a function\n {4}at /),
    code: ExitCode.failed,
  });
  const text = expect.stringMatching(/^tailrace: edge\.ts cannot be imported\nTypeError: x is not a function\n {4}at /);
  expect(told(new ImportError('edge.ts cannot be imported', { cause: mistake }))).toMatchObject({ text });
  expect(told('thrown as text').text).toBe("tailrace: 'thrown as text'\n");
});

test('one line for those who read by lines', () => {
  const line = (error: unknown) => told(error, false, reportLine);
  expect(line(new ArgumentError('no hex', { hint: 'two digits' }))).toEqual({ text: 'tailrace: no hex\n', code: ExitCode.failed });
  expect(line(new UsageError('vm: what'))).toEqual({ text: 'tailrace: vm: what\n', code: ExitCode.wrongUse });
  expect(line(new TypeError('x is not\na function')).text).toBe('tailrace: TypeError: x is not\n');
  expect(line('thrown').text).toBe("tailrace: 'thrown'\n");
});
