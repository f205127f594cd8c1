import { fuse } from '@tailrace/stage';
import { expect, test } from 'vitest';
import type { ChainVerdict } from './chain-hook.ts';
import type { ChainDescription } from './description.ts';
import { drawChain, drawPipeline } from './picture.ts';
import { pipeline } from './pipeline.ts';
import { fork, step } from './sample.ts';
import type { StageStats } from './stats.ts';
import { drawSvg } from './svg.ts';

const chain: ChainDescription = {
  hook: 'xdp',
  first: 'acl',
  depth: 3,
  stages: [
    {
      name: 'acl',
      stage: 'acl',
      reads: [],
      writes: [],
      maps: [],
      reasons: ['blocked', 'short'],
      edges: [
        { kind: 'next', label: 'next', to: 'l4lb.vip', slot: 0 },
        { kind: 'exit', label: 'expired', verdict: 'drop' },
      ],
    },
    {
      name: 'l4lb.vip',
      stage: 'vipV2',
      function: 'l4lb',
      reads: [],
      writes: [],
      maps: [],
      reasons: [],
      edges: [{ kind: 'next', label: 'next', verdict: 'pass' }],
    },
  ],
};
const none = { abort: 0n, drop: 0n, pass: 0n, tx: 0n, redirect: 0n } as const;
const stats: Record<string, StageStats<ChainVerdict>> = {
  acl: {
    packets: 1204n,
    bytes: 96_320n,
    verdicts: { ...none, drop: 4n },
    next: 1188n,
    exits: { expired: 12n },
    drops: { blocked: 3n, short: 0n },
    misses: 0n,
  },
  'l4lb.vip': { packets: 1188n, bytes: 95_040n, verdicts: { ...none, tx: 1180n }, next: 8n, exits: {}, drops: {}, misses: 1n },
};

test('a chain with its counters', () => {
  expect(drawChain(chain, { stats, from: 'eth0' })).toMatchInlineSnapshot(`
    "  eth0
       │
    ╭──────────────────╮
    │ acl              │  1,204 packets · 96.3 kB · drop 4 · for blocked 3
    ╰──┬───────────────╯  expired 12 ─▶ drop
       │ 1,188
    ╭──────────────────╮
    │ l4lb.vip = vipV2 │  1,188 packets · 95.0 kB · tx 1,180 · missed 1
    ╰──────────────────╯  next 8 ─▶ pass"
  `);
});

test('a chain alone', () => {
  expect(drawChain(chain)).toMatchInlineSnapshot(`
    "╭──────────────────╮
    │ acl              │
    ╰──┬───────────────╯  expired ─▶ drop
       │
    ╭──────────────────╮
    │ l4lb.vip = vipV2 │
    ╰──────────────────╯  next ─▶ pass"
  `);
});

test('colours only where asked for', () => {
  expect(drawChain(chain, { stats })).not.toContain('\u001b');
  expect(drawChain(chain, { stats, color: true })).toContain('\u001b[31mdrop 4\u001b[0m');
});

test('a pipeline, from the wire to the stack and back', () => {
  const of = (hook: 'tcIngress' | 'tcEgress', name: string): ChainDescription => ({
    hook,
    first: name,
    depth: 1,
    stages: [
      { name, stage: name, reads: [], writes: [], maps: [], reasons: [], edges: [{ kind: 'next', label: 'next', verdict: 'pass' }] },
    ],
  });
  const chains = { xdp: chain, tcIngress: of('tcIngress', 'policy'), tcEgress: of('tcEgress', 'monitor') };
  expect(drawPipeline({ name: 'edge', chains, crossing: ['tenant'] }, { stats: { xdp: stats }, wire: 'eth0' })).toMatchInlineSnapshot(`
    "   eth0
       │
       ▼ XDP
    ╭──────────────────╮
    │ acl              │  1,204 packets · 96.3 kB · drop 4 · for blocked 3
    ╰──┬───────────────╯  expired 12 ─▶ drop
       │ 1,188
    ╭──────────────────╮
    │ l4lb.vip = vipV2 │  1,188 packets · 95.0 kB · tx 1,180 · missed 1
    ╰──────────────────╯  next 8 ─▶ pass
       │
       ▼ TC ingress  with tenant
    ╭──────────╮
    │ policy   │
    ╰──────────╯  next ─▶ pass
       │
       the network stack
       │
       ▼ TC egress
    ╭──────────╮
    │ monitor  │
    ╰──────────╯  next ─▶ pass
       │
       eth0"
  `);
  expect(drawPipeline({ name: 'out', chains: { tcEgress: chains.tcEgress }, crossing: [] })).toMatchInlineSnapshot(`
    "   the network stack
       │
       ▼ TC egress
    ╭──────────╮
    │ monitor  │
    ╰──────────╯  next ─▶ pass
       │
       the wire"
  `);
});

