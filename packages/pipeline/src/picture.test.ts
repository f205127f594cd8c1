import { expect, test } from 'vitest';
import type { ChainVerdict } from './chain-hook.ts';
import type { ChainDescription } from './description.ts';
import { drawChain, drawPipeline } from './picture.ts';
import type { StageStats } from './stats.ts';

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
      edges: [{ kind: 'next', label: 'next', verdict: 'pass' }],
    },
  ],
};
const none = { abort: 0n, drop: 0n, pass: 0n, tx: 0n, redirect: 0n } as const;
const stats: Record<string, StageStats<ChainVerdict>> = {
  acl: { packets: 1204n, bytes: 96_320n, verdicts: { ...none, drop: 4n }, next: 1188n, exits: { expired: 12n }, misses: 0n },
  'l4lb.vip': { packets: 1188n, bytes: 95_040n, verdicts: { ...none, tx: 1180n }, next: 8n, exits: {}, misses: 1n },
};

test('a chain with its counters', () => {
  expect(drawChain(chain, { stats, from: 'eth0' })).toMatchInlineSnapshot(`
    "  eth0
       │
    ╭──────────────────╮
    │ acl              │  1,204 packets · 96.3 kB · drop 4
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
    stages: [{ name, stage: name, reads: [], writes: [], maps: [], edges: [{ kind: 'next', label: 'next', verdict: 'pass' }] }],
  });
  const chains = { xdp: chain, tcIngress: of('tcIngress', 'policy'), tcEgress: of('tcEgress', 'monitor') };
  expect(drawPipeline({ name: 'edge', chains, crossing: ['tenant'] }, { stats: { xdp: stats }, wire: 'eth0' })).toMatchInlineSnapshot(`
    "   eth0
       │
       ▼ XDP
    ╭──────────────────╮
    │ acl              │  1,204 packets · 96.3 kB · drop 4
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
