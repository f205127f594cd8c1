/** The proxy of examples/tcp-proxy under load; `npx pnpm@12 load` is the same for longer. */
import { expect, test } from 'vitest';
import { loadProxy } from '../examples/tcp-proxy/load-run.ts';

test('no connection fails and no byte is another while backends come and go and policies change', async () => {
  const { failed, corrupted, misrouted, failures, requests, policies, left } = await loadProxy({ seconds: 15, connections: 100 });
  expect({ failed, corrupted, misrouted, failures: failures.slice(0, 5) }).toEqual({ failed: 0, corrupted: 0, misrouted: 0, failures: [] });
  expect(requests).toBeGreaterThan(1_000);
  expect(policies).toBeGreaterThan(4);
  expect(left).toBeGreaterThan(4);
}, 120_000);
