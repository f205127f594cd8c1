import { describe, expect, it } from 'vitest';
import { judge } from './aims.ts';
import { type Row, withRatios } from './row.ts';
import { geometricMean, slope, summarise } from './statistics.ts';
import { coloured, plain, renderAims, renderSuite } from './table.ts';

const rows = withRatios([
  row('count', 'count', 'tailrace', 20, 57),
  row('count', 'count', 'c-same', 25, 60),
  row('acl', 'acl', 'tailrace', 11, 24),
  row('acl', 'acl', 'c-same', 10, 30),
  row('chain', 'hop', 'tailrace', 1.2, null),
  row('chain', 'hop', 'c-same', 1.2, null),
  row('l4lb', 'hit', 'tailrace', 21, 400),
  row('l4lb', 'hit', 'c-lru', 68, 500),
  row('l4lb', 'new flow', 'tailrace', 400, 400),
  row('l4lb', 'new flow', 'c-lru', 1_200, 500),
]);

describe('rows', () => {
  it('get ratios against the row of Tailrace', () => {
    expect(rows.map(({ ratio }) => ratio)).toEqual([null, 0.8, null, 1.1, null, 1, null, 21 / 68, null, 400 / 1_200]);
  });

  it('get no ratio where there is nothing to divide by', () => {
    expect(withRatios([row('a', 'a', 'tailrace', 1, 1), row('a', 'a', 'c-same', 0, 1)])[1]?.ratio).toBeNull();
  });
});

describe('tables', () => {
  it('show a suite, losses in words', () => {
    const outcome = { rows: rows.slice(0, 4), notes: ['clang is not installed: the C side is left out'] };
    expect(renderSuite({ name: 'mixed', hook: 'xdp', about: 'two programs, ns a packet' }, outcome, plain)).toMatchInlineSnapshot(`
      "mixed at xdp: two programs, ns a packet
                           ns  spread  insns  ours / this
        count  tailrace  20.0    ±0.2     57
               c-same    25.0    ±0.3     60         0.80
        acl    tailrace  11.0    ±0.1     24
               c-same    10.0    ±0.1     30  1.10 slower
        clang is not installed: the C side is left out

      "
    `);
  });

  it('show the aims', () => {
    expect(renderAims(judge(rows), plain)).toMatchInlineSnapshot(`
      "aims: tailrace divided by the other where nothing else is said, so smaller is better
        xdp count count: same algorithm in C        0.80  aim 1.05  met
        xdp acl acl: same algorithm in C            1.10  aim 1.05  missed
        xdp: same algorithm in C, geometric mean    0.94  aim 0.90  missed
        xdp: a hop in a chain, against C            1.00  aim 1.10  met
        xdp l4lb hit, against LRU maps in C         0.31  aim 0.50  met
        xdp l4lb new flow, against LRU maps in C    0.33  aim 0.30  missed
        3 of 6 met

      "
    `);
  });

  it('judge each hook for itself, and no costs', () => {
    const atTc = rows.slice(0, 6).map((row) => ({ ...row, hook: 'tcIngress' as const }));
    const costs = withRatios([row('counters', '1 stage, with', 'tailrace', 9, 9), row('counters', '1 stage, with', 'c-same', 1, 9)]);
    expect(judge([...rows, ...costs, ...atTc]).map(({ aim }) => aim.split(':')[0])).toEqual([
      'xdp count count',
      'xdp acl acl',
      'xdp',
      'xdp',
      'xdp l4lb hit, against LRU maps in C',
      'xdp l4lb new flow, against LRU maps in C',
      'tcIngress count count',
      'tcIngress acl acl',
      'tcIngress',
      'tcIngress',
    ]);
  });

  it('judge sockets against those that they are beside', () => {
    const name = 'round trip of 64 bytes, 1 connection: p50';
    const figures = { tailrace: 10_000, haproxy: 14_000, pipe: 15_000, direct: 5_000 } as const;
    const trial = Object.entries(figures).map(([variant, ns]) => row('splice', name, variant as Row['variant'], ns, null));
    expect(judge(withRatios(trial)).map(({ aim, met }) => [aim, met])).toEqual([
      [`splice: ${name}, against haproxy`, true],
      [`splice: ${name}, against pipe`, false],
    ]);
    expect(
      renderSuite({ name: 'splice', hook: null, about: 'a proxy, ns' }, { rows: withRatios(trial).map(paired), notes: [] }, plain),
    ).toMatchInlineSnapshot(`
        "splice: a proxy, ns
                                                                   ns  spread  insns        ours / this
          round trip of 64 bytes, 1 connection: p50  tailrace  10,000  ±100.0
                                                     haproxy   14,000  ±140.0                0.71 ±0.05
                                                     pipe      15,000  ±150.0                0.67 ±0.05
                                                     direct     5,000   ±50.0         2.00 ±0.05 slower

        "
      `);
  });

  it('judge the slot of a swap by the clock', () => {
    const swaps = [row('change', 'swap of a stage: its slot', 'tailrace', 84_000, null)];
    expect(judge(swaps)).toEqual([{ aim: 'change: the slot that swaps a stage, in µs', value: 84, limit: 100, met: true }]);
  });

  it('colour only where they are asked to', () => {
    expect(renderAims(judge(rows), plain)).not.toContain('\u001b');
    expect(renderAims(judge(rows), coloured)).toContain('\u001b[31m');
  });

  it('show no aims without rows', () => {
    expect(renderAims(judge([]), plain)).toBe('');
  });
});

describe('statistics', () => {
  it('summarise by median and quartiles', () => {
    expect(summarise([5, 1, 4, 2, 100])).toEqual({ median: 4, spread: 1.5 });
    expect(summarise([1, 2])).toEqual({ median: 1.5, spread: 0.25 });
    expect(() => summarise([])).toThrow('no samples');
  });

  it('know means and slopes', () => {
    expect(geometricMean([0.5, 2])).toBeCloseTo(1);
    expect(() => geometricMean([])).toThrow('no values');
    expect(
      slope([
        [1, 3],
        [2, 5],
        [4, 9],
      ]),
    ).toBeCloseTo(2);
    expect(() => slope([[1, 3]])).toThrow('two different x');
  });
});

const paired = (row: Row): Row => (row.ratio === null ? row : { ...row, ratioSpread: 0.05 });

function row(suite: string, name: string, variant: Row['variant'], ns: number, insns: number | null): Row {
  return { suite, hook: 'xdp', name, variant, ns, ratio: null, spread: ns / 100, insns };
}
