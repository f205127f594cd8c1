import { expect, test } from 'vitest';
import { stressUpdates } from './update-stress.ts';

const UPDATES = 500;

test('while a pipeline becomes another one again and again, no datagram is lost, missed or meets two', async () => {
  const { packets, met, ...counts } = await stressUpdates(UPDATES);
  expect(counts).toEqual({ updates: UPDATES, lost: 0, missed: 0, mixed: 0 });
  expect(packets).toBeGreaterThan(10 * UPDATES);
  expect(met.every((datagrams) => datagrams > 0)).toBe(true);
}, 600_000);
