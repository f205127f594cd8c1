/** Places under vitest, which transforms this file and strips its types: they must be the places as written here. */
import { expect, test } from 'vitest';
import { locate } from './locate.ts';

interface Shape {
  readonly length: number;
}

const method = {
  program(ctx: Shape) {
    return ctx.length; // line 11
  },
};
const arrow = (ctx: Shape) => (ctx.length > 9 ? 'long' : 'short'); // line 14

test('lines and texts are those of the file', () => {
  const text = method.program.toString();
  const at = locate(method.program as never, text).place(text.indexOf('ctx.length'));
  expect(at).toMatchObject({
    file: 'packages/compiler/src/locate.test.ts',
    line: 11,
    column: 12,
    text: '    return ctx.length; // line 11',
  });
  const short = arrow.toString();
  expect(locate(arrow as never, short).place(short.indexOf('ctx.length'))).toMatchObject({
    line: 14,
    text: expect.stringContaining('line 14'),
  });
});

test('a function without a script shows its own text', () => {
  const made = new Function('ctx', 'return ctx.next()') as never;
  const text = Function.prototype.toString.call(made);
  expect(locate(made, text).place(text.indexOf('return'))).toMatchObject({ text: expect.stringContaining('return ctx.next()') });
});
