import { expect, test } from 'vitest';
import { backTo, isBackTo } from './back-to.ts';
import { stage } from './stage.ts';

const turn = stage({ name: 'turn', hook: 'xdp', program: (ctx) => (ctx.length > 60 ? ctx.exit('again') : ctx.next()) });

test('a way back is a target, alone and behind others', () => {
  const log = stage({ name: 'log', hook: 'xdp', program: (ctx) => ctx.next() });
  expect(turn.on({ again: backTo('turn') }).wiring.again).toEqual({ kind: 'backTo', name: 'turn' });
  expect(turn.on({ again: [log, backTo('lb.pick')] }).wiring.again).toEqual([log, { kind: 'backTo', name: 'lb.pick' }]);
  expect([isBackTo(backTo('a')), isBackTo('a'), isBackTo(turn)]).toEqual([true, false, false]);
});

test.each(['', 'a b', '1', 'a.'])("'%s' is no name", (name) => {
  expect(() => backTo(name)).toThrow(`backTo: '${name}' is no name of a stage`);
});
