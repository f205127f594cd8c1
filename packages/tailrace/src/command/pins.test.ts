import type { KeptPipeline } from '@tailrace/pipeline';
import { expect, test } from 'vitest';
import { palette } from './output.ts';
import { drawKept } from './pins.ts';

const now = new Date('2026-03-01T12:00:00Z');
const ago = (seconds: number): Date => new Date(now.getTime() - seconds * 1000);
const kept: KeptPipeline = {
  name: 'edge',
  owner: 4711,
  problem: undefined,
  age: { began: ago(2 * 86_400 + 5), changed: ago(5 * 60 + 59), generation: 3 },
  links: [
    { hook: 'xdp', interface: 'eth0' },
    { hook: 'xdp', interface: 'eth1' },
  ],
  hooks: ['xdp', 'tcIngress'],
  maps: [
    { name: 'edge/blocked', type: 'lpmTrie', maxEntries: 10_000, entries: 212, used: true },
    { name: 'edge/old', type: 'array', maxEntries: 64, entries: undefined, used: false },
  ],
};
const draw = (...list: readonly KeptPipeline[]): string => drawKept(list, palette(false), now);

test('each pipeline with its process, age, chains and maps', () => {
  const bare = { owner: undefined, problem: undefined, age: undefined, links: [], hooks: [], maps: [] };
  const strange = { ...bare, name: 'strange', problem: 'they are told of in form 1, expected 2' };
  expect(draw(kept, { ...bare, name: 'other' }, strange)).toMatchInlineSnapshot(`
    "edge: process 4711 has it, generation 3 for 5 min, begun 2 d ago
      xdp on eth0, eth1
      tcIngress on no interface
      edge/blocked lpmTrie, 212 of 10000
      edge/old array of 64, unused

    other: no process has it, half made

    strange: no process has it, they are told of in form 1, expected 2"
  `);
  expect(draw()).toBe('No pipeline is pinned.');
});

test.each([
  [0, '0 s'],
  [59.9, '59 s'],
  [60, '1 min'],
  [3_599, '59 min'],
  [3_600, '1 h'],
  [86_399, '23 h'],
  [86_400, '1 d'],
  [1_000 * 86_400, '1000 d'],
  // the clock was set back
  [-5, '0 s'],
])('%d s are told as %s', (seconds, text) => {
  const age = { began: ago(seconds), changed: ago(seconds), generation: 1 };
  expect(draw({ ...kept, age }).split('\n')[0]).toBe(`edge: process 4711 has it, generation 1 for ${text}, begun ${text} ago`);
});
