/** The C twins do what they are twins of, as far as counters and verdicts show. Needs clang. */
import { type Packet, packet } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { clangMissing } from './clang.ts';
import { openMachine } from './contest.ts';
import { entrants, LENGTHS } from './suites/chain.ts';

const PASS = 2;
const DROP = 1;
const tcp = packet().ipv4().tcp().padTo(64);
const lldp = packet().ethernet({ etherType: 0x88cc }).padTo(64);

describe.skipIf(clangMissing() !== null)('C twins', () => {
  it.each(LENGTHS)('a chain of %i runs to its end and drops LLDP', async (length) => {
    await using instance = await openMachine();
    const twin = await entrants(length)
      .find(({ variant }) => variant === 'c-same')
      ?.load(instance);
    const run = (frame: Packet, repeat = 1) => twin?.entry.testRun({ packet: frame.bytes(), repeat });
    expect(await run(tcp, 100)).toMatchObject({ returnValue: PASS });
    twin?.verify(100);
    expect(() => twin?.verify(200)).toThrow(`packets reached the end of a chain of ${length}, expected all of 200 or more`);
    expect(await run(lldp)).toMatchObject({ returnValue: DROP });
    expect(() => twin?.verify(100)).toThrow('packets reached the end');
  });
});
