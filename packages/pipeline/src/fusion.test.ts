/** Which places share a program, and what replacing one of them takes. */
import { type AnyStage, type ChainItem, fuse, stage, u32 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { fakeCompiler } from './fake-engine.ts';
import { pipeline } from './pipeline.ts';
import { changeOf, planChain } from './plan.ts';
import { dynamic, fork, step } from './sample.ts';

const plan = (members: readonly ChainItem[], replacements?: ReadonlyMap<string, AnyStage>) =>
  planChain(members, { hook: 'xdp', outcomesOf: fakeCompiler.outcomesOf, ...(replacements ? { replacements } : {}) });
const programs = (...members: readonly ChainItem[]) => Object.fromEntries(plan(members).programs);

test('a group is one program, with what lies behind its exits', () => {
  const fused = plan([step('a'), fuse(fork('b').on({ odd: [step('x'), step('y')] }), step('c')), step('d')]);
  expect(Object.fromEntries(fused.programs)).toEqual({ a: ['a'], b: ['b', 'x', 'y', 'c'], d: ['d'] });
  expect([...fused.slots]).toEqual([
    ['a next', 0],
    ['c next', 1],
  ]);
  expect(fused.depth).toBe(3);
});

test('ways that meet stay in the program, and groups in groups are one', () => {
  expect(programs(fuse(fork('b').on({ odd: [step('x'), 'next'] }), fuse(step('c'), step('d'))))).toEqual({ b: ['b', 'x', 'c', 'd'] });
});

test('a place that is reached from outside begins a program', () => {
  const shared = step('shared');
  expect(programs(fork('a').on({ odd: shared }), fuse(fork('b').on({ odd: shared }), step('c')))).toEqual({
    a: ['a'],
    b: ['b', 'c'],
    shared: ['shared'],
  });
});

test('where packets come by two programs, a third begins', () => {
  const members = [fork('a').on({ odd: [fuse(step('x'), step('y')), 'next'] }), fuse(step('c'), step('d'))] as const;
  expect(programs(fuse(...members))).toEqual({ a: ['a', 'x', 'y', 'c', 'd'] });
  expect(programs(...members)).toEqual({ a: ['a'], c: ['c', 'd'], x: ['x', 'y'] });
});

test('a replaced stage is in the group of its place, with what it brings along', () => {
  const members = [fuse(step('a'), fork('b').on({ odd: 'drop' }), step('c'))];
  const by = fork('b2').on({ odd: [step('new')] });
  expect(Object.fromEntries(plan(members, new Map([['b', by]])).programs)).toEqual({ a: ['a', 'b', 'new', 'c'] });
});

test('replacing a fused stage takes one slot where one edge leads to its program', () => {
  const members = [step('a'), fuse(step('b'), step('c')), step('d')];
  const [before, after] = [plan(members), plan(members, new Map([['c', step('c2')]]))];
  expect(changeOf(before, after)).toMatchObject({ kind: 'slot', place: 'b', slot: 0 });
  expect(changeOf(before, plan(members))).toMatchObject({ kind: 'none' });
  expect(changeOf(before, plan([step('a'), step('b'), fuse(step('c'), step('d'))]))).toMatchObject({ kind: 'generation' });
});

test('a fused program in front must hand on what a replacement asks for', () => {
  const writer = stage({
    name: 'writer',
    hook: 'xdp',
    writes: { mark: u32 },
    program(ctx) {
      ctx.meta.mark = 1;
      return ctx.next();
    },
  });
  const reader = stage({ name: 'reader', hook: 'xdp', reads: { mark: u32 }, program: (ctx) => (ctx.meta.mark ? ctx.drop() : ctx.next()) });
  const members = [fuse(writer, step('b')), step('c'), step('d')];
  const swap = (by: AnyStage) => changeOf(plan(members), plan(members, new Map([['c', by]])));
  expect(swap(step('c2'))).toMatchObject({ kind: 'slot', place: 'c' });
  expect(swap(reader)).toMatchObject({ kind: 'generation' });
});

test('chains of more stages than tail calls run when they are fused', () => {
  const long = Array.from({ length: 40 }, (_, i) => step(`s${i}`));
  expect(() => plan(long)).toThrow('a packet can pass 40 stages, the kernel allows 33 tail calls');
  expect(plan([fuse(...(long as unknown as [AnyStage]))]).depth).toBe(1);
  const pairs = Array.from({ length: 34 }, (_, i) => fuse(step(`a${i}`), step(`b${i}`)));
  expect(() => plan(pairs)).toThrow('a packet can pass 34 programs, the kernel allows 33 tail calls');
});

test('an object is a program of its own: a group that names it is refused, in a fused pipeline it stands alone', () => {
  const object = { ...step('o'), object: {} } as unknown as AnyStage;
  expect(() => plan([fuse(step('a'), object)])).toThrow("'o' comes out of an object, which is a program of its own, and cannot be fused");
  const { chains } = pipeline('edge', { xdp: dynamic(step('a'), step('b'), object, step('c'), step('d')) }, { fuse: true });
  expect(programs(...(chains.xdp ?? []))).toEqual({ a: ['a', 'b'], o: ['o'], c: ['c', 'd'] });
});
