import { backTo, type Chains, defineFunction, stage, u16, u32 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { ChainError } from './chain-error.ts';
import { describeChain, describePipeline } from './description.ts';
import { fakeCompiler } from './fake-engine.ts';
import { drawChain } from './picture.ts';
import { planPipeline } from './pipeline-plan.ts';
import { type ChainPlan, planChain } from './plan.ts';
import { bounce, dynamic, fork, step } from './sample.ts';
import { drawSvg } from './svg.ts';

const plan = (...members: Parameters<typeof planChain>[0]): ChainPlan =>
  planPipeline('edge', { xdp: members }, fakeCompiler).chains.get('xdp') as ChainPlan;

/** `from label -> to`, one line for each edge. */
function edges(...members: Parameters<typeof planChain>[0]): string {
  const { stages } = describeChain(plan(...members));
  return stages
    .flatMap(({ name, edges }) =>
      edges.map(({ label, to, verdict, slot }) => `${name} ${label} -> ${to ?? verdict}${slot === undefined ? '' : ` [${slot}]`}`),
    )
    .join('\n');
}

test('each edge to a stage has a slot, verdicts have none', () => {
  expect(edges(fork('acl').on({ odd: 'drop' }), step('log'), bounce('tx'))).toMatchInlineSnapshot(`
    "acl next -> log [0]
    acl odd -> drop
    log next -> tx [1]"
  `);
});

test('a stage behind an exit ends the chain, next rejoins it, a sub-chain ends with pass', () => {
  expect(
    edges(fork('a').on({ odd: step('x') }), fork('b').on({ odd: 'next' }), fork('c').on({ odd: [step('y'), step('z')] }), step('d')),
  ).toMatchInlineSnapshot(`
    "a next -> b [0]
    a odd -> x [1]
    b next -> c [2]
    b odd -> c [3]
    c next -> d [4]
    c odd -> y [5]
    d next -> pass
    y next -> z [6]
    z next -> pass
    x next -> pass"
  `);
});

test('a sub-chain may rejoin the chain or end with a verdict', () => {
  expect(edges(fork('a').on({ odd: [step('x'), 'next'] }), fork('b').on({ odd: [step('y'), 'drop'] }), step('c'))).toMatchInlineSnapshot(`
    "a next -> b [0]
    a odd -> x [1]
    b next -> c [2]
    b odd -> y [3]
    c next -> pass
    y next -> drop
    x next -> b [4]"
  `);
});

test('a stage behind two exits is one program', () => {
  const reject = bounce('reject');
  expect(edges(fork('a').on({ odd: reject }), fork('b').on({ odd: reject }))).toMatchInlineSnapshot(`
    "a next -> b [0]
    a odd -> reject [1]
    b next -> pass
    b odd -> reject [2]"
  `);
});

test('functions are flattened; what is wired on them is seen from where they stand', () => {
  const vip = stage({
    name: 'vip',
    hook: 'xdp',
    program: (ctx) => (ctx.length > 9 ? ctx.exit('other') : ctx.length > 5 ? ctx.exit('miss') : ctx.next()),
  });
  const lb = defineFunction({ name: 'lb', stages: { xdp: [vip.on({ miss: [step('pick'), 'next'] }), bounce('encap')] } });
  expect(edges(step('first'), lb.on({ other: 'next' }), step('last'))).toMatchInlineSnapshot(`
    "first next -> lb.vip [0]
    lb.vip next -> lb.encap [1]
    lb.vip miss -> lb.pick [2]
    lb.vip other -> last [3]
    lb.pick next -> lb.encap [4]
    last next -> pass"
  `);
  expect(edges(lb.as('east').on({ other: [step('seen'), 'next'] }), lb.as('west').on({ other: 'drop' }))).toContain(
    'east.vip other -> seen',
  );
  expect(edges(fork('a').on({ odd: lb.on({ other: 'drop' }) }))).toContain('a odd -> lb.vip [0]');
});

test('a replacement keeps the place, its name and the declared wiring', () => {
  const other = stage({ name: 'v2', hook: 'xdp', program: (ctx) => (ctx.length > 9 ? ctx.exit('odd') : ctx.exit('even')) });
  const members = [fork('a').on({ odd: step('x') }), step('b')];
  const { places } = planChain(members, {
    hook: 'xdp',
    outcomesOf: fakeCompiler.outcomesOf,
    replacements: new Map([['a', other.on({ even: 'next' })]]),
  });
  expect([...places.keys()]).toEqual(['a', 'b', 'x']);
  expect(places.get('a')).toMatchObject({ stage: { name: 'v2' }, exits: { even: { place: 'b' }, odd: { place: 'x' } } });
});

const reads = stage({ name: 'reads', hook: 'xdp', reads: { flow: u32 }, program: (ctx) => (ctx.meta.flow ? ctx.drop() : ctx.next()) });
const writes = stage({
  name: 'writes',
  hook: 'xdp',
  writes: { flow: u32 },
  program(ctx) {
    ctx.meta.flow = 1;
    return ctx.next();
  },
});

test('metadata must be written on every way to its reader', () => {
  expect(() => plan(writes, reads)).not.toThrow();
  expect(() => plan(fork('a').on({ odd: [writes, reads] }), step('b'))).not.toThrow();
  expect(() => plan(fork('a').on({ odd: [writes, 'next'] }), reads)).toThrow(
    "'reads' reads 'flow', which is not written on every way to it",
  );
  expect(() => plan(fork('a').on({ odd: [writes, 'next'] }), writes.as('again'), reads)).not.toThrow();
});

const looped = (): Parameters<typeof planChain>[0] => {
  const wiring: Record<string, unknown> = {};
  const a = { ...fork('a'), wiring } as unknown as Parameters<typeof planChain>[0][number];
  wiring.odd = a;
  return [a];
};
const narrow = stage({ name: 'narrow', hook: 'xdp', reads: { flow: u16 }, program: (ctx) => (ctx.meta.flow ? ctx.drop() : ctx.next()) });
const shaper = stage({ name: 'shaper', hook: 'tcEgress', program: (ctx) => ctx.pass() });
const both = defineFunction({ name: 'both', stages: { xdp: [step('in')], tcEgress: [shaper] } });
const mixed = defineFunction({ name: 'mixed', stages: { xdp: [step('in')], tcEgress: [fork('out').at('tc')] } }).on({ odd: 'tx' } as never);
const egress = defineFunction({ name: 'egress', stages: { tcEgress: [shaper] } });

test('loops that are declared are planned: as deep as there are tail calls, with what every round has written', () => {
  const { loops, depth } = plan(writes, fork('a').on({ odd: backTo('writes') }), reads);
  expect([loops, depth]).toEqual([true, 33]);
  expect(edges(writes, fork('a').on({ odd: [step('x'), backTo('a')] }), reads)).toMatchInlineSnapshot(`
    "writes next -> a [0]
    a next -> reads [1]
    a odd -> x [2]
    reads next -> pass
    x next -> a [3]"
  `);
  const late = stage({
    name: 'late',
    hook: 'xdp',
    reads: { flow: u32 },
    program: (ctx) => (ctx.meta.flow ? ctx.exit('odd') : ctx.next()),
  });
  // written on the way round, and not on the way in
  expect(() => plan(...dynamic(step('first'), late.on({ odd: [writes, backTo('late')] })))).toThrow(
    "'late' reads 'flow', which is not written on every way to it",
  );
  const f = defineFunction({ name: 'f', stages: { xdp: [step('in'), fork('out').on({ odd: backTo('in') })] } });
  expect(edges(f.as('one'), f.as('two'))).toContain('two.out odd -> two.in');
  const g = defineFunction({ name: 'g', stages: { xdp: [fork('out')] } });
  expect(edges(step('a'), g.on({ odd: backTo('a') }))).toContain('g.out odd -> a');
});

test.each([
  ['no members', () => plan(), 'empty', 'the xdp chain has no members, expected at least one', undefined],
  ['an open exit', () => plan(...dynamic(fork('acl'))), 'open', "exit 'odd' of 'acl' leads nowhere", 'wire it with acl.on({ odd: … })'],
  [
    'an open exit in a function',
    () => plan(defineFunction({ name: 'f', stages: { xdp: [fork('a')] } })),
    'open',
    "exit 'odd' of 'f.a' leads nowhere",
    'wire it with f.on({ odd: … })',
  ],
  [
    'a wiring of no exit',
    () => plan(fork('acl').on({ odd: 'drop', late: 'drop' } as { odd: 'drop' })),
    'exit',
    "'acl' has no exit 'late'",
    "it has 'odd'",
  ],
  [
    'a wiring of no exit of a function',
    () => plan(defineFunction({ name: 'f', stages: { xdp: [fork('a')] } }).on({ odd: 'drop', late: 'drop' } as { odd: 'drop' })),
    'exit',
    "'f' has no exit 'late'",
    "it has 'odd'",
  ],
  ['one name twice', () => plan(...dynamic(step('log'), step('log'))), 'duplicate', "'log' is in this chain twice", 'name one with .as()'],
  [
    'one stage with two ways on',
    () => {
      const x = step('x');
      return plan(fork('a').on({ odd: x }), fork('b').on({ odd: [x, 'drop'] }));
    },
    'duplicate',
    "'x' is in this chain twice",
    'name one with .as()',
  ],
  [
    'a function twice',
    () => {
      const f = defineFunction({ name: 'f', stages: { xdp: [step('a')] } });
      return plan(f, f);
    },
    'duplicate',
    "'f.a' is in this chain twice",
    "name one 'f' with .as()",
  ],
  [
    'a stage behind a verdict',
    () => plan(fork('a').on({ odd: ['drop', step('x')] })),
    'unreachable',
    "stage 'x' can never be reached: 'drop' before it ends the sub-chain",
    undefined,
  ],
  [
    'a stage behind one that never goes on',
    () => plan(bounce('answer'), step('x')),
    'unreachable',
    "'x' can never be reached: 'answer' before it never calls next()",
    undefined,
  ],
  ['a cycle', () => plan(...looped()), 'cycle', "'a' leads back to itself", undefined],
  [
    'a way back to what is not there',
    () => plan(step('a'), fork('b').on({ odd: backTo('c') })),
    'absent',
    "an exit leads back to 'c', which is not in this chain",
    "it has 'a', 'b'",
  ],
  [
    'a way back that leads on',
    () => plan(fork('a').on({ odd: backTo('b') }), step('b')),
    'cycle',
    "exit 'odd' of 'a' leads back to 'b', which does not lead there",
    'backTo() takes the name of a stage that packets have passed',
  ],
  [
    'a stage behind a way back',
    () => plan(step('a'), fork('b').on({ odd: [backTo('a'), step('c')] })),
    'unreachable',
    "stage 'c' can never be reached: backTo('a') before it ends the sub-chain",
    undefined,
  ],
  ['another hook', () => plan(...dynamic(shaper)), 'hook', "stage 'shaper' has hook 'tcEgress'; 'xdp' is needed here", undefined],
  [
    'a function of another hook',
    () => planPipeline('edge', { xdp: [egress], tcEgress: [egress] } as Chains, fakeCompiler),
    'hook',
    "'egress' has no stages for xdp",
    undefined,
  ],
  [
    'half of a function',
    () => planPipeline('edge', { xdp: [both] } as Chains, fakeCompiler),
    'hook',
    "'both' must also be placed in tcEgress",
    'add it to tcEgress: [ … ]',
  ],
  [
    'two functions of one name',
    () => planPipeline('edge', { xdp: [both], tcEgress: [both, egress.as('both')] } as Chains, fakeCompiler),
    'duplicate',
    "two functions are named 'both'",
    'name one with .as()',
  ],
  [
    'a verdict of another hook',
    () => planPipeline('edge', { xdp: [mixed], tcEgress: [mixed] } as Chains, fakeCompiler),
    'hook',
    "'tx' is no verdict of TC egress",
    'it has pass, drop',
  ],
  [
    'a field that nobody writes',
    () => plan(step('a'), ...dynamic(reads)),
    'metadata',
    "'reads' reads 'flow', which is not written on every way to it",
    'no stage of this chain (XDP) writes it',
  ],
  [
    'a field written later',
    () => plan(...dynamic(reads, writes)),
    'metadata',
    "'reads' reads 'flow', which is not written on every way to it",
    "only 'writes' writes it, and not on every way",
  ],
  [
    'a field of two schemas',
    () => plan(...dynamic(writes, narrow)),
    'metadata',
    "metadata 'flow' is u32 in 'writes' and u16 in 'narrow'",
    undefined,
  ],
  [
    '34 stages',
    () => plan(...Array.from({ length: 34 }, (_, i) => step(`s${i}`))),
    'depth',
    'a packet can pass 34 stages, the kernel allows 33 tail calls',
    'the longest way is s0 → s1 → s2 → … → s33',
  ],
])('refuses %s', (_what, act, problem, message, hint) => {
  let caught: unknown;
  try {
    act();
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(ChainError);
  expect(caught).toMatchObject({ code: 'chain', problem, message, hint });
});

test('33 stages are allowed', () => {
  expect(plan(...Array.from({ length: 33 }, (_, i) => step(`s${i}`))).depth).toBe(33);
});

test('a loop is seen in pictures', () => {
  const looped = planPipeline('edge', { xdp: [step('first'), fork('turn').on({ odd: backTo('turn') })] } as Chains, fakeCompiler);
  const described = describePipeline<{ readonly xdp: 'first' | 'turn' }>('edge', looped);
  expect(described.chains.xdp).toMatchObject({ loops: true, depth: 33 });
  expect(drawChain(described.chains.xdp)).toMatchInlineSnapshot(`
    "╭──────────╮
    │ first    │
    ╰──┬───────╯
       │
    ╭──────────╮
    │ turn     │
    ╰──────────╯  next ─▶ pass · odd ↺ turn"
  `);
  expect(drawSvg(described)).toContain('>↺ odd<');
});