test('with counters, what no packet took is left out; without, long lines of exits are broken', () => {
  const labels = ['echo', 'fragment', 'icmpError', 'ipv6', 'malformed', 'notVip', 'expired', 'tooBig'];
  const stage = (name: string, edges: ChainDescription['stages'][number]['edges']) => ({
    name,
    stage: name,
    reads: [],
    writes: [],
    maps: [],
    reasons: [],
    edges,
  });
  const wide: ChainDescription = {
    hook: 'xdp',
    first: 'vip',
    depth: 2,
    stages: [
      stage('vip', [
        { kind: 'next', label: 'next', to: 'pick' },
        ...labels.map((label) => ({ kind: 'exit', label, to: `behind.${label}` }) as const),
      ]),
      stage('pick', [{ kind: 'next', label: 'next', verdict: 'pass' }]),
      ...labels.map((label) => stage(`behind.${label}`, [{ kind: 'next', label: 'next', verdict: 'drop' }])),
    ],
  };
  const counted = (packets: bigint, exits: Readonly<Record<string, bigint>> = {}) => ({
    packets,
    bytes: packets * 60n,
    verdicts: none,
    next: packets,
    exits,
    drops: {},
    misses: 0n,
  });
  const counts = { vip: { ...counted(9n, { echo: 2n }), next: 7n }, pick: counted(7n), 'behind.echo': counted(2n) };
  expect(drawChain(wide, { stats: counts })).toMatchInlineSnapshot(`
    "╭─────────────╮
    │ vip         │  9 packets · 540 B
    ╰──┬──────────╯  echo 2 ─▶ behind.echo
       │ 7
    ╭─────────────╮
    │ pick        │  7 packets · 420 B
    ╰─────────────╯  next 7 ─▶ pass
    ╭─────────────╮
    │ behind.echo │  2 packets · 120 B
    ╰─────────────╯  next 2 ─▶ drop
       and 7 stages behind exits that no packet took"
  `);
  expect(drawChain(wide).split('\n').slice(0, 6).join('\n')).toMatchInlineSnapshot(`
      "╭──────────────────╮
      │ vip              │
      ╰──┬───────────────╯  echo ─▶ behind.echo · fragment ─▶ behind.fragment · icmpError ─▶ behind.icmpError
         │                  ipv6 ─▶ behind.ipv6 · malformed ─▶ behind.malformed · notVip ─▶ behind.notVip
         │                  expired ─▶ behind.expired · tooBig ─▶ behind.tooBig
         │"
    `);
});

test('stages of one program have double lines, jumps join them', () => {
  const fused = pipeline('edge', {
    xdp: [step('first'), fuse(fork('odd').on({ odd: step('aside') }), step('then')), fuse(step('a'), step('b'))],
  });
  const { xdp } = fused.describe().chains;
  expect(xdp.stages.map(({ name, program }) => [name, program])).toEqual([
    ['first', undefined],
    ['odd', 'odd'],
    ['then', 'odd'],
    ['a', 'a'],
    ['b', 'a'],
    ['aside', 'odd'],
  ]);
  expect(drawChain(xdp)).toMatchInlineSnapshot(`
    "╭──────────╮
    │ first    │
    ╰──┬───────╯
       │
    ╔══════════╗
    ║ odd      ║
    ╚══╦═══════╝  odd ─▶ aside
       ║
    ╔══════════╗
    ║ then     ║
    ╚══╤═══════╝
       │
    ╔══════════╗
    ║ a        ║
    ╚══╦═══════╝
       ║
    ╔══════════╗
    ║ b        ║
    ╚══════════╝  next ─▶ pass
    ╔══════════╗
    ║ aside    ║
    ╚══════════╝  next ─▶ pass"
  `);
  const frames = drawSvg(fused.describe())
    .split('\n')
    .filter((line) => line.includes('class="fused"'));
  expect(frames).toMatchInlineSnapshot(`
    [
      "<rect x="147.6" y="189" width="146" height="136" rx="10" class="fused"/>",
      "<rect x="147.6" y="347" width="146" height="136" rx="10" class="fused"/>",
      "<rect x="147.6" y="493" width="146" height="70" rx="10" class="fused"/>",
    ]
  `);
});
