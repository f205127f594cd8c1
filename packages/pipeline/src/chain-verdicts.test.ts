import { expect, test } from 'vitest';
import { chainVerdicts } from './chain-verdicts.ts';
import { percent } from './figure.ts';
import { pipeline } from './pipeline.ts';
import { bounce, fork, step } from './sample.ts';

test('verdicts of stages and of edges, and what missed, make up what a chain got', () => {
  const { xdp } = pipeline('edge', {
    xdp: [fork('acl').on({ odd: 'drop' }), fork('more').on({ odd: bounce('back') }), step('last')],
  }).describe().chains;
  const none = { abort: 0n, drop: 0n, pass: 0n, tx: 0n, redirect: 0n };
  const counted = { bytes: 0n, verdicts: none, next: 0n, exits: {}, drops: {}, misses: 0n };
  const stats = {
    acl: { ...counted, packets: 100n, next: 60n, exits: { odd: 40n } },
    more: { ...counted, packets: 60n, next: 30n, exits: { odd: 30n }, misses: 5n },
    back: { ...counted, packets: 30n, verdicts: { ...none, tx: 30n } },
    last: { ...counted, packets: 25n, next: 24n, verdicts: { ...none, drop: 1n } },
  };
  expect([...chainVerdicts(xdp, stats)]).toEqual([
    ['drop', 41n],
    ['pass', 24n],
    ['tx', 30n],
    ['missed', 5n],
  ]);
  expect([...chainVerdicts(xdp, {})]).toEqual([]);
});

test.each([
  [0n, 0n, '0.0%'],
  [0n, 9n, '0.0%'],
  [9n, 9n, '100.0%'],
  [1n, 8n, '12.5%'],
  [1n, 100_000n, '<0.1%'],
  [99_999n, 100_000n, '>99.9%'],
])('%i of %i is %s', (part, whole, text) => {
  expect(percent(part, whole)).toBe(text);
});
