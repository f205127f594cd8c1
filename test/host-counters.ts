/** What the network stack of a host has counted (RFC 4022, RFC 4113): how packets are judged that stages have changed. */
import { readFileSync } from 'node:fs';
import { eventually, type Host } from '@tailrace/testing';

/** Counters of a host by protocol and name: `Tcp.InSegs`, `Udp.InCsumErrors`; those of IPv6 are `Udp6InCsumErrors`. */
export function stackCounters(host: Host): ReadonlyMap<string, bigint> {
  const read = (name: string): string[] => host.enter(() => readFileSync(`/proc/thread-self/net/${name}`, 'utf8')).split('\n');
  const counters = new Map<string, bigint>();
  const lines = read('snmp');
  // Lines come in pairs, names above values.
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const [protocol = '', ...names] = lines[at]?.split(' ') ?? [];
    const values = lines[at + 1]?.split(' ').slice(1) ?? [];
    for (const [index, name] of names.entries()) counters.set(`${protocol.slice(0, -1)}.${name}`, BigInt(values[index] ?? 0));
  }
  for (const line of read('snmp6')) {
    const [name = '', value] = line.trim().split(/\s+/);
    if (value !== undefined) counters.set(name, BigInt(value));
  }
  return counters;
}

/** Packets that a host has refused because of their checksum, of any protocol over IPv4 and IPv6. */
export function checksumErrors(host: Host): bigint {
  return sumOf(stackCounters(host), /CsumErrors$/);
}

/** TCP segments that a host has sent, as they are on the wire: a buffer counts as those that it is cut into. */
export function sentSegments(host: Host): bigint {
  // Those that are sent again are counted apart.
  return sumOf(stackCounters(host), /^Tcp\.(OutSegs|RetransSegs)$/);
}

/** Resolves once no TCP segment has come or gone for 40 ms at any of the hosts. Throws TimeoutError. */
export async function quiet(...hosts: readonly Host[]): Promise<void> {
  const seen = () => hosts.map((host) => sumOf(stackCounters(host), /^Tcp\.(In|Out|Retrans)Segs$/));
  await eventually(
    async () => {
      const first = seen();
      await new Promise((resolve) => setTimeout(resolve, 40));
      return seen().every((count, index) => count === first[index]);
    },
    5_000,
    'an end of TCP segments',
  );
}

function sumOf(counters: ReadonlyMap<string, bigint>, name: RegExp): bigint {
  return [...counters].filter(([key]) => name.test(key)).reduce((sum, [, count]) => sum + count, 0n);
}
