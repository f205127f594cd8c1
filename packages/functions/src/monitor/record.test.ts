import { expect, test } from 'vitest';
import { addCounts, flowName, noCounts, recordOf } from './record.ts';

const none = { packets: 0n, bytes: 0n, first: 0n, last: 0n, tcpFlags: 0 };

test('counts of several CPUs and epochs are added up; who saw nothing says nothing of the time', () => {
  const totals = noCounts();
  addCounts(totals, [none, { packets: 2n, bytes: 20n, first: 500n, last: 700n, tcpFlags: 2 }, none]);
  addCounts(totals, [
    { packets: 1n, bytes: 10n, first: 400n, last: 400n, tcpFlags: 16 },
    none,
    { packets: 3n, bytes: 5n, first: 600n, last: 900n, tcpFlags: 1 },
  ]);
  addCounts(totals, [none, none, none]);
  expect(totals).toEqual({ packets: 6n, bytes: 35n, first: 400n, last: 900n, tcpFlags: 19 });
});

test('a record is told in words of its own; the epoch is nothing to it', () => {
  const ends = { saddr: { hi: 0n, lo: 0xffff_0a00_0001n }, daddr: { hi: 0x2001_0db8_0000_0000n, lo: 1n } };
  const key = { ...ends, sport: 3, dport: 1, ifindex: 4, vlan: 5, protocol: 1, fragment: false, direction: 1, epoch: 0 };
  expect(flowName({ ...key, epoch: 1 })).toBe(flowName(key));
  for (const other of [
    { sport: 4 },
    { dport: 4 },
    { ifindex: 5 },
    { vlan: 6 },
    { protocol: 6 },
    { fragment: true },
    { direction: 0 },
    { saddr: ends.daddr },
  ])
    expect(flowName({ ...key, ...other })).not.toBe(flowName(key));
  expect(recordOf(key, { ...none, packets: 1n }, Number)).toMatchObject({
    direction: 'out',
    source: '10.0.0.1',
    destination: '2001:db8::1',
    icmp: { type: 3, code: 1 },
    sourcePort: 0,
    destinationPort: 0,
  });
});
