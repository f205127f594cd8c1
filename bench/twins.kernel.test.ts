/** The C twins do what they are twins of, as far as counters and verdicts show. Needs clang. */
import { type Packet, packet } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { clangMissing } from './clang.ts';
import { openMachine } from './contest.ts';
import { HOOKS, returnValue } from './hook.ts';
import { lightChain } from './light-chain.ts';
import { LENGTHS } from './suites/chain.ts';

const tcp = packet().ipv4().tcp().padTo(64);
const lldp = packet().ethernet({ etherType: 0x88cc }).padTo(64);

describe.skipIf(clangMissing() !== null).each(HOOKS)('C twins at %s', (hook) => {
  it.each(LENGTHS.flatMap((length) => (['c-same', 'c-variable', 'c-calls'] as const).map((variant) => [length, variant] as const)))(
    'a chain of %i, %s, runs to its end and drops LLDP',
    async (length, wanted) => {
      await using instance = await openMachine();
      const twin = await lightChain({ hook, length, otherWays: true })
        .find(({ variant }) => variant === wanted)
        ?.load(instance);
      const run = (frame: Packet, repeat = 1) => twin?.entry.testRun({ packet: frame.bytes(), repeat });
      expect(await run(tcp, 100)).toMatchObject({ returnValue: returnValue(hook, 'pass') });
      twin?.verify(100);
      expect(() => twin?.verify(200)).toThrow(`packets reached the end of a chain of ${length}, expected all of 200 or more`);
      expect(await run(lldp)).toMatchObject({ returnValue: returnValue(hook, 'drop') });
      expect(() => twin?.verify(100)).toThrow('packets reached the end');
    },
  );

  it('a chain without counters ends where it is told to', async () => {
    await using instance = await openMachine();
    const twin = await lightChain({ hook, length: 3, counted: false, end: 'drop' })
      .find(({ variant }) => variant === 'c-same')
      ?.load(instance);
    expect(await twin?.entry.testRun({ packet: tcp.bytes() })).toMatchObject({ returnValue: returnValue(hook, 'drop') });
  });
});
