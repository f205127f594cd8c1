import { stage, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { hooksOf } from './everywhere.ts';

test('the hooks that a stage can serve', () => {
  const guard = stage({ name: 'guard', hook: 'xdp', program: (ctx) => (ctx.ipv4() ? ctx.pass() : ctx.drop()) });
  expect(hooksOf(guard)).toEqual(['xdp', 'tcIngress', 'tcEgress']);
  const bounce = stage({ name: 'bounce', hook: 'xdp', program: (ctx) => ctx.tx() });
  expect(hooksOf(bounce)).toEqual(['xdp']);
  const marks = stage({
    name: 'marks',
    hook: 'tc',
    program(ctx) {
      ctx.mark = 3;
      return ctx.pass();
    },
  });
  expect(hooksOf(marks)).toEqual(['tcIngress', 'tcEgress']);
  const peer = stage({ name: 'peer', hook: 'tcIngress', program: (ctx) => ctx.redirectPeer(3) });
  expect(hooksOf(peer)).toEqual(['tcIngress']);
  const roomy = stage({ name: 'roomy', hook: 'xdp', writes: { a: u64, b: u64, c: u64 }, program: (ctx) => ctx.pass() });
  expect(hooksOf(roomy)).toEqual(['xdp']);
  const wrong = stage({ name: 'wrong', hook: 'xdp', program: (ctx) => (Date.now() > 3 ? ctx.pass() : ctx.drop()) });
  expect(() => hooksOf(wrong)).toThrow('Date');
});
