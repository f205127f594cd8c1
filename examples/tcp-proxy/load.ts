/**
 * The proxy under load, as root: `npx pnpm@12 load --minutes 5 --connections 300`. Tells what came of it in a table, and fails where a
 * connection failed, an answer was another than was sent, or came from a backend that no policy had for it.
 */
import { parseArgs } from 'node:util';
import { loadProxy } from './load-run.ts';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '1' }, connections: { type: 'string', default: '200' } } });
const [minutes, clients] = [Number(values.minutes), Number(values.connections)];
if (!(minutes > 0) || !Number.isInteger(clients) || clients < 1) {
  console.error('usage: load.ts [--minutes N] [--connections N]');
  process.exit(2);
}
const report = await loadProxy({ seconds: 60 * minutes, connections: clients });
const { seconds, connections, requests, bytes, policies, left, failed, corrupted, misrouted, failures, proxy } = report;
const sorted = report.durations.sort((a, b) => a - b);
const at = (share: number): string => `${(sorted[Math.floor(share * (sorted.length - 1))] ?? 0).toFixed(0)} ms`;
for (const [name, value] of [
  ['seconds', seconds],
  ['connections', connections],
  ['requests', requests],
  ['megabytes', (bytes / 1e6).toFixed(0)],
  ['a connection, p50', at(0.5)],
  ['a connection, p99', at(0.99)],
  ['policies', policies],
  ['backends that left', left],
  ['failed', failed],
  ['corrupted', corrupted],
  ['misrouted', misrouted],
])
  console.log(`${String(name).padEnd(20)}${String(value).padStart(10)}`);
console.log(proxy);
for (const failure of failures.slice(0, 10)) console.error(failure);
if (failed + corrupted + misrouted > 0) process.exitCode = 1;
