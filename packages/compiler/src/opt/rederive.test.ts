import { expect, test } from 'vitest';
import { eliminateDeadCode } from './dce.ts';
import { fold } from './fold.ts';
import { rederiveDistances } from './rederive.ts';
import { runPasses } from './run-pass.ts';
import { simplifyCfg } from './simplify-cfg.ts';
import { threadJumps } from './thread.ts';

test('a distance is computed behind the comparison that bounds it', () => {
  const text = `
    b0:
      %2 = mapValue @counters+0
      %3 = load32 context ctx+12
      %4 = lsh %3, 3
      store64 map %2+0, %4
      if %3 lt 4 then b5 else b6
    b5: <- b0
      %7 = add %2, %4 : map
      %8 = load64 map %7+0
      return %8
    b6: <- b0
      return 0`;
  expect(runPasses(text, rederiveDistances, eliminateDeadCode)).toMatchInlineSnapshot(`
    "b0:
      %2 = mapValue @counters+0
      %3 = load32 context ctx+12
      %4 = lsh %3, 3
      store64 map %2+0, %4
      if %3 lt 4 then b5 else b6
    b6: <- b0
      return 0
    b5: <- b0
      %16 = lsh %3, 3
      %7 = add %2, %16 : map
      %8 = load64 map %7+0
      return %8"
  `);
});

test.each(['mod %3, 10', 'div %3, 500000000'])('the guard of an index stays where the verifier cannot know better: %s', (index) => {
  const text = `
    b0:
      %2 = mapValue @counters+0
      %3 = load32 context ctx+12
      %4 = ${index}
      if %4 lt 10 then b5 else b6
    b5: <- b0
      %7 = add %2, %4 : map
      %8 = load8 map %7+0
      return %8
    b6: <- b0
      return 0`;
  expect(runPasses(text, fold, (graph) => threadJumps(graph), simplifyCfg)).toContain('lt 10');
});

test('a mask of what the verifier does not follow stays', () => {
  const text = `
    b0:
      %2 = load32 context ctx+12
      %3 = div32 %2, 500000000
      %4 = and %3, 15
      return %4`;
  expect(runPasses(text, fold)).toContain('and32');
});
