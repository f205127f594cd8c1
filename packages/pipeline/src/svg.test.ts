import { expect, test } from 'vitest';
import type { ChainVerdict } from './chain-hook.ts';
import type { ChainDescription, EdgeDescription, PipelineDescription, StageDescription } from './description.ts';
import type { StageStats } from './stats.ts';
import { drawSvg } from './svg.ts';

type Chains = { readonly [K in 'xdp' | 'tcIngress' | 'tcEgress']?: string };

function stage(name: string, edges: Readonly<Record<string, string>>, rest: Partial<StageDescription> = {}): StageDescription {
  const described = Object.entries(edges).map(([label, target]): EdgeDescription => {
    const kind = label === 'next' ? 'next' : 'exit';
    return /^(pass|drop|tx)$/.test(target) ? { kind, label, verdict: target } : { kind, label, to: target, slot: 0 };
  });
  return { name, stage: name, edges: described, reads: [], writes: [], maps: [], reasons: [], ...rest };
}

function chain(hook: ChainDescription['hook'], ...stages: readonly StageDescription[]): ChainDescription {
  return { hook, first: stages[0]?.name ?? '', depth: stages.length, stages };
}

/** What is written, from top to bottom and left to right, with where it is. */
function texts(svg: string): readonly { readonly x: number; readonly y: number; readonly text: string }[] {
  return [...svg.matchAll(/<text x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)<\/text>/g)]
    .map(([, x, y, text]) => ({ x: Number(x), y: Number(y), text: text ?? '' }))
    .sort((a, b) => a.y - b.y || a.x - b.x);
}

function boxes(svg: string): readonly { readonly x: number; readonly y: number; readonly right: number; readonly bottom: number }[] {
  return [...svg.matchAll(/<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"/g)].map(([, ...numbers]) => {
    const [x = 0, y = 0, width = 0, height = 0] = numbers.map(Number);
    return { x, y, right: x + width, bottom: y + height };
  });
}

const small: PipelineDescription<Chains> = {
  name: 'hooks',
  crossing: ['tenant'],
  chains: {
    xdp: chain('xdp', stage('classify', { next: 'pass', runt: 'drop' }, { writes: ['tenant'] })),
    tcIngress: chain(
      'tcIngress',
      stage('account', { next: 'last' }, { reads: ['tenant'], maps: ['tenants'] }),
      stage('last', { next: 'pass' }),
    ),
    tcEgress: chain('tcEgress', stage('count', { next: 'pass' })),
  } as PipelineDescription<Chains>['chains'],
};
const wide: PipelineDescription<Chains> = {
  name: 'wide',
  crossing: [],
  chains: {
    xdp: chain(
      'xdp',
      stage(
        'vip',
        { next: 'pick', icmp: 'echo', v6: 'pick6', malformed: 'drop' },
        { maps: Array.from({ length: 12 }, (_, i) => `map-number-${i}`) },
      ),
      stage('pick', { next: 'encap' }),
      stage('encap', { big: 'tooBig' }),
      stage('tooBig', {}),
      stage('echo', { next: 'tx' }),
      stage('pick6', { next: 'encap', noReal: 'drop' }),
    ),
    tcEgress: chain('tcEgress', ...Array.from({ length: 32 }, (_, i) => stage(`s${i}`, { next: i < 31 ? `s${i + 1}` : 'pass' }))),
  } as PipelineDescription<Chains>['chains'],
};

test('three hooks, in words', () => {
  expect(texts(drawSvg(small, { wire: 'eth0' })).map(({ text }) => text)).toMatchInlineSnapshot(`
    [
      "hooks",
      "tenant",
      "eth0",
      "XDP",
      "TC ingress",
      "network stack",
      "TC egress",
      "eth0",
      "classify",
      "account",
      "count",
      "writes tenant",
      "reads tenant",
      "next",
      "pass",
      "maps tenants",
      "next",
      "pass",
      "runt",
      "drop",
      "next",
      "last",
      "next",
      "pass",
    ]
  `);
});

