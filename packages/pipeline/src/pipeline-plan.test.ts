import { type AnyStage, type Chains, stage, u8, u16, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { crossingOf } from './crossing.ts';
import { fakeCompiler } from './fake-engine.ts';
import { type PipelinePlan, planPipeline } from './pipeline-plan.ts';
import { bounce, fork, step } from './sample.ts';
import { layoutState } from './state.ts';

const plan = (chains: Readonly<Record<string, readonly AnyStage[]>>): PipelinePlan => planPipeline('edge', chains as Chains, fakeCompiler);

const classify = stage({
  name: 'classify',
  hook: 'xdp',
  writes: { flow: u32, tenant: u16 },
  program(ctx) {
    ctx.meta.flow = 1;
    ctx.meta.tenant = 2;
    return ctx.next();
  },
});
const account = stage({
  name: 'account',
  hook: 'tc',
  reads: { tenant: u16 },
  program: (ctx) => (ctx.meta.tenant ? ctx.next() : ctx.drop()),
});
const wide = stage({ name: 'wide', hook: 'tc', reads: { tenant: u64 }, program: (ctx) => (ctx.meta.tenant ? ctx.next() : ctx.drop()) });
const label = stage({
  name: 'label',
  hook: 'tc',
  writes: { tenant: u16 },
  program(ctx) {
    ctx.meta.tenant = 1;
    return ctx.next();
  },
});

test('TC ingress gets from XDP what its stages read and none of them writes before', () => {
  expect(plan({ xdp: [classify], tcIngress: [account] }).crossing).toEqual(['tenant']);
  expect(plan({ xdp: [classify], tcIngress: [label, account] }).crossing).toEqual([]);
  expect(
    plan({
      xdp: [classify],
      tcIngress: [
        fork('a')
          .at('tc')
          .on({ odd: [label, 'next'] }),
        account,
      ],
    }).crossing,
  ).toEqual(['tenant']);
  // what never passes owes nothing
  expect(plan({ xdp: [fork('a').on({ odd: bounce('back') }), classify], tcIngress: [account] }).crossing).toEqual(['tenant']);
});

test.each([
  [
    'a way to pass that writes nothing',
    { xdp: [fork('a').on({ odd: 'pass' }), classify], tcIngress: [account] },
    "'account' reads 'tenant', which is not written on every way to it",
    "XDP lets packets pass without it: exit:odd of 'a'",
  ],
  [
    'an XDP chain that does not know the field',
    { xdp: [step('a')], tcIngress: [account] },
    "'account' reads 'tenant', which is not written on every way to it",
    'no stage of this chain (TC ingress) writes it',
  ],
  [
    'TC egress, where nothing is carried to',
    { xdp: [classify], tcEgress: [account] },
    "'account' reads 'tenant', which is not written on every way to it",
    'no stage of this chain (TC egress) writes it',
  ],
  ['two schemas', { xdp: [classify], tcIngress: [wide] }, "metadata 'tenant' is u16 at XDP and u64 in 'wide'", undefined],
])('refuses %s', (_what, chains, message, hint) => {
  expect(() => plan(chains)).toThrowError(expect.objectContaining({ code: 'chain', problem: 'metadata', message, hint }));
});

test('crossing fields lie at the start of cb, in whole words', () => {
  const many = { a: u8, b: u64, c: u16, d: u32 };
  const from = stage({ name: 'from', hook: 'xdp', writes: many, program: (ctx) => ctx.next() });
  const to = stage({ name: 'to', hook: 'tcIngress', reads: { a: u8, b: u64 }, writes: { own: u16 }, program: (ctx) => ctx.next() });
  const { chains, crossing } = plan({ xdp: [from], tcIngress: [to] });
  const [xdp, ingress] = [chains.get('xdp'), chains.get('tcIngress')];
  if (!xdp || !ingress) expect.fail('a chain is missing');
  const moved = crossingOf({ pipeline: 'edge', version: 0 }, crossing, layoutState(xdp), layoutState(ingress, { crossing }));
  expect(moved).toMatchObject({
    words: 3,
    fields: [
      { name: 'a', from: 30, to: 8, size: 1 },
      { name: 'b', from: 16, to: 0, size: 8 },
    ],
  });
  expect(crossingOf({ pipeline: 'other', version: 0 }, crossing, layoutState(xdp), layoutState(ingress, { crossing }))?.tag).not.toBe(
    moved?.tag,
  );
  expect([...layoutState(ingress, { crossing }).fields].map(([name, { offset }]) => [name, offset])).toEqual([
    ['b', 0],
    ['a', 8],
    ['own', 10],
  ]);
});

test('cb holds 20 bytes', () => {
  const full = stage({ name: 'full', hook: 'tc', writes: { a: u64, b: u64, c: u64 }, program: (ctx) => ctx.next() });
  const { chains } = plan({ tcEgress: [full] });
  const egress = chains.get('tcEgress');
  expect(() => egress && layoutState(egress)).toThrow("__sk_buff.cb has no room for metadata 'c': 8 bytes, of 20");
});
