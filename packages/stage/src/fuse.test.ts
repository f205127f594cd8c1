import { expect, test } from 'vitest';
import { fuse } from './fuse.ts';
import { stage } from './stage.ts';
import { membersIn } from './wiring.ts';

const step = <const N extends string>(name: N) => stage({ name, hook: 'xdp', program: (ctx) => ctx.next() });
const direction = stage({ name: 'direction', hook: 'tcIngress', program: (ctx) => ctx.pass() });
const leaving = stage({ name: 'leaving', hook: 'tc', program: (ctx) => (ctx.length > 9 ? ctx.exit('long') : ctx.pass()) });

test('a group holds its members, in groups too', () => {
  const [a, b, c] = [step('a'), step('b'), step('c')];
  const group = fuse(a, fuse(b, c));
  expect(membersIn(group)).toEqual([a, b, c]);
  expect(Object.isFrozen(group) && Object.isFrozen(group.members)).toBe(true);
});

test('what is no member is refused by name of its kind', () => {
  const plain = fuse as (...members: unknown[]) => unknown;
  expect(() => plain()).toThrow('fuse: no members, expected at least one');
  expect(() => plain(step('a'), 'drop')).toThrow('fuse: a member is string, expected a stage, a function or a fused group');
});

test('a group behind an exit is checked, and gives its direction', () => {
  const wired = leaving.on({ long: fuse(direction) });
  expect(wired.hook).toBe('tcIngress');
  expect(() => (leaving as unknown as { on(wiring: object): unknown }).on({ long: [fuse(step('a'))] })).toThrow(
    "exit 'long' of 'leaving': stage 'a' has hook 'xdp'; 'tc' is needed here",
  );
});
