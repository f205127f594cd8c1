/** Marks are found by prefixes, on an engine as simulated. */
import type { Engine } from '@tailrace/bpf';
import { packet, runEverywhere } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { findStage } from './index.ts';

/** The cases, on an engine. */
export function markSuite(engine: Engine): void {
  test('the longest prefix counts, at every hook and simulated', async () => {
    const frames = ['203.0.113.9', '203.0.113.200', '198.51.100.1'].map((saddr) => packet().ipv4({ saddr }).udp());
    const results = await runEverywhere(findStage, frames, {
      engine,
      prepare(handle) {
        const { marks4 } = findStage.uses;
        handle(marks4).set({ prefixLen: 24, addr: 0xcb00_7100 }, 5);
      },
    });
    expect(results.map(({ meta }) => meta.mark)).toEqual([5, 5, 0]);
  });
}