test('counters, verdicts and misses', () => {
  const verdicts = { abort: 0n, drop: 4n, pass: 0n, tx: 0n, redirect: 0n } satisfies Record<ChainVerdict, bigint>;
  const classify: StageStats<ChainVerdict> = {
    packets: 1204n,
    bytes: 96_320n,
    verdicts,
    next: 1188n,
    exits: { runt: 12n },
    drops: { blocked: 3n, old: 1n, none: 0n },
    misses: 1n,
  };
  const written = texts(drawSvg(small, { stats: { xdp: { classify } } })).map(({ text }) => text);
  expect(written).toEqual(expect.arrayContaining(['1,204 packets · 96.3 kB', 'drop 4', 'for blocked 3, old 1', 'missed 1', '1,188', '12']));
});

const onTrial = { traffic: { share: 0.125 }, hooks: ['xdp', 'tcEgress'], pipeline: wide } as const;

test.each([
  ['small', drawSvg(small)],
  ['wide', drawSvg(wide)],
  // the frame around a canary has its boxes in it
  ['a canary', drawSvg(small, { canary: onTrial }).replaceAll(/<rect[^>]*canarybox"\/>/g, '')],
])('%s: everything is on the page, and no two boxes meet', (_, svg) => {
  const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg)?.map(Number) ?? [];
  for (const { x, y } of texts(svg)) expect([x > 0 && x < (width ?? 0), y > 0 && y < (height ?? 0)]).toEqual([true, true]);
  const all = boxes(svg);
  expect(all.length).toBeGreaterThan(8);
  all.forEach((a, at) => {
    for (const b of all.slice(at + 1))
      expect(a.right <= b.x || b.right <= a.x || a.bottom <= b.y || b.bottom <= a.y, JSON.stringify([a, b])).toBe(true);
  });
});

test('a canary has a frame with its chain at the hooks where packets are sorted, and nowhere else', () => {
  const picked = { ...onTrial, traffic: { match: ['pick', 'pick6'] }, hooks: ['tcEgress'] } as const;
  for (const [canary, who, hooks] of [
    [onTrial, 'canary · 12.5% of all flows', 2],
    [picked, 'canary · what pick, pick6 picks', 1],
  ] as const) {
    const svg = drawSvg(small, { canary });
    const written = texts(svg).map(({ text }) => text);
    expect([written.filter((text) => text === 'present').length, written.filter((text) => text === who).length]).toEqual([hooks, hooks]);
    const frames = boxes(svg.match(/<rect[^>]*canarybox"\/>/g)?.join('') ?? '');
    const chain = texts(svg).filter(({ text }) => text === 's31');
    expect(frames.length).toBe(hooks);
    expect(chain).toHaveLength(1);
    expect(frames.some(({ x, right, y, bottom }) => chain.every((at) => at.x > x && at.x < right && at.y > y && at.y < bottom))).toBe(true);
  }
});

test('every edge to another stage has an arrow that ends at its box', () => {
  const svg = drawSvg(wide);
  const titleOf = (name: string) => texts(svg).find(({ text }) => text === name);
  for (const name of ['echo', 'pick6', 'encap', 'tooBig']) {
    const { y = 0 } = titleOf(name) ?? {};
    // the middle of a title's row lies 5 above its text
    expect([...svg.matchAll(new RegExp(`L[\\d.]+ ${y - 5}"`, 'g'))].length, name).toBeGreaterThan(0);
  }
});

test('the same description gives the same bytes', () => {
  expect(drawSvg(wide)).toBe(drawSvg(structuredClone(wide)));
});

test('text is escaped, and what XML cannot hold is replaced', () => {
  const odd = chain('xdp', stage('a', { '<script>"&\u0001': 'drop' }));
  const svg = drawSvg({ name: 'x', crossing: [], chains: { xdp: odd } }, { wire: '<eth0>' });
  expect(svg).toContain('&lt;script&gt;&quot;&amp;\ufffd');
  expect(svg).toContain('&lt;eth0&gt;');
  expect(svg).not.toContain('<script>');
});

test('it is one element, and every tag in it is closed', () => {
  const open: string[] = [];
  const svg = drawSvg(wide);
  for (const [, close, name = '', own] of svg.matchAll(/<(\/?)([a-z]+)(?:\s[^<>]*?)?(\/?)>/g)) {
    if (own) continue;
    if (close) expect(open.pop()).toBe(name);
    else open.push(name);
  }
  expect(open).toEqual([]);
  expect(svg.startsWith('<svg ') && svg.endsWith('</svg>\n')).toBe(true);
});
