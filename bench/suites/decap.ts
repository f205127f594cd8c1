/** The real's side of the balancer's tunnel: the outer header comes off. */
import { decapStage, Tunnel, Tunnel6, Unpacked } from '@tailrace/functions/decap';
import { bool, encode, ip, ipv6 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { perCpuSum } from '../contents.ts';
import type { Entrant } from '../contest.ts';
import type { Suite } from '../row.ts';
import { type NamedMaps, type SingleCase, singleEntrants, singleStage } from '../single.ts';

const PASS = 2;
const OUTER_BYTES = 20;
const FRAME_BYTES = 14;

/** Our end of the tunnel, in either family. */
export const TUNNEL_END = '10.0.1.1';
export const TUNNEL_END6 = 'fd00:1::1';

const tunnelled = packet()
  .ipv4({ saddr: '10.0.0.1', daddr: TUNNEL_END })
  .ipv4({ saddr: '192.0.2.1', daddr: '198.51.100.1' })
  .tcp({ dport: 80 })
  .payload(10)
  .bytes();

const fromTunnel: SingleCase = {
  name: 'IP in IP',
  packet: tunnelled,
  returnValue: PASS,
  prepare: openTunnel,
  restoration: { packet: tunnelled, moved: OUTER_BYTES, rewritten: FRAME_BYTES + OUTER_BYTES, flows: 1 },
  counted: (maps) => perCpuSum(maps('unpacked').lookup(new Uint8Array(4)), Unpacked.layout.size, 0),
};

/** The suite. */
export const decap: Suite = singleStage({
  name: 'decap',
  about: 'IP in IP unpacked, ns a packet',
  stage: decapStage,
  twin: 'decap',
  cases: [fromTunnel],
});

/** Both sides, with nothing that restores packets. */
export function decapContest(): readonly Entrant[] {
  return singleEntrants(decapStage, 'decap', { name: 'decap', packet: tunnelled, returnValue: PASS, prepare: openTunnel });
}

function openTunnel(maps: NamedMaps): void {
  maps('tunnels').update(encode(Tunnel, { address: ip(TUNNEL_END), source: 0 }), encode(bool, true));
  maps('tunnels6').update(encode(Tunnel6, { address: ipv6(TUNNEL_END6), source: { hi: 0n, lo: 0n } }), encode(bool, true));
}
