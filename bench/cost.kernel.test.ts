/** Costs as they are measured: pairs in the same rounds, and a packet that is taken back whatever was put in front of it. */
import { describe, expect, it } from 'vitest';
import { clangMissing } from './clang.ts';
import { openMachine } from './contest.ts';
import { measureCost } from './cost.ts';
import { HOOKS, returnValue } from './hook.ts';
import { CROSSING_BYTES, type LightChain, lightChain, lightFrame } from './light-chain.ts';
import { takingBack } from './take-back.ts';

const variants = clangMissing() === null ? ['tailrace', 'c-same'] : ['tailrace'];
const little = { repeats: 500, rounds: 2, seconds: 0, settleMs: 0 };

describe('a cost', () => {
  it.each(HOOKS)('is the difference of two rows at %s', async (hook) => {
    const chain: LightChain = { hook, length: 2, end: 'drop' };
    const sides = { without: lightChain({ ...chain, counted: false }), with: lightChain(chain) };
    const contest = { suite: 'test', hook, name: 'two', packet: lightFrame, returnValue: returnValue(hook, 'drop') };
    const rows = await measureCost({ ...contest, ...sides }, little);
    expect(rows.map(({ name, variant }) => [name, variant])).toEqual(
      ['two, without', 'two, with', 'two, cost'].flatMap((name) => variants.map((variant) => [name, variant])),
    );
    for (const variant of variants) {
      const [without, having, cost] = rows.filter((row) => row.variant === variant).map(({ insns }) => insns ?? Number.NaN);
      expect(cost).toBeGreaterThan(0);
      expect(having).toBe((without ?? 0) + (cost ?? 0));
    }
    for (const { name, ratio, hook: at } of rows) {
      expect(at).toBe(hook);
      if (name === 'two, cost') expect(ratio).toBeNull();
    }
  });
});

describe('metadata in front of packets', () => {
  const crossing: LightChain = { hook: 'xdp', length: 4, metadata: true, crossing: true };
  const far = 300;

  it.each(variants.map((variant, index) => [variant, index] as const))(
    'are taken back, so that every packet of %s has some',
    async (_, index) => {
      await using instance = await openMachine();
      const [plain, behind] = [lightChain(crossing)[index], lightChain(crossing).map((one) => takingBack(one, CROSSING_BYTES))[index]];
      const one = await (await plain?.load(instance))?.entry.testRun({ packet: lightFrame });
      const loaded = await behind?.load(instance);
      const many = await loaded?.entry.testRun({ packet: lightFrame, repeat: far });
      expect(many).toMatchObject({ returnValue: returnValue('xdp', 'pass'), packet: lightFrame });
      expect(many?.xdp?.metadata).toEqual(one?.xdp?.metadata);
      expect(many?.xdp?.metadata.length).toBe(CROSSING_BYTES);
      loaded?.verify(far);
    },
  );

  it('are missed where there are none, and noticed where there should be none', async () => {
    await using instance = await openMachine();
    const [without] = lightChain({ ...crossing, crossing: false }).map((one) => takingBack(one, CROSSING_BYTES));
    const [having] = lightChain(crossing).map((one) => takingBack(one, 0));
    for (const entrant of [without, having]) {
      const loaded = await entrant?.load(instance);
      await loaded?.entry.testRun({ packet: lightFrame, repeat: far });
      expect(() => loaded?.verify(far)).toThrow(/bytes in front of 300 packets were taken back, expected/);
    }
  });
});
