/** The filter by source prefix: one packet that is let through, and one that is blocked, with few prefixes and with many. */
import type { AttachHook } from '@tailrace/bpf';
import { aclStage, Hits, type Prefix, parsePrefix } from '@tailrace/functions/acl';
import { encode, ipv4Prefix, ipv6Prefix, u32 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { perCpuSum } from '../contents.ts';
import type { Entrant } from '../contest.ts';
import { returnValue } from '../hook.ts';
import type { Suite } from '../row.ts';
import { type NamedMaps, type SingleCase, singleEntrants, singleStage } from '../single.ts';

const MANY = 10_000;

const from4 = packet().ipv4({ saddr: '11.39.200.7', daddr: '10.0.0.2' }).tcp({ dport: 80 }).padTo(64).bytes();
const from6 = packet().ipv6({ saddr: '2001:db8::7', daddr: '2001:db8:1::1' }).tcp({ dport: 80 }).padTo(64).bytes();

function casesAt(hook: AttachHook): readonly SingleCase[] {
  const [pass, drop] = [returnValue(hook, 'pass'), returnValue(hook, 'drop')];
  return [
    { name: 'IPv4 let through, 1 prefix', packet: from4, returnValue: pass, prepare: (maps) => block(maps, ['198.51.100.0/24']) },
    { name: 'IPv4 let through, 10,000', packet: from4, returnValue: pass, prepare: (maps) => block(maps, manyPrefixes(MANY)) },
    {
      name: 'IPv4 blocked, 10,000',
      packet: from4,
      returnValue: drop,
      prepare: (maps) => block(maps, ['11.39.200.0/24', ...manyPrefixes(MANY - 1)]),
      counted: firstHits,
    },
    {
      name: 'IPv6 blocked, 1 prefix',
      packet: from6,
      returnValue: drop,
      prepare: (maps) => block(maps, ['2001:db8::/48']),
      counted: firstHits,
    },
  ];
}

const stageAt = (hook: AttachHook) => (hook === 'xdp' ? aclStage : aclStage.at(hook));

/** The suite. */
export function acl(hook: AttachHook): Suite {
  return singleStage({ name: 'acl', about: 'a source in LPM tries, ns a packet', stage: stageAt(hook), twin: 'acl', cases: casesAt(hook) });
}

/** Both sides, with a prefix of each family blocked. */
export function aclContest(hook: AttachHook): readonly Entrant[] {
  const prepare = (maps: NamedMaps) => block(maps, ['10.1.0.0/16', '2001:db8::/32']);
  return singleEntrants(stageAt(hook), 'acl', { name: 'acl', packet: from4, returnValue: returnValue(hook, 'pass'), prepare });
}

/** Blocks prefixes; each one's hits are counted at its place in the list. */
function block(maps: NamedMaps, texts: readonly string[]): void {
  const places = texts.map((text, index) => ({ prefix: parsePrefix(text), index }));
  for (const family of [4, 6] as const) {
    const own = places.filter(({ prefix }) => prefix.family === family);
    if (own.length === 0) continue;
    const keys = Buffer.concat(own.map(({ prefix }) => keyOf(prefix)));
    maps(`blocked${family}`).updateBatch({ count: own.length, keys, values: Buffer.concat(own.map(({ index }) => encode(u32, index))) });
  }
}

function keyOf(prefix: Prefix): Uint8Array {
  return prefix.family === 4 ? encode(ipv4Prefix, prefix.key) : encode(ipv6Prefix, prefix.key);
}

/** Different /24s from 11.0.0.0 on, neighbours of what is measured. */
function manyPrefixes(count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `11.${(index >> 8) & 255}.${index & 255}.0/24`);
}

/** Packets that the first prefix of the list stopped. */
function firstHits(maps: NamedMaps): bigint {
  return perCpuSum(maps('hits').lookup(new Uint8Array(4)), Hits.layout.size, 0);
}
