import type { ChainDescription } from '@tailrace/pipeline';
import { expect, test } from 'vitest';
import { drawRows, drawTable } from './stats-table.ts';

const stage = (name: string) => ({ name, stage: name, edges: [], reasons: [], reads: [], writes: [], maps: [] });
const chain = (hook: ChainDescription['hook'], ...names: readonly string[]): ChainDescription => {
  return { hook, first: names[0] ?? '', depth: names.length, stages: names.map(stage) };
};

test('a row for each stage, in the order in which packets meet them', () => {
  const chains = { tcEgress: chain('tcEgress', 'count'), xdp: chain('xdp', 'acl', 'l4lb.vip') };
  const verdicts = { pass: 0n, drop: 4n, redirect: 0n };
  const acl = {
    packets: 1204n,
    bytes: 96_320n,
    verdicts,
    next: 1188n,
    exits: { expired: 12n, odd: 0n },
    drops: { blocked: 3n, old: 0n },
    misses: 1n,
  };
  expect(drawTable({ xdp: { acl } }, { name: 'edge', chains, crossing: [] })).toMatchInlineSnapshot(`
    "hook       stage     packets  bytes  ways
    XDP        acl          1204  96320  drop 4, for blocked 3, next 1188, expired 12, missed 1
    XDP        l4lb.vip        0      0
    TC egress  count           0      0"
  `);
});

test('rows of anything', () => {
  const ways = [
    ['pass', 3n],
    ['drop', 0n],
    ['tx', 1n],
  ] as const;
  expect(drawRows([{ hook: 'socket', stage: 'socket', packets: 4n, bytes: 400n, ways }])).toBe(
    'hook    stage   packets  bytes  ways\nsocket  socket        4    400  pass 3, tx 1',
  );
});
